"""LangChain models, embeddings and agents over the cache."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, PrivateAttr

from agentcache_adapters.langchain import AgentCacheByteStore, AgentCacheLLM, AgentCacheMiddleware, keyed_request
from agentcache_core import Cache, Semantic


class Weather(BaseModel):
    city: str
    degrees: int


class Oracle(BaseChatModel):
    """A chat model that numbers its answers and calls the tool it is given once, with a new id each time."""

    temperature: float = 0.0
    finish: str = "stop"
    _calls: int = PrivateAttr(default=0)
    _tools: list[Any] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "oracle"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    @property
    def calls(self) -> int:
        return self._calls

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        self._tools = [getattr(item, "name", None) or item["function"]["name"] for item in tools]
        return self.bind(tools_bound=self._tools, **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self._calls += 1
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": {"cache_read": 4}}
        about = {"finish_reason": self.finish, "model_name": "gpt-4o", "model_provider": "openai"}
        calls = []
        if self._tools and isinstance(messages[-1], HumanMessage):
            arguments = {"city": "Bern", "degrees": 7} if self._tools[-1] == "Weather" else {"city": "Bern"}
            calls = [{"name": self._tools[-1], "args": arguments, "id": f"call_{self._calls}"}]
        message = AIMessage(f"answer {self._calls}", tool_calls=calls, response_metadata=about, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


def test_a_repeated_chat_call_is_answered_from_the_cache_with_everything_it_held(cache: Cache) -> None:
    model = Oracle(cache=AgentCacheLLM(cache)).bind_tools([{"function": {"name": "search"}}])
    first, second = model.invoke("hi"), model.invoke("hi")
    assert model.bound.calls == 1
    assert second.content == first.content
    assert second.tool_calls == first.tool_calls
    assert second.response_metadata["model_name"] == "gpt-4o"
    assert cache.stats().saved.output_tokens == 5
    assert cache.stats().saved.cached_input_tokens == 4


async def test_async_calls_share_the_same_answers(cache: Cache) -> None:
    model = Oracle(cache=AgentCacheLLM(cache))
    assert (await model.ainvoke("hi")).content == model.invoke("hi").content == (await model.ainvoke("hi")).content
    assert model.calls == 1


def test_settings_stops_and_messages_are_all_in_the_key(cache: Cache) -> None:
    answers = AgentCacheLLM(cache)
    model, warm = Oracle(cache=answers), Oracle(cache=answers, temperature=0.9)
    said = {
        str(model.invoke("hi").content),
        str(model.invoke("hi", stop=["x"]).content),
        str(model.invoke([SystemMessage("be brief"), HumanMessage("hi")]).content),
        str(model.invoke("Hi").content),
    }
    assert len(said) == 4
    warm.invoke("hi")
    assert (model.calls, warm.calls) == (4, 1)


def test_a_conversation_replayed_with_other_ids_hits(cache: Cache) -> None:
    def conversation(call_id: str, message_id: str | None) -> str:
        call = {"name": "f", "args": {"a": 1}, "id": call_id, "type": "tool_call"}
        messages = [
            HumanMessage("go", id=message_id),
            AIMessage("", tool_calls=[call], id=message_id, response_metadata={"id": call_id}),
            ToolMessage("42", tool_call_id=call_id),
        ]
        return dumps(messages)

    one, two = conversation("call_a", "m1"), conversation("call_b", None)
    assert cache.key(keyed_request(one, "m")) == cache.key(keyed_request(two, "m"))
    assert cache.key(keyed_request(one, "m")) != cache.key(keyed_request(one, "other"))


def test_only_the_conversation_is_a_message_never_the_json_of_it() -> None:
    prompt = dumps([SystemMessage("s"), HumanMessage("first"), AIMessage("x"), HumanMessage("last")])
    messages = keyed_request(prompt, "m")["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[-1]["content"] == "last"
    assert keyed_request("[not json", "m")["messages"][0]["content"] == "[not json"
    assert keyed_request('["a"]', "m")["messages"][0]["content"] == '["a"]'


def test_completion_models_are_cached_too(cache: Cache) -> None:
    model = FakeListLLM(responses=["one", "two", "three"], cache=AgentCacheLLM(cache))
    assert [model.invoke("hi"), model.invoke("hi"), model.invoke("ho")] == ["one", "one", "two"]


@pytest.mark.parametrize("finish", ["length", "max_tokens", "content_filter", "refusal"])
def test_answers_that_did_not_end_well_are_not_stored(cache: Cache, finish: str) -> None:
    model = Oracle(cache=AgentCacheLLM(cache), finish=finish)
    assert model.invoke("hi").content != model.invoke("hi").content


def test_lookups_return_fresh_lists(cache: Cache) -> None:
    answers = AgentCacheLLM(cache)
    answers.update("p", "m", [Generation(text="a"), Generation(text="b", generation_info={"n": 1})])
    first = answers.lookup("p", "m")
    assert isinstance(first, list)
    first[0].text = "changed"
    assert answers.lookup("p", "m") == [Generation(text="a"), Generation(text="b", generation_info={"n": 1})]


def test_clear_drops_this_adapters_answers_and_nothing_else(cache: Cache) -> None:
    answers = AgentCacheLLM(cache)
    answers.update("p", "m", [Generation(text="a")])
    cache.set("mine", 1)
    answers.clear()
    assert answers.lookup("p", "m") is None
    assert cache.get("mine") == 1


async def test_trouble_with_the_cache_is_a_miss(cache: Cache) -> None:
    answers = AgentCacheLLM(cache)
    cache.close()
    answers.update("p", "m", [Generation(text="a")])
    await answers.aupdate("p", "m", [Generation(text="a")])
    assert answers.lookup("p", "m") is None
    assert await answers.alookup("p", "m") is None
    assert Oracle(cache=answers).invoke("hi").content == "answer 1"


class Counting(Embeddings):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.texts += texts
        return [[float(len(text)), 0.5] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_embeddings_are_computed_once(cache: Cache) -> None:
    inner = Counting()
    embedder = CacheBackedEmbeddings.from_bytes_store(
        inner, AgentCacheByteStore(cache), namespace="model-1", key_encoder="sha256", query_embedding_cache=True
    )
    assert embedder.embed_documents(["a", "bb", "a"]) == embedder.embed_documents(["a", "bb", "a"])
    assert embedder.embed_query("q") == embedder.embed_query("q")
    assert sorted(set(inner.texts)) == sorted(inner.texts) == ["a", "bb", "q"] or inner.texts.count("q") == 1


# Agents


def agent(cache: Cache, model: Oracle, functions: list[Any], **options: Any) -> Any:
    return create_agent(model, functions, middleware=[AgentCacheMiddleware(cache, **options)], system_prompt="be brief")


def run(graph: Any, text: str = "weather in Bern?") -> list[str]:
    return [str(message.content) for message in graph.invoke({"messages": [HumanMessage(text)]})["messages"]]


def test_a_repeated_run_of_an_agent_asks_neither_model_nor_declared_tools(cache: Cache) -> None:
    asked: list[str] = []

    @tool
    def weather(city: str) -> str:
        """The weather."""
        asked.append(city)
        return f"{len(asked)} degrees"

    tools = cache.tools()
    tools = cache.tools(effects={"tools": {"weather": {"effect": "read", "ttl": "10m"}}})
    model = Oracle()
    graph = agent(cache, model, [weather], tools=tools)
    first = run(graph)
    assert first == ["weather in Bern?", "answer 1", "1 degrees", "answer 2"]
    assert run(graph) == first
    assert (model.calls, asked) == (2, ["Bern"])
    assert run(graph, "and now?") != first
    assert asked == ["Bern"]


def test_undeclared_tools_always_run(cache: Cache) -> None:
    asked: list[str] = []

    @tool
    def weather(city: str) -> str:
        """The weather."""
        asked.append(city)
        return "sunny"

    for options in ({}, {"tools": cache.tools()}):
        graph = agent(cache, Oracle(), [weather], **options)
        run(graph)
        run(graph)
    assert asked == ["Bern"] * 4


def test_a_failing_tool_is_asked_again(cache: Cache) -> None:
    asked: list[str] = []

    @tool
    def weather(city: str) -> str:
        """The weather."""
        asked.append(city)
        raise ToolException("no sensor")

    weather.handle_tool_error = True
    tools = cache.tools(effects={"tools": {"weather": {"effect": "pure"}}})
    graph = agent(cache, Oracle(), [weather], tools=tools)
    for _ in range(2):
        assert "no sensor" in run(graph)[2]
    assert asked == ["Bern"] * 2


def test_an_answer_may_be_given_twice_in_one_conversation(cache: Cache) -> None:
    graph = agent(cache, Oracle(), [])
    first = graph.invoke({"messages": [HumanMessage("hi")]})["messages"]
    again = graph.invoke({"messages": [HumanMessage("hi")]})["messages"]
    assert first[-1].content == again[-1].content
    assert len({message.id for message in [*first, *again]}) == 4


def test_structured_answers_come_back_as_the_callers_type(cache: Cache) -> None:
    model = Oracle()
    graph = create_agent(model, [], middleware=[AgentCacheMiddleware(cache)], response_format=ToolStrategy(Weather))
    got = [graph.invoke({"messages": [HumanMessage("hi")]})["structured_response"] for _ in range(2)]
    assert got == [Weather(city="Bern", degrees=7)] * 2
    assert model.calls == 1


async def test_concurrent_runs_share_one_model_call(cache: Cache) -> None:
    model = Oracle()
    graph = agent(cache, model, [])
    said = await asyncio.gather(*(graph.ainvoke({"messages": [HumanMessage("hi")]}) for _ in range(8)))
    assert {str(state["messages"][-1].content) for state in said} == {"answer 1"}
    assert model.calls == 1


def test_every_part_of_a_model_call_is_in_its_key(cache: Cache) -> None:
    @tool
    def one(city: str) -> str:
        """One."""
        return city

    calls = 0
    for options in (
        {"model": Oracle()},
        {"model": Oracle(temperature=0.5)},
        {"model": Oracle(), "system_prompt": "be long"},
        {"model": Oracle(), "tools": [one]},
    ):
        graph = create_agent(**{"tools": [], **options}, middleware=[AgentCacheMiddleware(cache)])
        graph.invoke({"messages": [HumanMessage("hi")]})
        calls += options["model"].calls
    assert calls == 5


def test_an_agent_survives_a_closed_cache(cache: Cache) -> None:
    graph = agent(cache, Oracle(), [])
    cache.close()
    assert run(graph) == ["weather in Bern?", "answer 1"]


def test_only_the_last_human_text_is_compared_by_meaning() -> None:
    embedded: list[str] = []

    def embed(texts: list[str]) -> list[list[float]]:
        embedded.extend(texts)
        return [[1.0, 0.0] if "return" in text else [0.0, 1.0] for text in texts]

    with Cache(semantic=Semantic(threshold=0.95, embedder=embed), background=False) as cache:
        model = Oracle(cache=AgentCacheLLM(cache))

        def ask(text: str, system: str = "be brief") -> str:
            return str(model.invoke([SystemMessage(system), HumanMessage(text)]).content)

        first = ask("How do I return a parcel?")
        assert ask("How can I return a parcel?") == first
        assert ask("How can I return a parcel?", system="be long") != first
        assert ask("How can I post a parcel?") != first
    assert "How can I return a parcel?" in embedded
    assert not [text for text in embedded if "be brief" in text or "lc" in text.split()]

"""LlamaIndex over the cache: stores, embeddings, models, tools and retrieval."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document
from llama_index.core.tools import FunctionTool
from pydantic import PrivateAttr

from agentcache_adapters.llama_index import AgentCacheKVStore, CachedLLM, CachedQueryEngine, embeddings_store
from agentcache_core import Cache


class Embedder(BaseEmbedding):
    """Counts letters; `scale` makes it another model."""

    scale: float = 1.0
    _texts: list[str] = PrivateAttr(default_factory=list)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        self._texts.append(text)
        return [self.scale * (1 + text.lower().count(letter)) for letter in "aeiourst"]


class Oracle(FunctionCallingLLM):
    """A model that numbers its answers and speaks every part of the interface."""

    temperature: float = 0.0
    api_key: str = "topsecret"
    finish: str = "stop"
    _calls: list[str] = PrivateAttr(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="gpt-4o", is_chat_model=True, is_function_calling_model=True)

    def _raw(self) -> dict[str, Any]:
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return {"model": "gpt-4o", "choices": [{"finish_reason": self.finish}], "usage": usage}

    def _answer(self, what: str) -> str:
        self._calls.append(what)
        return f"answer {len(self._calls)}"

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        blocks: list[Any] = [TextBlock(text=self._answer("chat"))]
        if kwargs.get("tools") and messages[-1].role == MessageRole.USER:
            call = ToolCallBlock(tool_call_id=f"call_{len(self._calls)}", tool_name="add", tool_kwargs={"a": 1, "b": 2})
            blocks = [call]
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), raw=self._raw())

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self._answer("complete"), raw=self._raw())

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        said = ""
        for piece in self._answer("stream_chat").split(" "):
            said += piece
            message = ChatMessage(role="assistant", content=said)
            yield ChatResponse(message=message, delta=piece, raw=self._raw())

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        said = ""
        for piece in self._answer("stream_complete").split(" "):
            said += piece
            yield CompletionResponse(text=said, delta=piece, raw=self._raw())

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        await asyncio.sleep(0)
        return self.chat(messages, **kwargs)

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return self.complete(prompt, formatted, **kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        async def run() -> AsyncIterator[ChatResponse]:
            for chunk in self.stream_chat(messages, **kwargs):
                yield chunk

        return run()

    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        async def run() -> AsyncIterator[CompletionResponse]:
            for chunk in self.stream_complete(prompt, formatted, **kwargs):
                yield chunk

        return run()

    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any
    ) -> Any:
        messages = [*(chat_history or []), *([ChatMessage(role="user", content=user_msg)] if user_msg else [])]
        return {"messages": messages, "tools": [tool.metadata.to_openai_tool() for tool in tools]}

    def get_tool_calls_from_response(self, response: ChatResponse, error_on_no_tool_call: bool = True, **_: Any) -> Any:
        return [
            ToolSelection(
                tool_id=str(block.tool_call_id), tool_name=block.tool_name, tool_kwargs=dict(block.tool_kwargs)
            )  # type: ignore[call-overload]
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]


ASK = [ChatMessage(role="user", content="hi")]


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


@pytest.fixture
def stored(tiers: str | list[str]) -> Iterator[Cache]:
    with Cache(tiers) as fresh:
        yield fresh


# Stores


async def test_the_store_keeps_its_contract_on_every_kind_of_storage(stored: Cache) -> None:
    store, other = AgentCacheKVStore(stored), AgentCacheKVStore(stored, namespace="other")
    store.put("a", {"x": [1.5, None]})
    await store.aput("b", {"y": "é"}, collection="second")
    store.put_all([("c", {"n": 1}), ("d", {"n": 2})], batch_size=1)
    await store.aput_all([("e", {})])
    assert store.get("a") == await store.aget("a") == {"x": [1.5, None]}
    assert store.get("b") is None
    assert store.get("b", collection="second") == {"y": "é"}
    assert store.get_all() == await store.aget_all() == {"a": {"x": [1.5, None]}, "c": {"n": 1}, "d": {"n": 2}, "e": {}}
    assert (store.delete("a"), store.delete("a"), await store.adelete("c")) == (True, False, True)
    assert set(store.get_all()) == {"d", "e"}
    assert other.get_all() == {}


def test_trouble_with_the_cache_is_a_miss() -> None:
    cache = Cache()
    store = AgentCacheKVStore(cache)
    cache.close()
    store.put("a", {})
    assert store.get("a") is None


def test_ingestion_is_done_once_and_can_be_cleared(cache: Cache) -> None:
    embedder = Embedder()
    documents = [Document(text="The tariff rises. It rises again.", doc_id="1")]

    def ingest() -> list[Any]:
        ingestion = IngestionCache(cache=AgentCacheKVStore(cache), collection="news")
        return list(
            IngestionPipeline(transformations=[SentenceSplitter(), embedder], cache=ingestion).run(documents=documents)
        )

    first = ingest()
    assert [node.embedding for node in ingest()] == [node.embedding for node in first]
    assert len(embedder._texts) == len(first)
    IngestionCache(cache=AgentCacheKVStore(cache), collection="news").clear()
    ingest()
    assert len(embedder._texts) == 2 * len(first)


def test_embeddings_are_kept_apart_by_model(cache: Cache) -> None:
    small, large = Embedder(model_name="m"), Embedder(model_name="m", scale=2.0)
    for model in (small, large):
        model.embeddings_cache = embeddings_store(cache, model)
    assert small.get_text_embedding("data") == small.get_text_embedding("data")
    assert large.get_text_embedding("data") == [2 * number for number in small.get_text_embedding("data")]
    assert small._texts == large._texts == ["data"]
    again = Embedder(model_name="m", embed_batch_size=3)
    again.embeddings_cache = embeddings_store(cache, again)
    assert again.get_text_embedding("data") == small.get_text_embedding("data")
    assert again._texts == []


# Models


def test_whole_answers_come_from_the_cache(cache: Cache) -> None:
    inner = Oracle()
    llm = CachedLLM.over(inner, cache)
    first, second = llm.chat(ASK), llm.chat(ASK)
    assert second.message == first.message
    assert second.raw == first.raw
    assert llm.complete("hi").text == llm.complete("hi").text == "answer 2"
    assert inner._calls == ["chat", "complete"]
    assert cache.stats().saved.output_tokens == 10
    assert llm.metadata == inner.metadata


async def test_async_calls_share_answers_and_are_made_once(cache: Cache) -> None:
    inner = Oracle()
    llm = CachedLLM.over(inner, cache)
    answers = await asyncio.gather(*(llm.achat(ASK) for _ in range(6)))
    assert {str(answer.message.content) for answer in answers} == {"answer 1"}
    assert llm.chat(ASK).message.content == "answer 1"
    assert (await llm.acomplete("x")).text == llm.complete("x").text
    assert inner._calls == ["chat", "complete"]


async def test_streams_are_replayed_chunk_for_chunk(cache: Cache) -> None:
    inner = Oracle()
    llm = CachedLLM.over(inner, cache)

    def shown(chunks: Sequence[ChatResponse | CompletionResponse]) -> list[Any]:
        return [(str(chunk).removeprefix("assistant: "), chunk.delta) for chunk in chunks]

    assert (
        shown(list(llm.stream_chat(ASK)))
        == shown(list(llm.stream_chat(ASK)))
        == [("answer", "answer"), ("answer1", "1")]
    )
    assert shown([chunk async for chunk in await llm.astream_chat(ASK)]) == [("answer", "answer"), ("answer1", "1")]
    assert shown(list(llm.stream_complete("x"))) == shown(list(llm.stream_complete("x")))
    assert shown([chunk async for chunk in await llm.astream_complete("y")]) == [("answer", "answer"), ("answer3", "3")]
    assert shown([chunk async for chunk in await llm.astream_complete("y")]) == [("answer", "answer"), ("answer3", "3")]
    assert inner._calls == ["stream_chat", "stream_complete", "stream_complete"]


def test_a_stream_left_early_stores_nothing(cache: Cache) -> None:
    inner = Oracle()
    llm = CachedLLM.over(inner, cache)
    stream = llm.stream_chat(ASK)
    next(stream)
    stream.close()
    assert len(list(llm.stream_chat(ASK))) == 2
    assert len(inner._calls) == 2


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_answers_that_did_not_end_well_are_not_stored(cache: Cache, finish: str) -> None:
    inner = Oracle(finish=finish)
    llm = CachedLLM.over(inner, cache)
    for _ in range(2):
        llm.chat(ASK)
        llm.complete("x")
        list(llm.stream_chat(ASK))
    assert len(inner._calls) == 6


def test_everything_that_matters_is_in_the_key_and_secrets_are_not(cache: Cache) -> None:
    calls = 0
    for inner, messages, options in (
        (Oracle(), ASK, {}),
        (Oracle(temperature=0.5), ASK, {}),
        (Oracle(api_key="other"), ASK, {}),
        (Oracle(), [ChatMessage(role="system", content="be brief"), *ASK], {}),
        (Oracle(), ASK, {"stop": ["x"]}),
        (Oracle(), [ChatMessage(role="user", content="Hi")], {}),
    ):
        CachedLLM.over(inner, cache).chat(messages, **options)
        calls += len(inner._calls)
        assert "topsecret" not in repr(CachedLLM.over(inner, cache)._chat_key(messages, options))
    assert calls == 6


def test_tools_are_called_from_cached_answers_whatever_the_ids(cache: Cache) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    inner = Oracle()
    llm = CachedLLM.over(inner, cache)
    tool = FunctionTool.from_defaults(add)

    def run() -> str:
        response = llm.chat_with_tools([tool], user_msg="1 + 2?")
        call = llm.get_tool_calls_from_response(response)[0]
        result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": call.tool_id})
        history = [ChatMessage(role="user", content="1 + 2?"), response.message, result]
        return str(llm.chat_with_tools([tool], chat_history=history).message.content)

    assert run() == run() == "answer 2"
    assert llm.predict_and_call([tool], "1 + 2?").response == "3"
    assert inner._calls == ["chat", "chat"]


def test_a_closed_cache_stops_nobody(cache: Cache) -> None:
    llm = CachedLLM.over(Oracle(), cache)
    cache.close()
    assert llm.chat(ASK).message.content == "answer 1"
    assert len(list(llm.stream_chat(ASK))) == 2


# Retrieval


def index_of(texts: dict[str, str]) -> VectorStoreIndex:
    documents = [Document(text=text, doc_id=doc_id) for doc_id, text in texts.items()]
    return VectorStoreIndex.from_documents(documents, embed_model=Embedder(), transformations=[SentenceSplitter()])


def test_a_rag_answer_falls_when_its_document_changes(cache: Cache) -> None:
    inner = Oracle()
    index = index_of({"tariff": "The tariff is five percent.", "office": "We open at nine."})

    def ask(question: str) -> str:
        engine = index.as_query_engine(llm=inner, similarity_top_k=2)
        return str(CachedQueryEngine(engine, cache).query(question))

    first = ask("What is the tariff?")
    assert ask("What is the tariff?") == first
    assert len(inner._calls) == 1
    index.update_ref_doc(Document(text="The tariff is seven percent.", doc_id="tariff"))
    second = ask("What is the tariff?")
    assert second != first
    assert ask("What is the tariff?") == second
    cache.invalidate(tag="doc:office")
    assert ask("What is the tariff?") not in (first, second)
    assert len(inner._calls) == 3


async def test_rag_answers_keep_their_sources_and_work_async(cache: Cache) -> None:
    inner = Oracle()
    index = index_of({"tariff": "The tariff is five percent."})
    engine = CachedQueryEngine(index.as_query_engine(llm=inner), cache)
    first, second = engine.query("What?"), await engine.aquery("What?")
    assert str(first) == str(second)
    assert [n.node.ref_doc_id for n in second.source_nodes] == ["tariff"]
    assert second.metadata == first.metadata
    other = CachedQueryEngine(index.as_query_engine(llm=Oracle(temperature=0.9)), cache)
    assert str(other.query("What?")) == "answer 1"
    versioned = CachedQueryEngine(index.as_query_engine(llm=inner), cache, version="2")
    versioned.query("What?")
    assert len(inner._calls) == 2

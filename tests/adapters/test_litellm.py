"""LiteLLM over the cache, with its own providers speaking to a local server."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import litellm
import pytest
from upstream import Upstream
from wire_answers import Answer

from agentcache_adapters.litellm import AgentCacheBackend, AgentCacheLiteLLM
from agentcache_core import Cache

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")

ASK: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


@pytest.fixture(autouse=True)
async def installed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "cache", AgentCacheLiteLLM(cache))
    yield
    # LiteLLM keeps its clients for an hour and closes none of them.
    clients = list(litellm.in_memory_llm_clients_cache.cache_dict.values())
    litellm.in_memory_llm_clients_cache.flush_cache()
    for client in clients:
        closed = getattr(client, "close", lambda: None)()
        if inspect.isawaitable(closed):
            await closed


def ask(upstream: Upstream, **options: Any) -> Any:
    base = {
        "model": "openai/gpt-4o",
        "messages": ASK,
        "api_base": upstream.url + "/v1",
        "api_key": "k",
        "caching": True,
    }
    return litellm.completion(**base | options)


def test_a_repeated_call_is_answered_without_upstream(cache: Cache, upstream: Upstream) -> None:
    first, second = ask(upstream), ask(upstream)
    assert first.choices[0].message.content == second.choices[0].message.content == "answer 1 to hi"
    assert upstream.count == 1
    assert cache.stats().saved.output_tokens == 7
    assert cache.stats().saved.usd_micros > 0


def test_tool_calls_survive(upstream: Upstream) -> None:
    first, second = ask(upstream, tools=[TOOL]), ask(upstream, tools=[TOOL])
    assert first.choices[0].message.tool_calls == second.choices[0].message.tool_calls
    assert upstream.count == 1


def test_every_changed_argument_misses(upstream: Upstream) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"model": "openai/gpt-4o-mini"},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"seed": 1},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "be brief"}, *ASK]},
        {"api_key": "other"},
        {"extra_headers": {"x": "1"}},
        {"extra_body": {"vendor": 1}},
        {"api_base": upstream.url + "/v1/"},
    ]
    for change in changes:
        ask(upstream, **change)
    assert upstream.count == len(changes)


def test_long_conversations_hit_whatever_the_ids(upstream: Upstream) -> None:
    def run() -> list[str]:
        messages: list[Any] = [{"role": "user", "content": "find it"}]
        said = []
        for _ in range(6):
            message = ask(upstream, messages=messages, tools=[TOOL]).choices[0].message
            said.append(message.model_dump_json())
            messages.append(message)
            messages += [{"role": "tool", "tool_call_id": c.id, "content": "42"} for c in message.tool_calls or []]
            messages.append({"role": "user", "content": "go on"})
        return said

    first = run()
    assert run() == first
    assert upstream.count == 6


def test_truncated_answers_and_server_side_state_are_not_stored(upstream: Upstream) -> None:
    cut = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "x"}}],
    }
    upstream.script = lambda number, _seen: Answer(cut) if number <= 2 else None
    for _ in range(2):
        assert ask(upstream).choices[0].finish_reason == "length"
    for _ in range(2):
        ask(upstream, store=True)
    assert upstream.count == 4


def test_streams_are_answered_from_the_cache(upstream: Upstream) -> None:
    def text() -> str:
        return "".join(chunk.choices[0].delta.content or "" for chunk in ask(upstream, stream=True))

    assert text() == text() == "answer 1 to hi"
    assert upstream.count == 1


async def test_async_calls_and_embeddings(upstream: Upstream) -> None:
    async def chat() -> str:
        answer = await litellm.acompletion(
            model="openai/gpt-4o", messages=ASK, api_base=upstream.url + "/v1", api_key="k", caching=True
        )
        return str(answer.choices[0].message.content)

    async def embed() -> Any:
        answer = await litellm.aembedding(
            model="openai/e", input=["a", "bb"], api_base=upstream.url + "/v1", api_key="k", caching=True
        )
        return [row["embedding"] for row in answer.data]

    async def stored(count: int) -> None:
        while litellm.cache.cache._cache.stats().stores < count:
            await asyncio.sleep(0.005)

    first = await chat()
    await stored(1)
    assert await chat() == first
    vectors = await embed()
    await stored(3)
    assert await embed() == vectors
    assert upstream.count == 2


def test_no_secret_reaches_the_key_request(cache: Cache, upstream: Upstream) -> None:
    request = litellm.cache._request(
        {"model": "m", "messages": ASK, "api_key": "topsecret", "aws_session_token": "topsecret"}
    )
    assert "topsecret" not in repr(request)


async def test_the_backend_alone_keeps_litellms_contract(cache: Cache) -> None:
    backend = AgentCacheBackend(cache)
    value = {"timestamp": 1.0, "response": '{"choices": [{"finish_reason": "stop", "message": {"content": "x"}}]}'}
    backend.set_cache("a", value)
    await backend.async_set_cache_pipeline([("b", value), ("c", {"timestamp": 1.0, "response": '{"choices": []}'})])
    assert backend.get_cache("a") == await backend.async_get_cache("b") == value
    assert backend.get_cache("c") is None
    assert (await backend.test_connection())["status"] == "success"
    cache.close()
    assert (await backend.test_connection())["status"] == "failed"

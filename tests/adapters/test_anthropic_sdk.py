"""The official Anthropic SDK over the caching transports, against a local provider that speaks the real format."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic
from upstream import Upstream
from wire_answers import Answer

from agentcache_adapters import cached
from agentcache_adapters.http.httpx2 import CacheTransport
from agentcache_core import Cache

ASK: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: Any = {"name": "search", "input_schema": {"type": "object", "properties": {}}}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


@pytest.fixture(params=["transport", "cached"])
def client(request: pytest.FixtureRequest, cache: Cache, upstream: Upstream) -> Iterator[Anthropic]:
    if request.param == "transport":
        http = httpx2.Client(transport=CacheTransport(cache))
        made = Anthropic(api_key="k", base_url=upstream.url, max_retries=0, http_client=http)
    else:
        made = cached(Anthropic(api_key="k", base_url=upstream.url, max_retries=0), cache)
    with made:
        yield made


@pytest.fixture
async def aclient(cache: Cache, upstream: Upstream) -> AsyncIterator[AsyncAnthropic]:
    async with cached(AsyncAnthropic(api_key="k", base_url=upstream.url, max_retries=0), cache) as made:
        yield made


REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "system": {"system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]},
    "tools": {"tools": [TOOL]},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "vision": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image", "source": PIXEL}]}]
    },
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_repeated_message_is_equal_whole_and_streamed(client: Anthropic, upstream: Upstream, name: str) -> None:
    request = {"model": "claude-next", "max_tokens": 2048, "messages": ASK} | REQUESTS[name]
    whole = [client.messages.create(**request) for _ in range(2)]
    assert whole[0] == whole[1]
    assert whole[0].stop_reason == ("tool_use" if name == "tools" else "end_turn")
    streamed = [list(client.messages.create(**request, stream=True)) for _ in range(2)]
    assert streamed[0] == streamed[1]
    assert streamed[0][-1].type == "message_stop"
    assert upstream.count == 2


def test_the_stream_helper_works_on_hits(client: Anthropic, upstream: Upstream) -> None:
    for _ in range(2):
        with client.messages.stream(model="c", max_tokens=9, messages=ASK) as stream:
            assert "".join(stream.text_stream) == "answer 1 to hi"
            assert stream.get_final_message().usage.output_tokens == 7
    assert upstream.count == 1


def test_every_changed_field_of_a_request_misses(client: Anthropic, upstream: Upstream) -> None:
    base: dict[str, Any] = {"model": "c", "max_tokens": 9, "messages": ASK}
    changes: list[dict[str, Any]] = [
        {}, {"model": "d"}, {"max_tokens": 10}, {"system": "be brief"}, {"tools": [TOOL]}, {"stop_sequences": ["x"]},
        {"tools": [TOOL], "tool_choice": {"type": "any"}}, {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"messages": [{"role": "user", "content": "Hi"}]}, {"extra_headers": {"anthropic-beta": "x"}},
    ]  # fmt: skip
    for change in changes:
        client.messages.create(**base | change)
    client.with_options(api_key="other").messages.create(**base)
    assert upstream.count == len(changes) + 1


def test_tool_use_passed_back_hits_whatever_the_ids(client: Anthropic, upstream: Upstream) -> None:
    def run() -> list[str]:
        messages: list[Any] = [{"role": "user", "content": "find it"}]
        said = []
        for _ in range(4):
            message = client.messages.create(model="c", max_tokens=9, messages=messages, tools=[TOOL])
            said.append(message.model_dump_json())
            messages.append({"role": "assistant", "content": message.content})
            uses = [block for block in message.content if block.type == "tool_use"]
            results = [{"type": "tool_result", "tool_use_id": use.id, "content": "42"} for use in uses]
            messages.append({"role": "user", "content": results or "go on"})
        return said

    first = run()
    calls = upstream.count
    assert run() == first
    assert upstream.count == calls


def test_what_did_not_end_well_is_not_stored(client: Anthropic, upstream: Upstream) -> None:
    cut = {
        "id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text", "text": "x"}],
        "stop_reason": "max_tokens", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    upstream.script = lambda number, _seen: Answer(cut) if number <= 2 else None
    for _ in range(2):
        assert client.messages.create(model="c", max_tokens=9, messages=ASK).stop_reason == "max_tokens"
    upstream.failures = [(529, {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})]
    with pytest.raises(anthropic.APIStatusError, match="busy"):
        client.messages.create(model="c", max_tokens=9, messages=ASK)
    assert client.messages.create(model="c", max_tokens=9, messages=ASK).stop_reason == "end_turn"
    assert upstream.count == 4


def test_tools_that_the_provider_runs_bypass(client: Anthropic, upstream: Upstream) -> None:
    web: Any = {"type": "web_search_20250305", "name": "web_search"}
    for _ in range(2):
        raw = client.messages.with_raw_response.create(model="c", max_tokens=9, messages=ASK, tools=[web])
        assert raw.headers["x-agentcache"] == "bypass"
        assert "web_search" in raw.headers["x-agentcache-reason"]
    assert upstream.count == 2


def test_the_avoided_cost_counts_what_the_provider_had_cached(
    client: Anthropic, cache: Cache, upstream: Upstream
) -> None:
    for _ in range(2):
        client.messages.create(model="claude-next", max_tokens=9, messages=ASK)
    saved = cache.stats().saved
    assert (saved.input_tokens, saved.cached_input_tokens, saved.output_tokens) == (16, 4, 7)


async def test_the_async_client_does_the_same(aclient: AsyncAnthropic, upstream: Upstream) -> None:
    request: dict[str, Any] = {"model": "c", "max_tokens": 9, "messages": ASK}

    async def streamed() -> list[Any]:
        return [event async for event in await aclient.messages.create(**request, stream=True)]

    assert await aclient.messages.create(**request) == await aclient.messages.create(**request)
    answers = await asyncio.gather(*(streamed() for _ in range(10)))
    assert all(answer == answers[0] for answer in answers)
    assert await streamed() == answers[0]
    assert upstream.count == 2

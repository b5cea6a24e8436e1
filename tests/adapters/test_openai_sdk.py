"""The official OpenAI SDK over the caching transports, against a local provider that speaks the real formats."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from upstream import Upstream
from wire_answers import Answer

from agentcache_adapters import cached
from agentcache_adapters.http import httpx as shim1
from agentcache_adapters.http import httpx2 as shim2
from agentcache_core import Cache

ASK: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Told(BaseModel):
    answer: str


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


@pytest.fixture(params=["transport", "cached", "legacy"])
def client(request: pytest.FixtureRequest, cache: Cache, upstream: Upstream) -> Iterator[OpenAI]:
    settings: dict[str, Any] = {"api_key": "sk-test", "base_url": upstream.url + "/v1", "max_retries": 0}
    if request.param == "transport":
        made = OpenAI(http_client=httpx2.Client(transport=shim2.CacheTransport(cache)), **settings)
    elif request.param == "legacy":
        made = OpenAI(http_client=httpx.Client(transport=shim1.CacheTransport(cache)), **settings)  # type: ignore[arg-type]
    else:
        made = cached(OpenAI(**settings), cache)
    with made:
        yield made


@pytest.fixture
async def aclient(cache: Cache, upstream: Upstream) -> AsyncIterator[AsyncOpenAI]:
    async with cached(AsyncOpenAI(api_key="sk-test", base_url=upstream.url + "/v1", max_retries=0), cache) as made:
        yield made


REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"tools": [TOOL], "tool_choice": "auto"},
    "json": {"response_format": {"type": "json_object"}},
    "reasoning": {"reasoning_effort": "high"},
    "many": {"n": 3, "temperature": 1.0},
    "vision": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
            }
        ]
    },
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_repeated_completion_is_equal_in_every_field(client: OpenAI, upstream: Upstream, name: str) -> None:
    request = {"model": "gpt-5", "messages": ASK} | REQUESTS[name]
    first = client.chat.completions.create(**request)
    second = client.chat.completions.create(**request)
    assert first == second
    assert first._request_id == second._request_id == "req_1"
    assert upstream.count == 1
    if name == "tools":
        assert second.choices[0].finish_reason == "tool_calls"
        assert second.choices[0].message.tool_calls


@pytest.mark.parametrize("name", ["plain", "tools", "json", "vision"])
def test_a_streamed_completion_is_replayed_chunk_for_chunk(client: OpenAI, upstream: Upstream, name: str) -> None:
    request = {"model": "gpt-5", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}} | REQUESTS[
        name
    ]
    first, second = list(client.chat.completions.create(**request)), list(client.chat.completions.create(**request))
    assert first == second
    assert len(first) > 3
    assert first[-1].usage is not None
    assert upstream.count == 1


def test_the_stream_helper_and_parsed_outputs_work_on_hits(client: OpenAI, upstream: Upstream) -> None:
    for _ in range(2):
        with client.chat.completions.stream(model="gpt-5", messages=ASK) as stream:
            assert stream.get_final_completion().choices[0].message.content == "answer 1 to hi"
    parsed = [client.chat.completions.parse(model="gpt-5", messages=ASK, response_format=Told) for _ in range(2)]
    assert parsed[0].choices[0].message.parsed == parsed[1].choices[0].message.parsed == Told(answer="answer 2 to hi")
    assert upstream.count == 2


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"reasoning": {"effort": "low"}},
        {"tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}]},
    ],
)
def test_responses_are_equal_whole_and_streamed(client: OpenAI, upstream: Upstream, extra: dict[str, Any]) -> None:
    whole = [client.responses.create(model="gpt-5", input="hi", **extra) for _ in range(2)]
    assert whole[0] == whole[1]
    streamed = [list(client.responses.create(model="gpt-5", input="hi", stream=True, **extra)) for _ in range(2)]
    assert streamed[0] == streamed[1]
    assert streamed[0][-1].type == "response.completed"
    assert upstream.count == 2


def test_a_response_that_continues_another_always_goes_upstream(client: OpenAI, upstream: Upstream) -> None:
    first = client.responses.create(model="gpt-5", input="hi")
    for _ in range(2):
        client.responses.create(model="gpt-5", input="more", previous_response_id=first.id)
    assert upstream.count == 3


def test_embeddings_are_equal_in_both_encodings(client: OpenAI, upstream: Upstream) -> None:
    for options in ({}, {"encoding_format": "float"}):
        got = [client.embeddings.create(model="e", input=["a", "bb"], **options) for _ in range(2)]
        assert [row.embedding for row in got[0].data] == [row.embedding for row in got[1].data]
        assert len(got[0].data[0].embedding) == 3
    assert upstream.count == 2


def test_every_changed_field_of_a_request_misses(client: OpenAI, upstream: Upstream) -> None:
    base: dict[str, Any] = {"model": "gpt-5", "messages": ASK}
    changes: list[dict[str, Any]] = [
        {}, {"model": "gpt-6"}, {"temperature": 0.1}, {"top_p": 0.5}, {"seed": 1}, {"n": 2}, {"stop": ["x"]},
        {"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": "required"}, {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "system", "content": "be brief"}, *ASK]},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"reasoning_effort": "low"}, {"logprobs": True}, {"max_completion_tokens": 5}, {"extra_body": {"vendor": 1}},
        {"extra_headers": {"openai-beta": "x"}}, {"extra_query": {"v": "2"}},
    ]  # fmt: skip
    for change in changes:
        client.chat.completions.create(**base | change)
    assert upstream.count == len(changes)
    client.with_options(api_key="sk-other").chat.completions.create(**base)
    client.with_options(organization="org").chat.completions.create(**base)
    assert upstream.count == len(changes) + 2


def test_an_agent_that_passes_answers_back_hits_on_every_turn(client: OpenAI, upstream: Upstream) -> None:
    """Once with live SDK objects, once from their JSON: ids differ between runs upstream, keys do not."""

    def run(*, as_json: bool) -> list[str]:
        messages: list[Any] = [{"role": "user", "content": "find it"}]
        said = []
        for _ in range(6):
            answer = client.chat.completions.create(model="gpt-5", messages=messages, tools=[TOOL])
            message = answer.choices[0].message
            messages.append(json.loads(message.model_dump_json()) if as_json else message)
            for call in message.tool_calls or []:
                messages.append({"role": "tool", "tool_call_id": call.id, "content": "42"})
            messages.append({"role": "user", "content": "go on"})
            said.append(message.model_dump_json())
        return said

    first = run(as_json=False)
    calls = upstream.count
    assert calls == 6
    assert run(as_json=False) == run(as_json=True) == first
    assert upstream.count == calls


@pytest.mark.parametrize(("status", "error"), [(400, openai.BadRequestError), (429, openai.RateLimitError)])
def test_errors_are_the_sdks_own_and_not_stored(
    client: OpenAI, upstream: Upstream, status: int, error: type[Exception]
) -> None:
    upstream.failures = [(status, {"error": {"message": "no", "type": "x", "code": "y"}})]
    with pytest.raises(error, match="no"):
        client.chat.completions.create(model="gpt-5", messages=ASK)
    assert client.chat.completions.create(model="gpt-5", messages=ASK).choices[0].message.content == "answer 2 to hi"


def test_the_sdks_retries_still_work_and_share_one_entry(client: OpenAI, upstream: Upstream) -> None:
    upstream.failures = [(500, {"error": {"message": "x"}})]
    retrying = client.with_options(max_retries=2)
    first = retrying.chat.completions.create(model="gpt-5", messages=ASK)
    assert upstream.count == 2
    assert upstream.calls[1].headers["x-stainless-retry-count"] == "1"
    assert retrying.chat.completions.create(model="gpt-5", messages=ASK) == first
    assert upstream.count == 2


def test_an_error_inside_a_stream_is_raised_and_not_stored(client: OpenAI, upstream: Upstream) -> None:
    events = [b'data: {"choices": []}\n\n', b'data: {"error": {"message": "overloaded"}}\n\n', b"data: [DONE]\n\n"]
    upstream.script = lambda number, _seen: Answer(events=events) if number == 1 else None
    with pytest.raises(openai.APIError, match="overloaded"):
        list(client.chat.completions.create(model="gpt-5", messages=ASK, stream=True))
    assert list(client.chat.completions.create(model="gpt-5", messages=ASK, stream=True))
    assert upstream.count == 2


def test_a_stream_left_early_stores_nothing(client: OpenAI, upstream: Upstream) -> None:
    with client.chat.completions.create(model="gpt-5", messages=ASK, stream=True) as stream:
        next(iter(stream))
    list(client.chat.completions.create(model="gpt-5", messages=ASK, stream=True))
    assert upstream.count == 2


def test_raw_responses_show_what_the_cache_did(client: OpenAI, upstream: Upstream) -> None:
    said = [
        client.chat.completions.with_raw_response.create(model="gpt-5", messages=ASK).headers["x-agentcache"]
        for _ in range(2)
    ]
    assert said == ["miss", "hit; how=exact"]


def test_the_avoided_cost_is_counted(client: OpenAI, cache: Cache, upstream: Upstream) -> None:
    for _ in range(3):
        client.chat.completions.create(model="gpt-4o", messages=ASK)
    saved = cache.stats().saved
    assert (saved.input_tokens, saved.cached_input_tokens, saved.output_tokens) == (22, 8, 14)


def test_directives_travel_as_extra_headers(client: OpenAI, cache: Cache, upstream: Upstream) -> None:
    def ask() -> str | None:
        answer = client.chat.completions.create(
            model="gpt-5", messages=ASK, extra_headers={"x-agentcache-tags": "policy", "x-agentcache-ttl": "1h"}
        )
        return answer.choices[0].message.content

    assert ask() == ask()
    cache.invalidate(tag="policy")
    assert ask() == "answer 2 to hi"
    with pytest.raises(openai.InternalServerError, match="only-if-cached"):
        client.with_options(max_retries=2).chat.completions.create(
            model="gpt-5", messages=ASK, extra_headers={"x-agentcache": "only-if-cached", "x-mine": "new"}
        )
    assert upstream.count == 2


async def test_the_async_client_does_the_same(aclient: AsyncOpenAI, upstream: Upstream) -> None:
    request: dict[str, Any] = {"model": "gpt-5", "messages": ASK}
    assert await aclient.chat.completions.create(**request) == await aclient.chat.completions.create(**request)

    async def streamed() -> list[Any]:
        return [chunk async for chunk in await aclient.chat.completions.create(**request, stream=True)]

    assert await streamed() == await streamed()
    assert await aclient.responses.create(model="m", input="x") == await aclient.responses.create(model="m", input="x")
    assert upstream.count == 3


async def test_concurrent_async_streams_share_one_upstream_call(aclient: AsyncOpenAI, upstream: Upstream) -> None:
    async def streamed() -> list[Any]:
        stream = await aclient.chat.completions.create(model="gpt-5", messages=ASK, stream=True)
        return [chunk async for chunk in stream]

    answers = await asyncio.gather(*(streamed() for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert upstream.count == 1


def test_the_wrapped_client_is_left_as_it_was(cache: Cache, upstream: Upstream) -> None:
    plain = OpenAI(api_key="sk-test", base_url=upstream.url + "/v1", timeout=7, default_headers={"x-team": "a"})
    with cached(plain, cache) as wrapped:
        wrapped.chat.completions.create(model="gpt-5", messages=ASK)
        plain.chat.completions.create(model="gpt-5", messages=ASK)
        wrapped.chat.completions.create(model="gpt-5", messages=ASK)
        assert wrapped.timeout == 7
    assert [seen.headers["x-team"] for seen in upstream.calls] == ["a", "a"]
    assert upstream.count == 2


def test_a_client_nobody_knows_says_what_to_do(cache: Cache) -> None:
    with pytest.raises(TypeError, match=r"cache\.memoize"):
        cached(object(), cache)


def test_an_agent_on_responses_that_keeps_its_own_state_hits_on_every_turn(client: OpenAI, upstream: Upstream) -> None:
    tool: Any = {"type": "function", "name": "search", "parameters": {}, "strict": True}

    def run(*, as_json: bool) -> list[str]:
        items: list[Any] = [{"role": "user", "content": "find it"}]
        said = []
        for _ in range(4):
            response = client.responses.create(model="gpt-5", input=items, tools=[tool])
            said.append(response.model_dump_json())
            items += [json.loads(item.model_dump_json()) if as_json else item for item in response.output]
            calls = [item for item in response.output if item.type == "function_call"]
            items += [{"type": "function_call_output", "call_id": call.call_id, "output": "42"} for call in calls]
            items.append({"role": "user", "content": "go on"})
        return said

    first = run(as_json=False)
    assert run(as_json=False) == first
    assert upstream.count == 4
    assert run(as_json=True) == first
    assert upstream.count == 4

"""The OpenAI Agents SDK over the cache, against a local provider."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from agents import Agent, ModelSettings, OpenAIProvider, RunConfig, Runner, function_tool, set_tracing_disabled
from agents.exceptions import ModelRefusalError
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel
from openai import AsyncOpenAI
from upstream import Upstream
from wire_answers import Answer

from agentcache_adapters.agents_sdk import CachedModel, CachedProvider
from agentcache_core import Cache

set_tracing_disabled(True)


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as fresh:
        yield fresh


@pytest.fixture
async def openai(upstream: Upstream) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(api_key="sk-test", base_url=upstream.url + "/v1", max_retries=0) as client:
        yield client


@pytest.fixture(params=[OpenAIResponsesModel, OpenAIChatCompletionsModel])
def model(request: pytest.FixtureRequest, openai: AsyncOpenAI, cache: Cache) -> CachedModel:
    return CachedModel(request.param(model="gpt-5", openai_client=openai), cache)


@function_tool
def search(q: int) -> str:
    """Search."""
    return f"found {q}"


async def test_a_repeated_run_asks_nobody(model: CachedModel, cache: Cache, upstream: Upstream) -> None:
    agent = Agent(name="a", instructions="be brief", model=model)
    first, second = [await Runner.run(agent, "hi") for _ in range(2)]
    assert first.final_output == second.final_output == "answer 1 to hi"
    assert [item.to_input_item() for item in first.new_items] == [item.to_input_item() for item in second.new_items]
    assert first.raw_responses == second.raw_responses
    assert upstream.count == 1
    assert cache.stats().saved.output_tokens == 7


async def test_tool_calls_of_cached_turns_are_carried_out(
    openai: AsyncOpenAI, cache: Cache, upstream: Upstream
) -> None:
    model = CachedModel(OpenAIChatCompletionsModel(model="gpt-5", openai_client=openai), cache)
    agent = Agent(name="a", model=model, tools=[search])
    first, second = [await Runner.run(agent, "find it") for _ in range(2)]
    assert first.final_output == second.final_output
    assert upstream.count == 2


async def test_streamed_runs_are_replayed_event_for_event(
    openai: AsyncOpenAI, cache: Cache, upstream: Upstream
) -> None:
    agent = Agent(name="a", model=CachedModel(OpenAIResponsesModel(model="gpt-5", openai_client=openai), cache))

    async def run() -> list[Any]:
        result = Runner.run_streamed(agent, "hi")
        return [event.data.model_dump() async for event in result.stream_events() if event.type == "raw_response_event"]

    first = await run()
    assert await run() == first
    assert len(first) > 5
    assert upstream.count == 1


async def test_concurrent_equal_turns_are_asked_once(model: CachedModel, upstream: Upstream) -> None:
    agent = Agent(name="a", model=model)
    results = await asyncio.gather(*(Runner.run(agent, "hi") for _ in range(8)))
    assert {result.final_output for result in results} == {"answer 1 to hi"}
    assert upstream.count == 1


async def test_everything_the_model_is_given_counts(model: CachedModel, upstream: Upstream) -> None:
    agents = [
        Agent(name="a", model=model),
        Agent(name="a", model=model, instructions="be brief"),
        Agent(name="a", model=model, model_settings=ModelSettings(temperature=0.5)),
        Agent(name="a", model=model, model_settings=ModelSettings(extra_headers={"x": "1"})),
        Agent(name="a", model=model, handoffs=[Agent(name="b", model=model)]),
    ]
    for agent in agents:
        await Runner.run(agent, "hi")
    await Runner.run(agents[0], "Hi")
    assert upstream.count >= 6


async def test_server_side_state_goes_to_the_model(openai: AsyncOpenAI, cache: Cache, upstream: Upstream) -> None:
    agent = Agent(name="a", model=CachedModel(OpenAIResponsesModel(model="gpt-5", openai_client=openai), cache))
    told: list[str] = []
    cache.events.subscribe(lambda event: told.append(event.reason) if event.name == "bypass" else None)
    for _ in range(2):
        await Runner.run(agent, "hi", previous_response_id="resp_1")
    assert upstream.count == 2
    assert "previous_response_id" in told[0]


async def test_refusals_are_not_stored(openai: AsyncOpenAI, cache: Cache, upstream: Upstream) -> None:
    def refused(number: int, _seen: object) -> Answer:
        part = {"type": "refusal", "refusal": "I cannot"}
        message = {"id": f"m{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return Answer(
            {
                "id": "r", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-5",
                "output": [message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            }
        )  # fmt: skip

    upstream.script = refused
    model = CachedModel(OpenAIResponsesModel(model="gpt-5", openai_client=openai), cache)
    for _ in range(2):
        with pytest.raises(ModelRefusalError):
            await Runner.run(Agent(name="a", model=model), "hi")
    assert upstream.count == 2


async def test_a_whole_provider_can_be_cached(openai: AsyncOpenAI, cache: Cache, upstream: Upstream) -> None:
    config = RunConfig(model_provider=CachedProvider(OpenAIProvider(openai_client=openai), cache))
    for _ in range(2):
        result = await Runner.run(Agent(name="a", model="gpt-5"), "hi", run_config=config)
        assert result.final_output == "answer 1 to hi"
    assert upstream.count == 1


async def test_a_closed_cache_stops_nobody(model: CachedModel, cache: Cache) -> None:
    cache.close()
    assert (await Runner.run(Agent(name="a", model=model), "hi")).final_output == "answer 1 to hi"

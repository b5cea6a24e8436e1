"""LangGraph's node cache over the cache, on every kind of storage."""

from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

from agentcache_adapters.langgraph import AgentCacheNodes
from agentcache_core import Cache


class State(TypedDict, total=False):
    city: str
    weather: str


@pytest.fixture
def cache(tiers: str | list[str]) -> Iterator[Cache]:
    with Cache(tiers) as fresh:
        yield fresh


A, B, C = (("n", "1"), "a"), (("n", "1"), "b"), (("n", "2"), "a")


def test_values_come_back_by_key_and_namespaces_are_cleared(cache: Cache) -> None:
    nodes: AgentCacheNodes[Any] = AgentCacheNodes(cache)
    value = {"messages": [AIMessage("x")], "n": [1, 2]}
    nodes.set({A: (value, None), B: ("b", 60), C: (None, None)})
    assert nodes.get([A, B, C, (("n",), "z")]) == {A: value, B: "b", C: None}
    nodes.clear([("n", "1")])
    assert nodes.get([A, B, C]) == {C: None}
    nodes.clear()
    assert nodes.get([A, B, C]) == {}


async def test_the_async_face_does_the_same(cache: Cache) -> None:
    nodes: AgentCacheNodes[Any] = AgentCacheNodes(cache)
    await nodes.aset({A: (1, None), C: (2, None)})
    assert await nodes.aget([A, B, C]) == {A: 1, C: 2}
    await nodes.aclear([("n", "2")])
    assert await nodes.aget([A, C]) == {A: 1}
    await nodes.aclear()
    assert await nodes.aget([A, C]) == {}


async def test_a_cached_node_of_a_graph_runs_once(cache: Cache) -> None:
    ran: list[str] = []

    def weather(state: State) -> State:
        ran.append(state["city"])
        return {"weather": f"{len(ran)} degrees in {state['city']}"}

    graph = StateGraph(State)
    graph.add_node("weather", weather, cache_policy=CachePolicy(ttl=60))
    graph.add_edge(START, "weather")
    graph.add_edge("weather", END)
    compiled = graph.compile(cache=AgentCacheNodes(cache))
    first = compiled.invoke({"city": "Bern"})
    assert compiled.invoke({"city": "Bern"}) == first
    assert await compiled.ainvoke({"city": "Bern"}) == first
    compiled.invoke({"city": "Basel"})
    assert ran == ["Bern", "Basel"]


def test_trouble_with_the_cache_is_a_miss() -> None:
    cache = Cache()
    nodes: AgentCacheNodes[Any] = AgentCacheNodes(cache)
    cache.close()
    nodes.set({A: (1, None)})
    assert nodes.get([A]) == {}

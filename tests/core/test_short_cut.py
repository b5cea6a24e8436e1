"""The short cut of a memory hit and the way through the engine answer alike, count alike and copy alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core import Cache, Cost
from agentcache_core.clock import ManualClock

KEYS = st.sampled_from(["a", "b", b"a", {"model": "m", "messages": []}, {"q": 1}])
VALUES = st.sampled_from([None, 1, "text", b"bytes", (1, (2,)), [1, [2]], {"a": {"b": []}}, {1, 2}])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES, st.sampled_from([None, 5, 50])),
        st.tuples(st.just("get"), KEYS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("advance"), st.sampled_from([1, 4, 30])),
        st.tuples(st.just("invalidate"), st.sampled_from(["t", "u"])),
    ),
    max_size=30,
)


def _play(cache: Cache, clock: ManualClock, steps: list[tuple[Any, ...]]) -> list[Any]:
    seen = []
    for step in steps:
        match step:
            case ("set", key, value, ttl):
                cache.set(key, value, ttl=ttl, tags=["t"], cost=Cost(usd_micros=3))
            case ("get", key):
                value = cache.get(key)
                seen.append(value)
                if isinstance(value, list):
                    value.append("changed by its owner")
            case ("delete", key):
                seen.append(cache.delete(key))
            case ("advance", seconds):
                clock.advance(seconds)
            case ("invalidate", tag):
                cache.invalidate(tag=tag)
    stats = cache.stats()
    return [*seen, stats.hits, stats.misses, stats.saved, stats.bytes_served]


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_both_ways_are_equal(steps: list[tuple[Any, ...]]) -> None:
    short_clock, long_clock = ManualClock(0), ManualClock(0)
    with Cache(clock=short_clock) as short, Cache(clock=long_clock) as long:
        long.events.subscribe(lambda event: None)  # who listens is told of every hit, which the short cut does not
        assert _play(short, short_clock, steps) == _play(long, long_clock, steps)


def test_the_short_cut_is_really_taken() -> None:
    with Cache() as cache:
        cache.set("k", 1)
        cache._engine = None  # type: ignore[assignment]  # whatever asks the engine now fails
        assert cache.get("k") == 1
        with pytest.raises(AttributeError):
            cache.get("absent")

"""What a store's trouble may cost: nothing but its deadline, then nothing at all until it is tried again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.backend import Capabilities
from agentcache_core.clock import ManualClock
from agentcache_core.errors import BackendUnavailable
from agentcache_core.guarding import Circuit
from agentcache_core.policy.breaker import CLOSED, FAILURES, FIRST_REST, LONGEST_REST, Breaker
from agentcache_core.resilience import in_threads
from agentcache_core.testing import DictBackend, FaultyBackend, TornBackend


class Hanging(DictBackend):
    """A store without a deadline of its own whose reads hang until let go."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.hangs = False

    def get(self, name: bytes) -> Any:
        if self.hangs:
            self.go.wait(60)
        return super().get(name)

    def get_many(self, names: Any) -> Any:
        if self.hangs:
            self.go.wait(60)
        return super().get_many(names)


def test_the_breaker_opens_rests_longer_each_time_and_closes_at_the_first_success() -> None:
    state: Breaker = CLOSED
    for _ in range(FAILURES - 1):
        state = state.failed(0.0)
        assert not state.is_open
    state = state.failed(0.0)
    assert state.is_open
    assert not state.allows(FIRST_REST - 0.01)
    assert state.allows(FIRST_REST)
    assert not state.probing(FIRST_REST).allows(FIRST_REST)
    for _ in range(10):
        state = state.failed(100.0)
    assert state.retry_at == 100.0 + LONGEST_REST


def test_a_store_that_hangs_costs_its_deadline_then_nothing_and_comes_back() -> None:
    store, clock, events = Hanging(), ManualClock(), []
    with Cache(store, clock=clock, deadline="30ms") as cache:
        cache.events.subscribe(lambda event: events.append(event.name))
        cache.set("k", 1)
        store.hangs = True
        for _ in range(10):
            assert cache.get("k") is MISSING
        assert cache.get_or_compute("k", lambda: 2) == 2
        assert "breaker_open" in events
        assert not cache.stats().tiers[0].available
        store.hangs = False
        store.go.set()
        clock.advance(LONGEST_REST)
        assert cache.get("k") == 1
        assert "breaker_closed" in events
        assert cache.stats().tiers[0].available


async def test_the_async_face_is_guarded_too() -> None:
    store = Hanging()
    async with AsyncCache(in_threads(store), deadline="30ms") as cache:
        await cache.set("k", 1)
        store.hangs = True
        assert await asyncio.wait_for(cache.get("k"), 30) is MISSING
        assert await asyncio.wait_for(cache.get_or_compute("j", lambda: 2), 30) == 2
        store.hangs = False
        store.go.set()


@pytest.mark.parametrize("how", ["cut", "flip", "foreign"])
def test_garbage_from_a_store_is_a_miss_an_event_and_removed(how: str) -> None:
    store = DictBackend()
    Cache(store).set("k", {"a": 1})
    torn, events = TornBackend(store, "cut"), []
    with Cache(torn if how == "cut" else store) as cache:
        cache.events.subscribe(lambda event: events.append(event.name))
        if how != "cut":
            name = cache._space.entry_name(cache.key("k"))
            data = bytearray(store.get(name).data)  # type: ignore[union-attr]
            data[len(data) // 2] ^= 0x40
            store.put(name, bytes(data) if how == "flip" else b"\x00\x01 something else")
        assert cache.get("k") is MISSING
        assert "corrupt" in events or how == "cut"
        assert cache.get_or_compute("k", lambda: 5) == 5


def test_a_store_that_raises_anything_never_fails_the_caller() -> None:
    store, clock = FaultyBackend(DictBackend()), ManualClock()
    with Cache(["memory://", store], clock=clock) as cache:
        for error in (RuntimeError("odd"), ValueError(), OSError(5, "io"), KeyError("x"), BackendUnavailable("gone")):
            store.fail(error=error)
            assert cache.get("k") is MISSING
            assert cache.get_or_compute("k", lambda: 1) == 1
            assert cache.set("k", 2) is False
            assert cache.get_many(["k", "j"]) == [MISSING, MISSING]
            cache.delete("k")
            cache.invalidate(tag="t")
            store.heal()
            clock.advance(LONGEST_REST)


def test_a_circuit_gives_large_writes_their_time() -> None:
    circuit = Circuit("x", deadline=0.25, monotonic=ManualClock().monotonic, told=lambda _: None)
    assert circuit.grace("put", (b"name", b"")) == pytest.approx(0.0, abs=0.01)
    assert circuit.grace("put", (b"name", bytes(4 << 20))) == pytest.approx(2.0, abs=0.01)

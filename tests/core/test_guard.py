"""A guarded backend holds nobody up: deadlines, the breaker, and the way back."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core.backend import Capabilities
from agentcache_core.clock import Clock, ManualClock
from agentcache_core.errors import BackendFull, BackendUnavailable
from agentcache_core.guard import guarded
from agentcache_core.model import MISSING
from agentcache_core.policy.breaker import CLOSED, BreakerRules, Closed, HalfOpen, Open, ask, told
from agentcache_core.resilience import in_threads
from agentcache_core.testing import AsyncBackendSuite, BackendSuite, DictBackend, FaultyBackend, SlowBackend
from agentcache_core.testing.faults import AsyncFaultyBackend, AsyncSlowBackend
from agentcache_core.watched import WatchedThreads

RULES = BreakerRules(failures=3, pause=1.0, longest=8.0)


class Unbounded(DictBackend):
    """A backend that may hang, as it says itself."""

    capabilities = Capabilities(native_deadline=False)


class TestGuardedConforms(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return guarded(DictBackend(clock=clock), deadline=60.0)


class TestGuardedOnWatchedThreadsConforms(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return guarded(Unbounded(clock=clock), deadline=60.0)


class TestAsyncGuardedConforms(AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> Any:
        return guarded(in_threads(Unbounded(clock=clock)), deadline=60.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=60))
def test_the_breaker_lets_one_probe_through_and_never_sleeps_too_long(
    steps: list[tuple[bool, float]],
) -> None:
    state: Any = CLOSED
    now = 0.0
    refused_since: float | None = None
    for well, passes in steps:
        now += passes
        allowed, state = ask(state, now, RULES)
        if allowed:
            refused_since = None
            if isinstance(state, HalfOpen):
                assert ask(state, now, RULES)[0] is False
            state = told(state, well=well, now=now, rules=RULES)
            assert not well or state == CLOSED
        else:
            refused_since = now if refused_since is None else refused_since
            assert now - refused_since <= RULES.longest
            assert isinstance(state, Open)
            assert 0 < state.until - now <= RULES.longest


def test_three_failures_in_a_row_open_the_breaker_and_a_success_between_does_not() -> None:
    state: Any = CLOSED
    for well in (False, False, True, False, False):
        state = told(state, well=well, now=0.0, rules=RULES)
    assert state == Closed(2)
    state = told(state, well=False, now=5.0, rules=RULES)
    assert state == Open(6.0, 1.0)
    assert told(state, well=True, now=5.1, rules=RULES) == state


def test_an_open_breaker_spares_the_store_and_a_probe_closes_it_again() -> None:
    clock, heard = ManualClock(), list[str]()
    faulty = FaultyBackend(DictBackend(clock=clock))
    backend = guarded(faulty, deadline=1.0, clock=clock, rules=RULES, on_change=heard.append)
    backend.put(b"k", b"v")
    faulty.fail()
    for _ in range(10):
        with pytest.raises(BackendUnavailable):
            backend.get(b"k")
    assert faulty.calls["get"] == 3
    clock.advance(1.0)
    with pytest.raises(BackendUnavailable):
        backend.get_many([b"k"])
    clock.advance(1.0)
    with pytest.raises(BackendUnavailable, match="left alone"):
        backend.get(b"k")
    clock.advance(1.0)
    faulty.heal()
    assert backend.get(b"k").data == b"v"
    assert backend.get(b"k").data == b"v"
    assert heard == ["open", "open", "closed"]


def test_a_store_that_is_full_or_read_only_is_not_left_alone() -> None:
    faulty = FaultyBackend(DictBackend())
    backend = guarded(faulty, deadline=1.0, rules=RULES)
    faulty.fail("put", error=BackendFull("no room"))
    for _ in range(10):
        with pytest.raises(BackendFull):
            backend.put(b"k", b"v")
    assert backend.get(b"k") is MISSING


def test_a_hanging_store_costs_its_deadline_and_then_nothing() -> None:
    slow = SlowBackend(Unbounded())
    backend = guarded(slow, deadline=0.05, clock=ManualClock(), rules=RULES)
    slow.hold()
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="deadline"):
            backend.get(b"k")
    with pytest.raises(BackendUnavailable, match="left alone"):
        backend.get(b"k")
    slow.let_go()


def test_an_async_store_that_hangs_costs_its_deadline_and_recovers() -> None:
    clock = ManualClock()

    async def scenario() -> None:
        slow = AsyncSlowBackend(in_threads(Unbounded()))
        backend = guarded(slow, deadline=0.05, clock=clock, rules=RULES)
        await backend.put(b"k", b"v")
        slow.hold()
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match="deadline"):
                await backend.get(b"k")
        slow.let_go()
        with pytest.raises(BackendUnavailable, match="left alone"):
            await backend.get(b"k")
        clock.advance(1.0)
        assert (await backend.get(b"k")).data == b"v"
        await backend.close()

    asyncio.run(scenario())


def test_an_async_cancellation_is_nobodys_failure() -> None:
    async def scenario() -> None:
        slow = AsyncSlowBackend(AsyncFaultyBackend(in_threads(DictBackend())))
        backend = guarded(slow, deadline=60.0, rules=RULES)
        slow.hold()
        for _ in range(5):
            task = asyncio.create_task(backend.get(b"k"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        slow.let_go()
        assert await backend.get(b"k") is MISSING

    asyncio.run(scenario())


def test_threads_that_hang_are_bounded_and_refuse_at_once() -> None:
    gate = threading.Event()
    threads = WatchedThreads(2, line=1)
    held = [threads.submit(gate.wait, 30) for _ in range(3)]
    with pytest.raises(BackendUnavailable, match="too many"):
        threads.submit(gate.wait, 30)
    gate.set()
    assert all(future.result(30) for future in held)
    assert threads.submit(int, "7").result(30) == 7


def test_a_store_timing_out_by_itself_is_told_as_such() -> None:
    faulty = FaultyBackend(Unbounded())
    faulty.fail("get", error=TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        guarded(faulty, deadline=5.0).get(b"k")

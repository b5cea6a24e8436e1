"""One computation for all who miss together; circles, cancellation and copies of exceptions."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentcache_core import AsyncCache, Cache, CacheControl
from agentcache_core.errors import LeaderFailed, RecursiveComputation
from agentcache_core.singleflight import Flights


class Slow:
    """A computation that lets the test decide when it ends, and counts its runs."""

    def __init__(self, value: Any = None) -> None:
        self.value = {"n": [1]} if value is None else value
        self.calls = 0
        self.started = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> Any:
        self.calls += 1
        self.started.set()
        assert self.go.wait(30)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def _joined(cache: Cache, number: int) -> None:
    from agentcache_core.computing import FLIGHTS

    deadline = time.monotonic() + 30
    while sum(flight.followers for flight in FLIGHTS._open.values()) < number:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_many_threads_compute_once_and_each_gets_its_own_copy() -> None:
    compute = Slow()
    with Cache() as cache, ThreadPoolExecutor(8) as pool:
        first = pool.submit(cache.get_or_compute, "k", compute)
        assert compute.started.wait(30)
        rest = [pool.submit(cache.get_or_compute, "k", compute) for _ in range(7)]
        _joined(cache, 7)
        compute.go.set()
        answers = [future.result(30) for future in [first, *rest]]
        assert compute.calls == 1
        assert all(answer == {"n": [1]} for answer in answers)
        assert len({id(answer) for answer in answers}) == 8
        assert cache.stats().joined == 7


def test_followers_get_a_copy_of_the_exception_with_the_leaders_as_cause() -> None:
    compute = Slow(ValueError("boom", 7))
    with Cache() as cache, ThreadPoolExecutor(3) as pool:
        first = pool.submit(cache.get_or_compute, "k", compute)
        assert compute.started.wait(30)
        rest = [pool.submit(cache.get_or_compute, "k", compute) for _ in range(2)]
        _joined(cache, 2)
        compute.go.set()
        errors = [future.exception(30) for future in [first, *rest]]
        assert len({id(error) for error in errors}) == 3
        assert all(type(error) is ValueError and error.args == ("boom", 7) for error in errors)
        assert all(error is not None and error.__cause__ is errors[0] for error in errors[1:])
        assert cache.get_or_compute("k", lambda: 3) == 3


def test_an_exception_that_cannot_be_copied_becomes_leader_failed() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one}{two}")

    compute = Slow(Odd(1, 2))
    with Cache() as cache, ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_compute, "k", compute)
        assert compute.started.wait(30)
        second = pool.submit(cache.get_or_compute, "k", compute)
        _joined(cache, 1)
        compute.go.set()
        assert isinstance(first.exception(30), Odd)
        error = second.exception(30)
        assert isinstance(error, LeaderFailed)
        assert error.__cause__ is first.exception()


def test_asking_for_ones_own_key_raises_instead_of_hanging() -> None:
    with Cache() as cache:
        with pytest.raises(RecursiveComputation):
            cache.get_or_compute("k", lambda: cache.get_or_compute("k", lambda: 1))
        assert cache.get_or_compute("k", lambda: 2) == 2


def test_two_computations_that_need_each_other_both_end() -> None:
    barrier = threading.Barrier(2, timeout=30)
    with Cache() as cache, ThreadPoolExecutor(2) as pool:

        def need(mine: str, other: str) -> Any:
            def compute() -> str:
                barrier.wait()
                return mine + cache.get_or_compute(other, lambda: other)

            return cache.get_or_compute(mine, compute)

        one, two = pool.submit(need, "a", "b"), pool.submit(need, "b", "a")
        answers = {one.result(30), two.result(30)}
        assert len(answers) == 2
        assert all(set(answer) == {"a", "b"} for answer in answers)


def test_a_circle_through_three_flights_is_seen() -> None:
    flights = Flights()
    one, _ = flights.join(1)
    two, _ = flights.join(2)
    three, _ = flights.join(3)
    one.waits_for.add(two)
    two.waits_for.add(three)
    assert flights._closes_circle(one, (three,))
    assert not flights._closes_circle(three, (one,))


def test_refresh_and_no_cache_never_join_an_earlier_flight() -> None:
    compute = Slow(1)
    with Cache() as cache, ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get_or_compute, "k", compute)
        assert compute.started.wait(30)
        assert cache.get_or_compute("k", lambda: 2, control=CacheControl(refresh=True)) == 2
        assert cache.get_or_compute("k", lambda: 3, control=CacheControl(no_cache=True)) == 3
        compute.go.set()
        assert first.result(30) == 1


async def test_tasks_compute_once_and_a_cancelled_leader_is_replaced() -> None:
    calls = 0
    started = asyncio.Event()

    async def compute() -> int:
        nonlocal calls
        calls += 1
        started.set()
        await asyncio.sleep(0.01 if calls > 1 else 30)
        return calls

    async with AsyncCache() as cache:
        leader = asyncio.create_task(cache.get_or_compute("k", compute))
        await started.wait()
        followers = [asyncio.create_task(cache.get_or_compute("k", compute)) for _ in range(3)]
        await asyncio.sleep(0)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        assert await asyncio.gather(*followers) == [2, 2, 2]
        assert calls == 2


async def test_a_cancelled_follower_leaves_the_others_alone() -> None:
    go = asyncio.Event()

    async def compute() -> str:
        await go.wait()
        return "done"

    async with AsyncCache() as cache:
        tasks = [asyncio.create_task(cache.get_or_compute("k", compute)) for _ in range(3)]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        go.set()
        assert await tasks[0] == "done"
        assert await tasks[2] == "done"
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]


async def test_threads_and_tasks_share_a_flight() -> None:
    compute = Slow(5)
    cache = Cache()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get_or_compute, "k", compute)
        assert await asyncio.to_thread(compute.started.wait, 30)
        second = asyncio.create_task(cache.aio.get_or_compute("k", compute))
        await asyncio.sleep(0.01)
        compute.go.set()
        assert await second == 5
        assert first.result(30) == 5
    assert compute.calls == 1
    cache.close()


async def test_a_blocking_call_inside_a_loop_does_not_wait_for_a_task_of_that_loop() -> None:
    cache = Cache()
    started = asyncio.Event()

    async def slow() -> int:
        started.set()
        await asyncio.sleep(0.05)
        return 1

    task = asyncio.create_task(cache.aio.get_or_compute("k", slow))
    await started.wait()
    assert cache.get_or_compute("k", lambda: 2) == 2
    assert await task == 1
    cache.close()


def test_a_leader_that_is_interrupted_is_replaced() -> None:
    started, go = threading.Event(), threading.Event()

    def exits() -> int:
        started.set()
        assert go.wait(30)
        raise SystemExit

    def run() -> None:
        with pytest.raises(SystemExit):
            cache.get_or_compute("k", exits)

    with Cache() as cache, ThreadPoolExecutor(2) as pool:
        first = pool.submit(run)
        assert started.wait(30)
        second = pool.submit(cache.get_or_compute, "k", lambda: 4)
        _joined(cache, 1)
        go.set()
        first.result(30)
        assert second.result(30) == 4


def _overtaken(cache: Cache, other: Cache, invalidate: Any) -> tuple[list[Any], Any]:
    """What two callers are given, one from before and one from after an invalidation that comes between; and what is
    stored then."""
    answers: list[Any] = []
    first = Slow("before")
    leader = threading.Thread(target=lambda: answers.append(cache.get_or_compute("k", first, tags=["t"])))
    leader.start()
    assert first.started.wait(30)
    invalidate(other)
    answers.append(cache.get_or_compute("k", lambda: "after", tags=["t"]))
    first.go.set()
    leader.join(30)
    return answers, cache.get("k")


@pytest.mark.parametrize(
    "invalidate",
    [
        lambda cache: cache.delete("k"),
        lambda cache: cache.invalidate(tag="t"),
        lambda cache: cache.invalidate(pattern="k*"),
        lambda cache: cache.invalidate(namespace=""),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_whoever_asks_after_an_invalidation_does_not_join_what_was_begun_before(
    invalidate: Any, elsewhere: bool, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path}/cache.db?timeout=10s"
    with Cache(url) as cache, Cache(url) as other:
        cache.set("seen", 1)
        assert _overtaken(cache, other if elsewhere else cache, invalidate) == (["after", "before"], "after")


def test_an_invalidation_of_something_else_lets_callers_join(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/cache.db?timeout=10s"
    compute = Slow("answer")
    with Cache(url) as cache, Cache(url) as other, ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_compute, "k", compute, tags=["t"])
        assert compute.started.wait(30)
        other.invalidate(tag="u")
        other.delete("j")
        second = pool.submit(cache.get_or_compute, "k", compute, tags=["t"])
        _joined(cache, 1)
        compute.go.set()
        assert [first.result(30), second.result(30)] == ["answer", "answer"]
        assert compute.calls == 1

"""Prewarming: everything is asked once, nothing twice, and one failure does not stop the rest."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core import AsyncCache, Cache, Computed, Cost
from agentcache_core.errors import ConfigurationError
from agentcache_core.prewarm import Pace, PrewarmReport

REQUESTS = [{"model": "gpt-5", "messages": [{"role": "user", "content": f"question {n}"}]} for n in range(20)]


def answer(request: dict[str, Any]) -> Computed:
    return Computed(f"answer to {request['messages'][0]['content']}", cost=Cost(usd_micros=10))


def test_every_request_is_answered_ahead_of_time_and_its_cost_told() -> None:
    with Cache() as cache:
        report = cache.prewarm(REQUESTS, answer)
        assert (report.total, report.computed, report.already, report.failed) == (20, 20, 0, 0)
        assert report.cost.usd_micros == 200
        assert cache.get(REQUESTS[7]) == "answer to question 7"


def test_a_run_that_was_stopped_goes_on_where_it_ended(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    asked: list[Any] = []

    def stopping() -> Iterator[Any]:
        yield from REQUESTS[:12]
        raise KeyboardInterrupt

    with Cache(url) as cache, pytest.raises(KeyboardInterrupt):
        cache.prewarm(stopping(), lambda r: asked.append(r) or answer(r), concurrency=2)
    with Cache(url) as cache:
        report = cache.prewarm(REQUESTS, lambda r: asked.append(r) or answer(r), concurrency=2)
    assert report.total == 20
    assert report.already + report.computed == 20
    assert len(asked) == 20


def test_one_failure_is_told_and_does_not_stop_the_rest() -> None:
    def sometimes(request: dict[str, Any]) -> Computed:
        if request is REQUESTS[3]:
            raise TimeoutError("too slow")
        return answer(request)

    with Cache() as cache:
        report = cache.prewarm(REQUESTS, sometimes)
        assert (report.computed, report.failed) == (19, 1)
        assert [(failure.position, failure.error) for failure in report.failures] == [(3, "TimeoutError: too slow")]
        assert cache.prewarm(REQUESTS, answer).computed == 1


def test_a_request_without_a_key_is_a_failure_of_its_own() -> None:
    with Cache() as cache:
        report = cache.prewarm([{"messages": [object()], "model": "m"}, "fine"], lambda r: "x")
    assert (report.computed, report.failed) == (1, 1)
    assert "KeyingError" in report.failures[0].error


def test_answers_that_may_not_be_stored_are_counted_apart() -> None:
    with Cache() as cache:
        report = cache.prewarm(["a", "b"], lambda r: Computed(r, store=False, reason="truncated") if r == "a" else r)
    assert (report.computed, report.not_stored) == (1, 1)


def test_no_more_than_the_given_number_run_at_once() -> None:
    running, most, lock, full = [0], [0], threading.Lock(), threading.Event()

    def slow(request: Any) -> str:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
            if running[0] == 3:
                full.set()
        assert full.wait(10)
        with lock:
            running[0] -= 1
        return "x"

    with Cache() as cache:
        cache.prewarm([f"k{n}" for n in range(12)], slow, concurrency=3)
    assert most[0] == 3


def test_requests_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def source() -> Iterator[str]:
        for n in range(100):
            taken.append(n)
            yield f"k{n}"

    seen: list[int] = []
    with Cache() as cache:
        cache.prewarm(source(), lambda r: seen.append(len(taken)) or "x", concurrency=1)
    assert seen == list(range(1, 101))


def test_progress_is_told_after_every_request() -> None:
    told: list[PrewarmReport] = []
    with Cache() as cache:
        cache.prewarm(REQUESTS, answer, progress=told.append, concurrency=1)
    assert [report.total for report in told] == list(range(1, 21))


async def test_the_async_face_prewarms_alike() -> None:
    async def compute(request: dict[str, Any]) -> Computed:
        if request is REQUESTS[0]:
            raise TimeoutError("too slow")
        return answer(request)

    async with AsyncCache() as cache:
        report = await cache.prewarm(REQUESTS, compute, concurrency=4, rate=1e6)
        assert (report.computed, report.failed, report.cost.usd_micros) == (19, 1, 190)
        assert await cache.get(REQUESTS[1]) == "answer to question 1"


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"concurrency": 1.5}, {"rate": 0}, {"rate": -1}])
def test_a_wrong_setting_is_named(wrong: dict[str, Any]) -> None:
    with Cache() as cache, pytest.raises(ConfigurationError, match=next(iter(wrong))):
        cache.prewarm([], answer, **wrong)


@given(rate=st.floats(0.1, 1000.0), gaps=st.lists(st.floats(0.0, 5.0), min_size=2, max_size=40))
def test_starts_are_never_closer_than_the_rate_allows(rate: float, gaps: list[float]) -> None:
    pace, now, starts = Pace(rate), 0.0, []
    for gap in gaps:
        now += gap
        starts.append(now + pace.delay(now))
    assert all(later - earlier >= 1 / rate - 1e-6 for earlier, later in itertools.pairwise(starts))


def test_without_a_rate_nothing_waits() -> None:
    pace = Pace(None)
    assert [pace.delay(5.0) for _ in range(3)] == [0.0, 0.0, 0.0]

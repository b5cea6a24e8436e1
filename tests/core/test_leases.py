"""Single flight between processes, on one SQLite file: one computes, a dead holder delays, an overslept one yields."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import Cache
from agentcache_core.computing import FLIGHTS

FORK = multiprocessing.get_context("fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def _compute_once(url: str, log: str, gate: Any) -> None:
    with Cache(["memory://", url]) as cache:

        def compute() -> str:
            with Path(log).open("a") as file:
                file.write("x")
            return "answer"

        gate.wait(60)
        assert cache.get_or_compute("k", compute) == "answer"


def _hold_for_ever(url: str, ready: Any) -> None:
    with Cache(url) as cache:

        def compute() -> None:
            ready.set()
            signal.pause()

        cache.get_or_compute("k", compute)


def test_many_processes_compute_a_cold_key_once(tmp_path: Path) -> None:
    url, log = f"sqlite:///{tmp_path}/cache.db", tmp_path / "log"
    gate = FORK.Barrier(4)
    children = [FORK.Process(target=_compute_once, args=(url, str(log), gate)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    assert log.read_text() == "x"


def test_a_killed_holder_delays_the_others_by_at_most_its_lease(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    ready = FORK.Event()
    child = FORK.Process(target=_hold_for_ever, args=(url, ready))
    child.start()
    assert ready.wait(60)
    with Cache(url) as cache:
        store = cache._core.tiers.authority.store("blocking")  # type: ignore[union-attr]
        name = cache._space.lease_name(cache.key("k"))
        assert store.backend.inner.acquire(name, 1.0) is None  # the child holds it
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(60)
        assert cache.get_or_compute("k", lambda: 2) == 2  # ends: the lease runs out by itself


def test_an_overslept_holder_does_not_overwrite_a_newer_answer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url) as slow, Cache(url) as other:
        slow._core.engine.leases.seconds = 3600.0  # no renewal comes within this test

        def oversleeps() -> str:
            store = other._core.tiers.authority.store("blocking").backend.inner  # type: ignore[union-attr]
            name = other._space.lease_name(other.key("k"))
            row = next(iter(store.scan(b"")), None)
            assert row is not None  # the generation, at least
            _break_lease(store, name)
            assert other.get_or_compute("k", lambda: "newer") == "newer"
            return "overslept"

        assert slow.get_or_compute("k", oversleeps) == "overslept"
        assert other.get("k") == "newer"
        assert slow.get("k") == "newer"


def _break_lease(store: Any, name: bytes) -> None:
    """What time does to a lease whose holder sleeps: it runs out, and another is granted and given back."""
    from agentcache_core.clock import ManualClock

    late = ManualClock()
    late.advance(7200)
    before, store._now = store._now, late.now
    try:
        grant = store.acquire(name, 10.0)
        assert grant is not None
        assert store.release(name, grant)
    finally:
        store._now = before


def test_computations_of_two_processes_that_need_each_other_both_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    gate = FORK.Barrier(2)
    children = [FORK.Process(target=_needs, args=(url, mine, other, gate)) for mine, other in (("a", "b"), ("b", "a"))]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0


def _needs(url: str, mine: str, other: str, gate: Any) -> None:
    with Cache(url) as cache:

        def compute() -> str:
            gate.wait(60)
            return mine + cache.get_or_compute(other, lambda: other)

        assert set(cache.get_or_compute(mine, compute)) == {"a", "b"}


async def test_the_async_face_takes_and_gives_back_the_lease(tmp_path: Path) -> None:
    cache = Cache(f"sqlite:///{tmp_path}/cache.db")
    assert await cache.aio.get_or_compute("k", lambda: 1) == 1
    assert cache.get("k") == 1
    store = cache._core.tiers.authority.store("blocking").backend.inner  # type: ignore[union-attr]
    assert store.acquire(cache._space.lease_name(cache.key("k")), 1.0) is not None
    assert FLIGHTS.open_count() == 0
    await cache.aio.close()

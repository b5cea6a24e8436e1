"""Single flight between processes where the authority has no leases: another shared tier keeps them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agentcache_core import Cache, Tier
from agentcache_core.backend import Capabilities
from agentcache_core.leasing import Proof
from agentcache_core.testing import DictBackend, ManualClock


class Plain:
    """A shared store without leases or a log, as object stores are."""

    capabilities = Capabilities(durable=True, shared=True, native_deadline=True)

    def __init__(self) -> None:
        inner = DictBackend()
        self.get, self.put, self.delete = inner.get, inner.put, inner.delete
        self.scan, self.close, self.get_many, self.put_many = inner.scan, inner.close, inner.get_many, inner.put_many


class Shared(DictBackend):
    capabilities = Capabilities(shared=True, native_deadline=True)


def _caches(count: int, *, limit: int | None = None) -> tuple[list[Cache], Any, Any]:
    middle, cold = Shared(), Plain()
    return [Cache([Tier(middle, max_value=limit), cold], background=False) for _ in range(count)], middle, cold


@pytest.mark.parametrize("limit", [None, 0], ids=["copied", "too large for the middle"])
def test_caches_that_share_a_middle_tier_with_leases_compute_once(limit: int | None) -> None:
    caches, _, _ = _caches(4, limit=limit)
    computed: list[int] = []
    started, go = threading.Event(), threading.Event()

    def compute() -> str:
        computed.append(1)
        started.set()
        assert go.wait(60)
        return "answer"

    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda c=cache: answers.append(c.get_or_compute("k", compute)), daemon=True)
        for cache in caches
    ]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    go.set()
    for thread in threads:
        thread.join(60)
    assert answers == ["answer"] * 4
    assert len(computed) == 1


def _overslept(cache: Cache, other: Cache, middle: Any, how: Callable[[], None]) -> None:
    """The first holder's lease runs out while it computes; `how` is what happens then; then it delivers."""
    cache._core.engine.leases.seconds = 3600.0  # no renewal comes within this test

    def oversleeps() -> str:
        middle._leases[other._space.lease_name(other.key("k"))].until = 0.0
        how()
        return "overslept"

    assert cache.get_or_compute("k", oversleeps) == "overslept"


def test_one_that_overslept_does_not_overwrite_a_newer_answer_on_an_authority_without_leases() -> None:
    (slow, other), middle, cold = _caches(2)
    _overslept(slow, other, middle, lambda: other.get_or_compute("k", lambda: "newer"))
    for cache in (slow, other, Cache([Tier(cold)]), Cache([middle, cold])):
        assert cache.get("k") == "newer"


def test_nor_one_that_is_overtaken_between_its_proof_and_its_write() -> None:
    (slow, other), middle, cold = _caches(2)
    slow.set("k", "stale", ttl=0.0001, stale_if_error=3600)
    leases = slow._core.engine.leases
    proven = leases.proof

    def overtaken(*args: Any) -> Proof:
        proof = proven(*args)

        async def renew() -> bool:
            held = await proof.renew()
            middle._leases[other._space.lease_name(other.key("k"))].until = 0.0
            other.get_or_compute("k", lambda: "newer")
            return held

        return Proof(renew, proof.stands)

    def compute() -> str:
        leases.proof = overtaken  # type: ignore[method-assign]
        return "overslept"

    assert slow.get_or_compute("k", compute) == "overslept"
    for cache in (slow, other, Cache([Tier(cold)])):
        assert cache.get("k") == "newer"


def test_nor_one_whose_answer_would_have_been_written_back() -> None:
    middle, cold = Shared(), Plain()
    clock = ManualClock()
    slow = Cache(["memory://", middle, Tier(cold, write="back")], clock=clock)
    other = Cache([middle, cold], clock=clock, background=False)

    def oversleeps() -> str:
        clock.advance(11)
        middle._leases[other._space.lease_name(other.key("k"))].until = 0.0
        other.get_or_compute("k", lambda: "newer")
        return "overslept"

    assert slow.get_or_compute("k", oversleeps) == "overslept"
    assert slow._core.background.drain(30)
    for cache in (other, Cache([Tier(cold)], clock=clock)):
        assert cache.get("k") == "newer"


def test_the_authority_keeps_the_leases_where_it_can() -> None:
    middle, cold = Shared(), Shared()
    cache = Cache([middle, cold], background=False)
    held: list[tuple[int, int]] = []
    cache.get_or_compute("k", lambda: held.append((len(middle._leases), len(cold._leases))))
    assert held == [(0, 1)]


def test_without_any_tier_that_has_leases_everybody_computes() -> None:
    cold = Plain()
    first, second = Cache(cold, background=False), Cache(cold, background=False)
    assert first.get_or_compute("k", lambda: second.get_or_compute("k", lambda: "second") and "first") == "first"


def test_waiting_asks_the_tier_that_keeps_the_lease_and_not_the_authority() -> None:
    (holder, waiter), _, cold = _caches(2)
    asked = 0
    inner = cold.get_many

    def count(names: Any) -> Any:
        nonlocal asked
        asked += 1
        return inner(names)

    started, go = threading.Event(), threading.Event()

    def compute() -> str:
        started.set()
        assert go.wait(60)
        return "answer"

    thread = threading.Thread(target=lambda: holder.get_or_compute("k", compute), daemon=True)
    thread.start()
    assert started.wait(60)
    joined = threading.Event()
    waiter.events.subscribe(lambda event: joined.set() if event.name == "joined" else None)
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(waiter.get_or_compute("k", compute)), daemon=True)
    waiting.start()
    assert joined.wait(60)
    tries = waiter._core.tiers.stored[0].store("blocking").backend.inner
    before = len(tries._leases)
    cold.get_many = count
    pauses = threading.Event()
    pauses.wait(0.5)  # a dozen pauses of the waiting one, or many more requests to the authority
    assert asked <= 1
    go.set()
    thread.join(60)
    waiting.join(60)
    assert answers == ["answer"]
    assert before == 1

"""What an answer is worth: what is copied into hotter tiers, and what a bounded store keeps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core import Cache, Cost, Tier
from agentcache_core.policy.worth import DEAR, KEEP, SECOND, WINDOW, earns_copy, weight, worth
from agentcache_core.promoting import MOST_SEEN, Recent
from agentcache_core.testing import DictBackend, ManualClock

CHEAP = Cost()
COSTS = st.builds(Cost, usd_micros=st.integers(0, 10**9), seconds=st.floats(0, 1e5))


@given(COSTS, st.integers(0, 10**9), st.floats(0, 2e9))
def test_a_weight_is_a_time_from_now_on_that_grows_with_worth_and_never_beyond_what_is_kept_for_good(
    cost: Cost, size: int, now: float
) -> None:
    assert now <= weight(cost, size, now=now) < KEEP
    dearer = Cost(usd_micros=cost.usd_micros * 2 + 1, seconds=cost.seconds)
    assert weight(dearer, size, now=now) >= weight(cost, size, now=now)
    assert weight(cost, size + 1000, now=now) <= weight(cost, size, now=now)
    assert weight(cost, size, now=now + 1.0) > weight(cost, size, now=now)


@given(COSTS, st.integers(0, 10**9))
def test_what_is_read_again_earns_its_copy_whatever_it_cost(cost: Cost, size: int) -> None:
    assert earns_copy(cost, size, again=True)
    assert earns_copy(cost, size, again=False) is (worth(cost, size) >= DEAR)


def test_worth_is_dollars_and_seconds_for_each_kib() -> None:
    assert worth(Cost(usd_micros=5000), 1024) == 5000.0
    assert worth(Cost(seconds=2.0), 2048) == SECOND
    assert worth(CHEAP, 10) == 0.0
    assert worth(Cost(usd_micros=5), 1) == worth(Cost(usd_micros=5), 512)


def test_an_entry_is_recent_for_its_window_and_for_as_long_as_few_others_are_read() -> None:
    recent = Recent()
    assert recent.again(b"a", 0.0) is False
    assert recent.again(b"a", WINDOW) is True
    assert recent.again(b"a", 3 * WINDOW) is False
    now = 3 * WINDOW
    for number in range(MOST_SEEN):
        recent.again(b"%d" % number, now)
    assert recent.again(b"a", now) is True
    for number in range(3 * MOST_SEEN):
        recent.again(b"other %d" % number, now)
    assert recent.again(b"a", now) is False
    assert len(recent._now) + len(recent._before) <= 2 * MOST_SEEN


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _tiers_of(cache: Cache, key: str, times: int) -> list[str]:
    return [hit.tier for hit in (cache.lookup(key) for _ in range(times)) if hit is not None]


def _open(clock: ManualClock, **limits: bool) -> tuple[Cache, Cache]:
    """A cache over a hot and a cold tier, and one that writes to the cold tier alone."""
    cold = DictBackend(clock=clock)
    cache = Cache([Tier(Hot(clock=clock), **limits), cold], background=False, clock=clock)
    cache.get("anything")
    return cache, Cache(cold, background=False, clock=clock)


class Hot(DictBackend):
    """The hot tier, by its name."""


def test_a_cheap_answer_is_copied_when_it_is_read_again_and_a_dear_one_at_once(clock: ManualClock) -> None:
    cache, writer = _open(clock)
    writer.set("cheap", "x" * 2000)
    writer.set("dear", "x" * 2000, cost=Cost(usd_micros=3000, seconds=2.0))
    assert _tiers_of(cache, "cheap", 4) == ["DictBackend", "DictBackend", "Hot", "Hot"]
    assert _tiers_of(cache, "dear", 3) == ["DictBackend", "Hot", "Hot"]


def test_a_second_reading_counts_within_its_window(clock: ManualClock) -> None:
    cache, writer = _open(clock)
    writer.set("k", 1)
    for _ in range(3):
        assert _tiers_of(cache, "k", 1) == ["DictBackend"]
        clock.advance(WINDOW + 1)
    assert _tiers_of(cache, "k", 2) == ["DictBackend", "DictBackend"]
    clock.advance(WINDOW / 2)
    assert _tiers_of(cache, "k", 1) == ["Hot"]


def test_memory_takes_every_answer_at_once() -> None:
    cold = DictBackend()
    Cache(cold, background=False).set("k", 1)
    cache = Cache(["memory://", Hot(), cold], background=False)
    cache.get("anything")
    assert _tiers_of(cache, "k", 3) == ["DictBackend", "memory", "memory"]


def test_many_read_together_are_judged_one_by_one(clock: ManualClock) -> None:
    cache, writer = _open(clock)
    writer.set_many([("a", 1), ("b", 2)])
    writer.set("c", 3, cost=Cost(usd_micros=10_000))
    cache.get("a")
    assert cache.get_many(["a", "b", "c"]) == [1, 2, 3]
    assert [_tiers_of(cache, key, 1) for key in ("a", "b", "c")] == [["Hot"], ["DictBackend"], ["Hot"]]


def test_a_tier_that_is_not_promoted_into_takes_nothing(clock: ManualClock) -> None:
    cache, writer = _open(clock, promote=False)
    writer.set("k", 1, cost=Cost(usd_micros=10**6))
    assert _tiers_of(cache, "k", 4) == ["DictBackend"] * 4


def test_a_full_store_gives_up_cheap_answers_before_dear_ones_and_never_what_makes_them_servable(
    tmp_path: Path,
) -> None:
    cache = Cache(f"sqlite:///{tmp_path}/cache.db?max_bytes=1MB", deadline="60s", maintenance="manual")
    chance = random.Random(5)  # nothing that could be compressed
    for number in range(20):
        cache.set(f"dear {number}", chance.randbytes(3000), cost=Cost(usd_micros=20_000, seconds=4.0), tags=["dear"])
    lineage = cache._space.generation
    assert lineage is not None
    for number in range(1500):
        cache.set(f"cheap {number}", chance.randbytes(3000), tags=[f"t{number % 3}"])
    cache.distrust()
    dear = [cache.get(f"dear {number}", None) for number in range(20)]
    cheap = [cache.get(f"cheap {number}", None) for number in range(1500)]
    assert cache._space.generation is not None
    assert cache._space.generation.lineage == lineage.lineage
    assert sum(value is not None for value in dear) == 20
    assert 20 < sum(value is not None for value in cheap) < 1000
    assert cheap[-1] is not None  # what was stored last
    cache.close()

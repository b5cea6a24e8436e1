"""Moves between tiers: within the limits of each tier, at a bounded rate, and never onto what is newer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core import MISSING, Cache, Tier
from agentcache_core.authority import TOMBSTONE_SECONDS
from agentcache_core.backend import Capabilities
from agentcache_core.errors import BackendUnavailable
from agentcache_core.moves import BURST, LONGEST_SLEEP, Mover, Pace
from agentcache_core.policy.placement import DAY, CostModel, Move, Prices, Rules
from agentcache_core.runtime import BlockingRuntime, drive
from agentcache_core.testing import DictBackend, FaultyBackend, ManualClock
from agentcache_core.urls import open_backend

LARGE = {"text": "a large answer, " * 3000}
HOT = Rules(hot=0.5, cold=0.1)
COLD = Rules(hot=1, cold=1, cold_after=0)


class Warm(DictBackend):
    """A hot tier, told apart from the authority by its name."""


def opened(tiers: Any, clock: ManualClock, **options: Any) -> Cache:
    return Cache(tiers, clock=clock, background=False, maintenance="manual", **options)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def busy(cold: Any, clock: ManualClock, value: Any = "v", **options: Any) -> None:
    """Store an entry on the cold tier alone, and read it so often that it belongs in a hot one."""
    with opened(cold, clock) if isinstance(cold, str) else opened(Kept(cold), clock) as cache:
        cache.set("key", value, **options)
        for _ in range(20):
            assert cache.get("key") == value
        cache.maintain()


class Kept(FaultyBackend):
    """A backend that outlives the caches on it."""

    def close(self) -> None:
        """What is stored can still be looked at."""


@pytest.mark.redis
def test_what_maintenance_promotes_lives_in_the_hot_tier_no_longer_than_the_tier_keeps_anything(
    redis_url: str, tmp_path: Path
) -> None:
    cold, clock = f"file://{tmp_path}/store", ManualClock()
    busy(cold, clock, ttl="30d")
    with opened([Tier(redis_url, max_age="60s"), cold], clock) as cache:
        assert cache.maintain().moved == 1
    hot: Any = open_backend(redis_url)
    (stat,) = [stat for stat in hot.scan(b"") if b"/e/" in stat.name]
    assert stat.expires_at is not None
    assert 0 < stat.expires_at - clock.now() <= 61


def test_what_has_grown_too_large_or_was_removed_since_the_survey_is_not_promoted(clock: ManualClock) -> None:
    for change in ("grown", "removed", "expired"):
        warm, cold = Warm(clock=clock), DictBackend(clock=clock)
        busy(cold, clock, ttl="1h")
        cache = opened([Tier(warm, max_value=100), cold], clock)
        plan = cache.maintain(dry_run=True).plan
        assert [move.verb for move in plan.moves] == ["promote"]
        writer = opened(cold, clock)
        if change == "grown":
            writer.set("key", "v" * 200)
        elif change == "removed":
            writer.delete("key")
        else:
            clock.advance(3601)
        assert not moved(cache, plan.moves[0], clock), change
        assert not [stat for stat in warm.scan(b"") if b"/e/" in stat.name]


def moved(cache: Cache, move: Move, clock: ManualClock) -> bool:
    tiers = cache._core.tiers
    assert tiers.authority is not None
    mover = Mover(BlockingRuntime(), cache._space, tiers.stored, tiers.authority, clock=clock)
    return drive(mover.make(move, None))  # type: ignore[arg-type]  # a promotion asks nothing of the survey


def test_an_entry_that_was_deleted_while_a_tier_was_away_does_not_come_back_by_being_moved_out_of_it(
    clock: ManualClock,
) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    away = FaultyBackend(warm)
    cache = opened([away, cold], clock)
    cache.set("key", LARGE)
    away.fail()
    cache.delete("key")
    clock.advance(TOMBSTONE_SECONDS + 40 * DAY)
    after = opened([warm, cold], clock)  # another program, which owes that tier nothing
    assert after.get("key") is MISSING
    after.maintain()
    assert after.get("key") is MISSING
    assert opened(cold, clock).get("key") is MISSING


def test_what_is_promoted_after_a_tier_missed_a_write_is_served_by_that_tier(clock: ManualClock) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    away = FaultyBackend(warm)
    cache = opened([away, cold], clock)
    cache.set("other", 1)
    busy(cold, clock)
    away.fail()
    cache.set("other", 2)  # which that tier misses
    after = opened([warm, cold], clock)
    assert after.maintain(policy=HOT).moved == 1
    hit = opened([warm, cold], clock).lookup("key")
    assert hit is not None
    assert hit.tier == "Warm"


def test_a_copy_of_a_middle_tier_is_not_moved_up_when_it_may_have_missed_a_write(clock: ManualClock) -> None:
    class Middle(DictBackend):
        """A tier in between."""

    hot, middle, cold = Warm(clock=clock), Middle(clock=clock), DictBackend(clock=clock)
    away = FaultyBackend(middle)
    cache = opened([away, cold], clock)
    cache.set("key", "old")
    for _ in range(20):
        assert opened(cold, clock).get("key") == "old"
    away.fail()
    cache.set("key", "new")
    after = opened([hot, middle, cold], clock)
    move = Move(next(stat.name for stat in cold.scan(b"") if b"/e/" in stat.name), 3, "promote", 1, 0, "", 0.0)
    assert not moved(after, move, clock)
    assert after.get("key") == "new"


def test_an_entry_whose_blob_is_lost_is_left_where_it_is_and_is_no_trouble(clock: ManualClock) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    busy(cold, clock, LARGE)
    for stat in list(cold.scan(b"")):
        if stat.name[16:19] == b"/x/":
            cold.delete(stat.name)
    report = opened([warm, cold], clock).maintain(policy=HOT)
    assert (len(report.plan.moves), report.moved, report.trouble) == (1, 0, {})


@pytest.mark.parametrize("policy", [COLD, CostModel()])
def test_only_moves_that_will_be_made_are_planned(clock: ManualClock, policy: Any) -> None:
    class Private(DictBackend):
        capabilities = Capabilities(native_deadline=True)

    class Shared(DictBackend):
        capabilities = Capabilities(native_deadline=True, shared=True, durable=True)

    tiers = [Warm(clock=clock), Shared(clock=clock), Private(clock=clock)]
    cache = opened(tiers, clock)
    assert cache.stats().authority == "Shared"
    cache.set("key", LARGE)
    prices = {"Warm": Prices(gb_month=8), "Shared": Prices(gb_month=4), "Private": Prices(gb_month=0.1)}
    report = cache.maintain(policy=policy, prices=prices)
    assert [(move.source, move.target) for move in report.plan.moves] == [(0, 1)]
    assert report.moved == 1
    assert opened(tiers, clock).get("key") == LARGE


class Resting(BlockingRuntime):
    """Lets time pass on a clock instead of waiting."""

    __slots__ = ("clock", "slept")

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)


@given(st.lists(st.integers(0, 200_000_000), min_size=1, max_size=80), st.sampled_from([0.0, 0.001, 0.05]))
def test_however_large_or_many_moves_never_run_ahead_of_both_rates(sizes: list[int], each: float) -> None:
    """In every span of time at most a rate's worth of moves begins, and the burst that may run ahead."""
    clock, pace = ManualClock(), Pace(moves=100, size=50_000_000)
    begun: list[tuple[float, int]] = []
    for size in sizes:
        clock.advance(pace.delay(clock.monotonic(), size))
        begun.append((clock.monotonic(), size))
        clock.advance(each)
    for first in range(len(begun)):
        for last in range(first, len(begun)):
            span = begun[last][0] - begun[first][0] + BURST + 1e-6
            assert last - first <= span * 100
            assert sum(size for _, size in begun[first:last]) <= span * 50_000_000


def test_maintenance_makes_its_moves_at_that_rate(clock: ManualClock) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    cache = opened([warm, cold], clock)
    cache.set_many([(f"key {number}", number) for number in range(150)])
    clock.advance(40 * DAY)
    resting = Resting(clock)
    began = clock.monotonic()
    report = drive(cache._core.maintenance.run(resting, cache._space))
    assert (report.moved, report.trouble) == (150, {})
    assert clock.monotonic() - began >= 149 / 100 - BURST
    assert sum(resting.slept) == pytest.approx(clock.monotonic() - began)


def test_a_mover_that_waits_ends_soon_after_it_is_told_to(clock: ManualClock) -> None:
    asked = 0

    def go_on() -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise BackendUnavailable("the cache is closing")

    cold = DictBackend(clock=clock)
    cache = opened([Warm(clock=clock), cold], clock)
    tiers, resting = cache._core.tiers, Resting(clock)
    mover = Mover(resting, cache._space, tiers.stored, cold_of(cache), clock=clock, go_on=go_on)
    huge = Move(b"n" * 67, 10**12, "promote", 1, 0, "", 0.0)
    assert not drive(mover.make(huge, None))  # type: ignore[arg-type]  # a promotion asks nothing of the survey
    with pytest.raises(BackendUnavailable):
        drive(mover.make(huge, None))  # type: ignore[arg-type]  # likewise
    assert sum(resting.slept) <= 3 * LONGEST_SLEEP


def cold_of(cache: Cache) -> Any:
    return cache._core.tiers.authority

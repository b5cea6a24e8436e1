"""Maintenance: sweeps every tier, forgets old bans, moves entries where they belong, and shows it all beforehand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentcache_core import MISSING, AsyncCache, Cache, Tier
from agentcache_core.backend import Capabilities
from agentcache_core.policy.placement import DAY, CostModel, Prices, Rules
from agentcache_core.resilience import in_threads
from agentcache_core.store.blobs import GRACE
from agentcache_core.testing import DictBackend, FaultyBackend, ManualClock, SlowBackend


def large(number: int) -> dict[str, Any]:
    return {"number": number, "text": f"large answer {number}, " * 1500}


class Warm(DictBackend):
    """A hot tier, told apart from the authority by its name."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def names(backend: DictBackend, part: bytes) -> list[bytes]:
    return [stat.name for stat in backend.scan(b"") if part in stat.name]


def test_a_dry_run_changes_nothing_and_shows_what_a_run_does(clock: ManualClock) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    cache = Cache([warm, cold], clock=clock)
    for number in range(3):
        cache.set(f"key {number}", large(number))
    cache.delete("key 0")
    clock.advance(40 * DAY)
    before = [sorted(stat.name for stat in backend.scan(b"")) for backend in (warm, cold)]
    told = cache.maintain(dry_run=True)
    assert before == [sorted(stat.name for stat in backend.scan(b"")) for backend in (warm, cold)]
    done = cache.maintain()
    assert (told.plan.moves, told.moved) == (done.plan.moves, 0)
    assert done.moved == len(done.plan.moves) == 2
    assert {tier: report.unnamed for tier, report in told.swept.items()} == {
        tier: report.unnamed for tier, report in done.swept.items()
    }
    assert done.swept["DictBackend"].unnamed == 1


def test_memory_alone_is_only_expired(clock: ManualClock) -> None:
    cache = Cache(clock=clock)
    cache.set("a", 1, ttl=1)
    clock.advance(2)
    report = cache.maintain()
    assert (report.expired, report.swept) == (1, {})


def test_invalidated_entries_go_in_every_namespace_of_the_tenant_and_no_other(clock: ManualClock) -> None:
    backend = DictBackend(clock=clock)
    cache = Cache(backend, clock=clock)
    for view in (cache, cache.namespace("n"), cache.tenant("t")):
        view.set("tagged", 1, tags=["tag"])
        view.set("pattern:1", 1)
        view.set("kept", 1)
        view.invalidate(tag="tag")
        view.invalidate(pattern="pattern:*")
    fresh = Cache(backend, clock=clock)  # another process, which has used none of the namespaces
    assert fresh.maintain().swept["DictBackend"].dead == 4
    assert len(names(backend, b"/e/")) == 5
    assert [view.get("kept") for view in (cache, cache.namespace("n"), cache.tenant("t"))] == [1, 1, 1]
    assert fresh.tenant("t").maintain().swept["DictBackend"].dead == 2


def test_a_whole_namespace_invalidated_is_swept(clock: ManualClock) -> None:
    backend = DictBackend(clock=clock)
    cache = Cache(backend, clock=clock)
    cache.set("a", large(1))
    cache.namespace("n").set("b", large(2))
    cache.invalidate(namespace="n")
    clock.advance(2 * GRACE)
    swept = cache.maintain().swept["DictBackend"]
    assert (swept.dead, swept.unnamed) == (1, 1)
    assert cache.get("a") == large(1)


def test_a_ban_is_forgotten_only_by_a_run_long_after_the_one_that_passed_it(clock: ManualClock) -> None:
    backend = DictBackend(clock=clock)
    cache = Cache(backend, clock=clock)
    cache.set("x:1", 1)
    cache.set("other", 1)
    cache.invalidate(pattern="x:*")
    assert cache.maintain().bans_dropped == 0
    clock.advance(60)
    assert cache.maintain().bans_dropped == 0
    clock.advance(3600)
    assert cache.maintain().bans_dropped == 1
    assert cache.maintain().bans_dropped == 0
    assert cache.get("x:1") is MISSING
    assert Cache(backend, clock=clock).get("other") == 1


def test_an_answer_computed_from_before_a_ban_does_not_come_back_through_maintenance(clock: ManualClock) -> None:
    backend = DictBackend(clock=clock)
    cache, other = Cache(backend, clock=clock), Cache(backend, clock=clock, maintenance="manual")

    def compute() -> str:
        other.invalidate(pattern="x:*")
        other.maintain()
        clock.advance(120)
        other.maintain()
        return "from before"

    cache.get_or_compute("x:1", compute)
    assert Cache(backend, clock=clock).get("x:1") is MISSING


def test_an_entry_read_often_is_copied_into_the_hot_tier_and_one_unread_for_a_month_leaves_it(
    clock: ManualClock,
) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    cache = Cache([Tier(warm, write="around"), cold], clock=clock, maintenance="manual")
    plain = Cache(cold, clock=clock)
    plain.set("busy", large(1))
    plain.set("idle", large(2))
    for _ in range(9):
        assert plain.get("busy") == large(1)
    plain.maintain()
    report = cache.maintain()
    assert [(move.verb, move.reason) for move in report.plan.moves] == [("promote", "hit rate 0.90 above 0.8")]
    assert len(names(warm, b"/e/")) == 1
    assert len(names(warm, b"/x/")) == 1
    clock.advance(200 * DAY)
    demoted = cache.maintain(policy=Rules(cold=0.5, hot=0.95))
    assert [(move.verb, move.saves >= 0) for move in demoted.plan.moves] == []
    demoted = cache.maintain(policy=Rules(cold=0.95, hot=0.95), prices={"Warm": Prices(gb_month=8)})
    assert [(move.verb, move.saves > 0) for move in demoted.plan.moves] == [("demote", True)]
    assert names(warm, b"/e/") == []
    assert plain.get("busy") == large(1)


def test_the_cost_model_can_be_asked_instead(clock: ManualClock) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    cache = Cache([warm, cold], clock=clock)
    cache.set("key", large(1))
    prices = {"Warm": Prices(gb_month=8), "DictBackend": Prices(gb_month=0.02, thousand_reads=0.0004)}
    told = cache.maintain(dry_run=True, policy=CostModel(), prices=prices)
    assert [move.verb for move in told.plan.moves] == ["demote"]
    assert told.plan.saves > 0


def test_a_demotion_copies_first_what_the_authority_does_not_have(clock: ManualClock) -> None:
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    cache = Cache([warm, cold], clock=clock)
    cache.set("key", large(1))
    (entry,) = names(cold, b"/e/")
    cold.delete(entry)
    for blob in names(cold, b"/x/"):
        cold.delete(blob)
    clock.advance(40 * DAY)
    assert cache.maintain().moved == 1
    assert (len(names(warm, b"/e/")), len(names(cold, b"/e/"))) == (0, 1)
    assert Cache(cold, clock=clock).get("key") == large(1)


@pytest.mark.parametrize("verb", ["put", "delete", "touch", "get"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_move_that_breaks_off_at_any_step_loses_nothing(verb: str, after: bool, times: int) -> None:
    clock = ManualClock()
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    Cache([warm, cold], clock=clock).set("key", large(1))
    (entry,) = names(cold, b"/e/")
    cold.delete(entry)
    clock.advance(40 * DAY)
    broken_warm, broken_cold = FaultyBackend(warm), FaultyBackend(cold)
    for broken in (broken_warm, broken_cold):
        broken.fail(verb, times=times, after=after)
    Cache([broken_warm, broken_cold], clock=clock).maintain()
    assert Cache([warm, cold], clock=clock).get("key") == large(1)


def test_trouble_with_a_tier_is_told_and_the_others_are_maintained(clock: ManualClock) -> None:
    warm, cold = FaultyBackend(Warm(clock=clock)), DictBackend(clock=clock)
    cache = Cache([warm, cold], clock=clock)
    cache.set("key", large(1))
    cache.delete("key")
    clock.advance(2 * GRACE)
    warm.fail("scan")
    report = cache.maintain()
    (trouble,) = report.trouble.values()
    assert "planned failure" in trouble
    assert report.swept["DictBackend"].unnamed == 1


def test_maintenance_comes_by_itself_behind_a_store_once_it_is_due(clock: ManualClock) -> None:
    backend = DictBackend(clock=clock)
    with Cache(backend, clock=clock, background=False) as cache, Cache(backend, clock=clock, background=False) as other:
        cache.set("gone", large(1))
        cache.delete("gone")
        clock.advance(2 * GRACE)
        assert len(names(backend, b"/x/")) == 1
        cache.set("key", 1)
        assert len(names(backend, b"/x/")) == 0
        noted = backend.get(names(backend, b"/m")[0])
        other.set("key", 2)  # due there too, but it was done a moment ago
        assert backend.get(names(backend, b"/m")[0]) == noted


def test_maintenance_by_hand_never_comes_by_itself(clock: ManualClock) -> None:
    backend = DictBackend(clock=clock)
    cache = Cache(backend, clock=clock, background=False, maintenance="manual")
    cache.set("gone", large(1))
    cache.delete("gone")
    clock.advance(2 * GRACE)
    cache.set("key", 1)
    assert len(names(backend, b"/x/")) == 1


def test_a_store_that_charges_for_each_call_is_maintained_only_when_asked(clock: ManualClock) -> None:
    class Metered(DictBackend):
        capabilities = Capabilities(native_deadline=True, metered=True)

    backend = Metered(clock=clock)
    cache = Cache(backend, clock=clock, background=False)
    cache.set("gone", large(1))
    cache.delete("gone")
    clock.advance(2 * GRACE)
    cache.set("key", 1)
    assert len(names(backend, b"/x/")) == 1
    assert cache.maintain().swept["Metered"].unnamed == 1


def test_the_async_face_maintains_too() -> None:
    async def work() -> None:
        async with AsyncCache(in_threads(DictBackend())) as cache:
            await cache.set("key", large(1))
            report = await cache.maintain()
            assert report.trouble == {}
            assert sum(swept.entries for swept in report.swept.values()) == 1

    asyncio.run(work())


def test_closing_does_not_wait_for_maintenance_that_is_under_way() -> None:
    class Kept(DictBackend):
        def close(self) -> None:
            """What is stored can still be looked at."""

    clock = ManualClock()
    inner = Kept(clock=clock)
    slow = SlowBackend(inner, verbs=("get_many",))
    cache = Cache(slow, clock=clock, deadline=60)
    for number in range(300):
        cache.set(f"key {number}", number)
    slow.hold()
    clock.advance(2 * GRACE)
    cache.set("due", 1)  # maintenance begins behind this write, and hangs at its first batch
    cache._core.background.stop()
    slow.let_go()
    cache.close()
    assert not names(inner, b"/m"), "it was not finished, and says so"
    assert Cache(inner, clock=clock).get("key 7") == 7

"""The limits of single tiers on size and age: what a tier does not take is not there, and nothing older is either."""

from __future__ import annotations

from typing import Any

import pytest

from agentcache_core import MISSING, Cache, Cost, Tier
from agentcache_core.errors import ConfigurationError
from agentcache_core.policy.placement import DAY
from agentcache_core.testing import DictBackend, ManualClock

LARGE, SMALL = "x" * 5000, "x" * 10
DEAR = Cost(usd_micros=10**6)


class Hot(DictBackend):
    """The hot tier, by its name."""


def _holds(store: DictBackend, cache: Cache, key: str) -> bool:
    """Whether an answer lies in a store, and not what says that there is none."""
    name = cache._space.entry_name(cache.key(key))
    found = store.get(name)
    return bool(found) and bool(cache._core.tiers.stored[0].decode(cache._space, name, found).kind)


def _open(*tiers: Any, **options: Any) -> Cache:
    return Cache(list(tiers), background=False, deadline="60s", **options)


def test_an_authority_takes_nothing_beyond_its_limit_and_says_why() -> None:
    store = DictBackend()
    cache = _open(Tier(store, max_value="1KiB"))
    heard: list[str] = []
    cache.events.subscribe(lambda event: heard.append(event.reason) if event.name == "not_stored" else None)
    assert cache.set("k", LARGE) is False
    assert cache.get("k") is MISSING
    assert not _holds(store, cache, "k")
    assert cache.get_or_compute("k", lambda: LARGE) == LARGE
    assert cache.set("k", SMALL) is True
    assert cache.stats().reasons == {"larger than the authority takes": 2}
    assert heard == ["larger than the authority takes"] * 2


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "no memory"])
@pytest.mark.parametrize("many", [True, False], ids=["set_many", "set"])
def test_an_answer_that_the_authority_does_not_take_is_nowhere_and_what_it_replaced_is_gone_everywhere(
    memory: bool, many: bool
) -> None:
    hot, cold = Hot(), DictBackend()
    tiers = [*(["memory://"] if memory else []), hot, Tier(cold, max_value="1KiB")]
    cache, other = _open(*tiers), _open(*tiers, max_staleness="1h")
    cache.set("k", SMALL, cost=DEAR)
    cache.set("j", SMALL)
    for _ in range(2):
        assert other.get("k") == SMALL
    if many:
        assert cache.set_many([("k", LARGE), ("j", SMALL)]) == 1
    else:
        assert cache.set("k", LARGE) is False
    assert cache.get("k") is MISSING
    other.distrust()
    assert other.get("k") is MISSING
    assert other.get("j") == SMALL


def test_a_large_answer_to_what_was_never_stored_changes_nothing() -> None:
    cache = _open(Tier(DictBackend(), max_value=100))
    cache.set("j", SMALL)
    before = cache._space.generation
    for _ in range(3):
        cache.get_or_compute("k", lambda: LARGE)
    assert cache._space.generation == before


def test_a_large_answer_does_not_remove_a_newer_one() -> None:
    store = DictBackend()
    cache, other = (_open(Tier(store, max_value="1KiB")) for _ in range(2))

    def compute() -> str:
        other.delete("k")
        other.set("k", SMALL)
        return LARGE

    assert cache.get_or_compute("k", compute) == LARGE
    assert other.get("k") == SMALL
    assert cache.get("k") == SMALL


def test_nothing_larger_is_written_back_or_spilled() -> None:
    store = DictBackend()
    back = Cache(["memory://", Tier(store, write="back", max_value="1KiB")], deadline="60s")
    assert back.set("k", {"large": LARGE}) is False
    assert back.get("k") is MISSING
    around = Cache(["memory://?max_entries=2", Tier(store, write="around", max_value="1KiB")], deadline="60s")
    around.set_many([(f"k{number}", {"large": LARGE}) for number in range(5)])
    for cache in (back, around):
        assert cache._core.background.drain(30)
    assert not any(_holds(store, around, f"k{number}") for number in range(5))


def test_an_authority_with_a_least_size_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"min_value.*DictBackend.*authority"):
        _open(Hot(), Tier(DictBackend(), min_value="10KiB"))
    with pytest.raises(ConfigurationError, match="min_value"):
        _open(Tier(DictBackend(), min_value=1))
    _open(Tier(Hot(), min_value="10KiB"), DictBackend())


def test_a_hotter_tier_takes_what_is_within_its_limits() -> None:
    hot, cold = Hot(), DictBackend()
    cache = _open(Tier(hot, min_value=100, max_value=10_000), cold)
    for key, value in (("small", SMALL), ("fitting", LARGE), ("large", LARGE * 3)):
        cache.set(key, value, cost=DEAR)
        cache.get(key)
    assert [_holds(hot, cache, key) for key in ("small", "fitting", "large")] == [False, True, False]
    cache.set("fitting", SMALL)
    assert cache.get("fitting") == SMALL
    assert not _holds(hot, cache, "fitting")


def test_a_tier_keeps_nothing_longer_than_its_age_allows() -> None:
    clock = ManualClock()
    hot, cold = Hot(clock=clock), DictBackend(clock=clock)
    cache = _open(Tier(hot, max_age="1m"), Tier(cold, max_age="1h"), clock=clock)
    cache.set("written", SMALL, ttl="1d", cost=DEAR)
    hot.delete(cache._space.entry_name(cache.key("written")))
    cache.get("written")
    cache.set_many([("a", SMALL), ("b", SMALL)])
    keys = ("written", "a", "b")
    assert [_holds(hot, cache, key) for key in keys] == [True] * 3
    clock.advance(61)
    assert [_holds(hot, cache, key) for key in keys] == [False] * 3
    assert [cache.get(key) for key in keys] == [SMALL] * 3
    clock.advance(3600)
    assert [cache.get(key) for key in keys] == [MISSING] * 3


def test_a_tier_of_memory_is_bounded_by_its_url_and_refuses_limits_of_its_own() -> None:
    for limit in ({"max_value": "1MiB"}, {"min_value": 1}, {"max_age": "1m"}, {"write": "back"}, {"promote": False}):
        with pytest.raises(ConfigurationError, match="max_bytes"):
            Cache(Tier("memory://", **limit))
    Cache(Tier("memory://?max_entries=10")).close()


def test_maintenance_moves_nothing_into_an_authority_that_it_does_not_take() -> None:
    clock = ManualClock()
    hot, cold = Hot(clock=clock), DictBackend(clock=clock)
    cache = _open(hot, cold, clock=clock)
    cache.set("k", LARGE)
    cache.set("j", SMALL)
    for key in ("k", "j"):
        cold.delete(cache._space.entry_name(cache.key(key)))
    narrower = _open(hot, Tier(cold, max_value="1KiB"), clock=clock)
    clock.advance(40 * DAY)
    narrower.maintain()
    assert [_holds(cold, cache, key) for key in ("k", "j")] == [False, True]
    assert [_holds(hot, cache, key) for key in ("k", "j")] == [True, False]

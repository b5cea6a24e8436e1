"""How entries are used reaches the store by itself: soon, when a process closes, and at a cost that does not grow."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import AsyncCache, Cache
from agentcache_core.access import (
    JOURNALS,
    MOST_IN_JOURNAL,
    MOST_NOTED,
    AccessLog,
    journal_name,
    read_all,
    write_back,
)
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.figures import INTERVAL
from agentcache_core.policy.placement import Access
from agentcache_core.resilience import in_threads
from agentcache_core.runtime import Immediate, drive
from agentcache_core.space import Space
from agentcache_core.testing import DictBackend, FaultyBackend, ManualClock

NOW = 1_800_000_000.0
PREFIX = Space("", "", None).access_prefix


class Warm(DictBackend):
    """A hot tier, told apart from the authority by its name."""


class Kept(FaultyBackend):
    """A backend that outlives the caches on it, and counts what they ask."""

    def close(self) -> None:
        """What is stored can still be looked at."""


def uses(store: Any, now: float = NOW) -> dict[bytes, Access]:
    """Everything stored about use, added up."""

    async def collect() -> dict[bytes, Access]:
        found: dict[bytes, Access] = {}
        async for digest, access in read_all(Immediate(store), Pipeline(), PREFIX):
            found[digest] = found[digest].merged(access, now) if digest in found else access
        return found

    return drive(collect())


def noted(*numbers: int) -> dict[bytes, list[float]]:
    return {number.to_bytes(32, "little"): [2.0, 1.0, NOW] for number in numbers}


def written(store: Any, what: dict[bytes, list[float]], **options: Any) -> int:
    return drive(write_back(Immediate(store), Pipeline(), PREFIX, what, now=NOW, **options))


@pytest.fixture(params=["sqlite", "file", pytest.param("redis", marks=pytest.mark.redis)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    places = {"sqlite": f"sqlite:///{tmp_path}/cache.db", "file": f"file://{tmp_path}/cache"}
    url: str = places.get(request.param) or request.getfixturevalue("redis_url")
    return url


def test_a_plan_sees_what_other_programs_read_before_they_closed(place: str, tmp_path: Path) -> None:
    with Cache(place, deadline="10s") as writer:
        writer.set("key", "value", ttl="40d")
    for number in range(3):
        with Cache(place, deadline="10s") as worker:
            for _ in range(20):
                assert worker.get("key") == "value" if number else worker.get_many(["key", "key"]) == ["value"] * 2
    with Cache([f"sqlite:///{tmp_path}/hot.db?durability=normal", place], maintenance="manual") as cache:
        if cache.stats().authority.startswith(place[:6]):
            (move,) = cache.maintain(dry_run=True).plan.moves
            assert (move.verb, move.target) == ("promote", 0)
    with Cache(place, maintenance="manual") as alone:
        (use,) = _stored_use(alone).values()
        assert use.hits == pytest.approx(80, rel=0.01)


def _stored_use(cache: Cache) -> dict[bytes, Access]:
    authority = cache._core.tiers.authority
    assert authority is not None

    async def collect() -> dict[bytes, Access]:
        found: dict[bytes, Access] = {}
        store, pipeline = authority.store("blocking"), authority.pipeline(cache._space)
        async for digest, access in read_all(store, pipeline, cache._space.access_prefix):
            found[digest] = found[digest].merged(access, access.at) if digest in found else access
        return found

    return drive(collect())


@pytest.mark.parametrize("many", [False, True], ids=["one by one", "in batches"])
def test_use_is_written_back_every_few_seconds_while_a_program_reads(many: bool) -> None:
    clock = ManualClock()
    store = DictBackend(clock=clock)
    cache = Cache(store, clock=clock, background=False, maintenance="manual")
    cache.set("key", 1)
    for _ in range(10):
        assert (cache.get_many(["key"]) if many else [cache.get("key")]) == [1]
    assert uses(store) == {}
    clock.advance(INTERVAL)
    cache.get_many(["key"]) if many else cache.get("key")
    (use,) = uses(store).values()
    assert (use.hits, use.computed) == (11, 1)


def test_the_async_face_writes_use_back_when_it_closes() -> None:
    store = Kept(DictBackend())

    async def work() -> None:
        async with AsyncCache(in_threads(store), maintenance="manual") as cache:
            await cache.set("key", 1)
            for _ in range(5):
                assert await cache.get("key") == 1

    asyncio.run(work())
    (use,) = uses(store).values()
    assert use.hits == 5


def test_a_dry_run_sees_what_this_program_has_not_written_back_and_leaves_it_unwritten() -> None:
    clock = ManualClock()
    warm, cold = Warm(clock=clock), DictBackend(clock=clock)
    Cache(cold, clock=clock, background=False).set("key", 1)
    cache = Cache(["memory://?max_entries=1", warm, cold], clock=clock, background=False, maintenance="manual")
    for stat in list(warm.scan(b"")):
        warm.delete(stat.name)
    assert cache.get("key") == 1
    for stat in list(warm.scan(b"")):
        warm.delete(stat.name)
    before = {stat.name for stat in cold.scan(b"")}
    (move,) = cache.maintain(dry_run=True).plan.moves
    assert move.verb == "promote"
    assert {stat.name for stat in cold.scan(b"")} == before
    assert cache.maintain().plan.moves == (move,)


def test_a_batch_costs_one_read_and_one_write_however_many_entries_it_names() -> None:
    for count in (1, 100, MOST_IN_JOURNAL):
        store = FaultyBackend(DictBackend())
        assert written(store, noted(*range(count))) == 1
        assert store.calls == {"get": 1, "put": 1}
        assert len(uses(store)) == count


def test_nothing_is_lost_or_counted_twice_when_full_journals_are_folded() -> None:
    store = FaultyBackend(DictBackend())
    for turn in range(60):
        written(store, noted(*range(turn * 700, turn * 700 + 1400)))
    found = uses(store)
    assert len(found) == 61 * 700
    assert sum(access.hits for access in found.values()) == pytest.approx(2 * 60 * 1400)
    names = [stat.name for stat in store.scan(PREFIX)]
    assert set(names) <= {journal_name(PREFIX, number) for number in range(JOURNALS)} | {
        PREFIX + bytes([first]) for first in range(256)
    }
    assert store.calls["put"] < 60 * 1400 / 4


def test_who_closes_folds_nothing() -> None:
    store = FaultyBackend(DictBackend())
    for turn in range(40):
        written(store, noted(*range(turn * 1000, turn * 1000 + 1000)), folding=False)
    assert {stat.name[: len(PREFIX) + 1] for stat in store.scan(PREFIX)} == {PREFIX + b"+"}
    assert store.calls["put"] == 40


def test_two_programs_that_write_the_same_journal_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = DictBackend()
    draws = iter([3] * 100)
    monkeypatch.setattr("agentcache_core.access.random.randrange", lambda _: next(draws))

    class Between(FaultyBackend):
        left = 1

        def run(self, verb: str, call: Any, /, *args: Any, **options: Any) -> Any:
            answer = call(*args, **options)
            if verb == "get" and self.left:
                self.left -= 1
                written(inner, noted(1, 2))
            return answer

    written(Between(inner), noted(2, 3))
    assert {digest[0]: access.hits for digest, access in uses(inner).items()} == {1: 2, 2: 4, 3: 2}


def test_what_is_noted_stays_bounded_and_what_was_noted_first_keeps_counting() -> None:
    log = AccessLog()
    for number in range(MOST_NOTED + 10):
        log.hit(number.to_bytes(32, "big"), 1.0)
    log.hit((0).to_bytes(32, "big"), 2.0)
    assert len(log) == MOST_NOTED
    kept = log.drain()
    assert kept[(0).to_bytes(32, "big")] == [2.0, 0.0, 2.0]
    assert len(kept) == MOST_NOTED
    assert len(log) == 0


def test_a_program_that_only_looks_after_a_cache_writes_no_use() -> None:
    store = Kept(DictBackend())
    with Cache(store, maintenance="manual") as cache:
        cache.uncounted()
        cache.set("key", 1)
        cache.get("key")
    assert uses(store) == {}

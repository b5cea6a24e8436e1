"""How often a store is asked: once for many keys, twice where blobs are involved, whatever stands there already."""

from __future__ import annotations

from typing import Any

import pytest

from agentcache_core import MISSING, AsyncCache, Cache, Cost
from agentcache_core.resilience import in_threads
from agentcache_core.testing import DictBackend, FaultyBackend

COUNT = 100
DEAR = Cost(usd_micros=1_000_000, seconds=60.0)
GENERATION, TELLING, LOOKING = 1, 3, 1
"""Requests beside those for the entries: the stamp before; a generation read, written and logged; a look at what
stands."""


class Untouching:
    """A store with batches that cannot touch, as object stores are."""

    def __init__(self) -> None:
        inner = DictBackend()
        self.capabilities = inner.capabilities
        for verb in ("get", "put", "delete", "scan", "close", "get_many", "put_many", "delete_many"):
            setattr(self, verb, getattr(inner, verb))


def _pairs(kind: str, version: str = "") -> list[tuple[str, str]]:
    padding = "x" * 20_000 if kind == "blobs" else ""
    return [(f"k{number}", f"{number} {version} {padding}") for number in range(COUNT)]


@pytest.fixture(params=[DictBackend, Untouching], ids=["touch", "no touch"])
def stores(request: pytest.FixtureRequest) -> tuple[FaultyBackend, FaultyBackend]:
    return FaultyBackend(request.param()), FaultyBackend(request.param())


def _open(stores: tuple[FaultyBackend, ...]) -> Cache:
    cache = Cache(list(stores), background=False, maintenance="manual", deadline="60s")
    cache.set("first", 1)
    for store in stores:
        store.calls.clear()
    return cache


def _asked(store: FaultyBackend) -> int:
    return sum(store.calls.values())


@pytest.mark.parametrize(("kind", "trips"), [("entries", 1), ("blobs", 2)])
def test_many_new_answers_take_one_request_to_each_tier(
    stores: tuple[FaultyBackend, FaultyBackend], kind: str, trips: int
) -> None:
    hot, cold = stores
    cache = _open(stores)
    assert cache.set_many(_pairs(kind)) == COUNT
    assert _asked(hot) == trips
    assert _asked(cold) == GENERATION + trips
    assert cache.get_many([key for key, _ in _pairs(kind)]) == [value for _, value in _pairs(kind)]


@pytest.mark.parametrize(("kind", "trips"), [("entries", 1), ("blobs", 2)])
def test_many_answers_that_replace_others_take_a_few_requests_and_one_generation(
    stores: tuple[FaultyBackend, FaultyBackend], kind: str, trips: int
) -> None:
    hot, cold = stores
    cache = _open(stores)
    cache.set_many(_pairs(kind))
    before = cache._space.generation
    hot.calls.clear()
    cold.calls.clear()
    assert cache.set_many(_pairs(kind, "new")) == COUNT
    after = cache._space.generation
    assert before is not None
    assert after is not None
    assert after.seq == before.seq + 1
    assert _asked(hot) == LOOKING + trips
    assert _asked(cold) <= GENERATION + trips + LOOKING + 1 + TELLING
    for view in (cache, Cache(list(stores), deadline="60s"), Cache(cold, deadline="60s")):
        view.distrust()
        assert view.get_many([key for key, _ in _pairs(kind)]) == [value for _, value in _pairs(kind, "new")]


def test_the_same_large_answers_again_are_touched_in_one_request() -> None:
    store = FaultyBackend(DictBackend())
    cache = _open((store,))
    cache.set_many(_pairs("blobs"))
    store.calls.clear()
    cache.set_many([(f"other {key}", value) for key, value in _pairs("blobs")])
    assert store.calls == {"get": GENERATION, "put_many": 2, "touch_many": 1}
    assert cache.stats().dedup.ratio == 2.0


def test_equal_large_answers_of_one_batch_are_one_blob() -> None:
    store = FaultyBackend(DictBackend())
    cache = _open((store,))
    value = "the same " * 5000
    assert cache.set_many([(f"k{number}", value) for number in range(COUNT)]) == COUNT
    blobs = [stat for stat in store.scan(b"") if stat.name[16:19] == b"/x/"]
    assert len(blobs) == 1
    assert cache.stats().dedup.ratio == COUNT


def test_a_blob_that_many_entries_of_a_batch_name_outlives_them_all() -> None:
    store = DictBackend()
    cache = Cache(store, background=False)
    value = "the same " * 5000
    cache.set("long", value, ttl="10d")
    cache.set_many([(f"k{number}", value) for number in range(3)], ttl="1d")
    (blob,) = [stat for stat in store.scan(b"") if stat.name[16:19] == b"/x/"]
    assert blob.expires_at is not None
    entry = store.get(cache._space.entry_name(cache.key("long")))
    assert entry
    entries = [stat.expires_at for stat in store.scan(cache._space.entries_prefix)]
    assert blob.expires_at > max(at for at in entries if at is not None)


@pytest.mark.parametrize(("kind", "trips"), [("entries", 1), ("blobs", 2)])
def test_many_answers_found_in_a_cold_tier_are_copied_in_one_request(
    stores: tuple[FaultyBackend, FaultyBackend], kind: str, trips: int
) -> None:
    hot, cold = stores
    keys = [key for key, _ in _pairs(kind)]
    Cache(cold, background=False, maintenance="manual", deadline="60s").set_many(_pairs(kind), cost=DEAR)
    cache = _open(stores)
    assert len(cache.get_many(keys)) == COUNT
    assert _asked(hot) == 1 + trips
    assert _asked(cold) == trips
    hot.calls.clear()
    cold.calls.clear()
    assert MISSING not in cache.get_many(keys)
    assert _asked(hot) == trips
    assert _asked(cold) == 0


def test_the_epochs_of_many_tags_are_learned_in_one_request() -> None:
    store = FaultyBackend(DictBackend())
    cache = _open((store,))
    for number in range(20):
        cache.set(f"k{number}", number, tags=[f"t{number}", "all"])
    fresh = _open((store,))
    assert fresh.get_many([f"k{number}" for number in range(20)]) == list(range(20))
    assert _asked(store) == 2
    cache.invalidate(tag="t3")
    fresh.distrust()
    assert fresh.get_many(["k2", "k3"]) == [2, MISSING]


async def test_the_face_of_event_loops_asks_as_often() -> None:
    hot, cold = FaultyBackend(DictBackend()), FaultyBackend(DictBackend())
    cache = AsyncCache([in_threads(hot), in_threads(cold)], background=False, maintenance="manual", deadline="60s")
    await cache.set("first", 1)
    for version in ("old", "new"):
        assert await cache.set_many(_pairs("blobs", version)) == COUNT
    before = _asked(hot), _asked(cold)
    assert await cache.get_many([key for key, _ in _pairs("blobs")]) == [value for _, value in _pairs("blobs", "new")]
    assert (_asked(hot), _asked(cold)) == (before[0] + 2, before[1])
    await cache.close()


def test_near_copies_elsewhere_of_what_a_batch_replaces_go_and_no_others() -> None:
    store = DictBackend()
    near = Cache(["memory://", store], max_staleness="1h")
    other = Cache(store, background=False)
    other.set_many([(f"k{number}", "old") for number in range(10)])
    for _ in range(2):
        near.get_many([f"k{number}" for number in range(10)])
    home = near._home("text")
    assert len(home) == 10
    other.set_many([(f"k{number}", "new") for number in range(5)])
    _follow(near)
    assert sorted(str(key) for key in home) == [f"k{number}" for number in range(5, 10)]
    assert near.get_many([f"k{number}" for number in range(10)]) == ["new"] * 5 + ["old"] * 5


def test_a_middle_tier_that_misses_a_batch_owes_it() -> None:
    hot, cold = FaultyBackend(DictBackend()), FaultyBackend(DictBackend())
    cache, reader = _open((hot, cold)), Cache([hot, cold], background=False, maintenance="manual", deadline="60s")
    cache.set_many(_pairs("entries", "old"), cost=DEAR)
    reader.get("k0")
    hot.fail()
    cold.calls.clear()
    assert cache.set_many(_pairs("entries", "new"), cost=DEAR) == COUNT
    assert len(cache._core.tiers.pending) == COUNT
    assert _asked(cold) < 15
    hot.heal()
    reader.distrust()
    reader._core.tiers.stored[0].circuit.after_fork()
    assert reader.get_many([key for key, _ in _pairs("entries")]) == [value for _, value in _pairs("entries", "new")]


def test_one_of_a_batch_that_somebody_else_writes_meanwhile_is_written_by_itself() -> None:
    inner = DictBackend()
    store = FaultyBackend(inner)
    cache, other = _open((store,)), Cache(inner, background=False)
    cache.set_many([("a", 1), ("b", 1)])
    get_many = inner.get_many

    def overtaken(names: Any) -> Any:
        answer = get_many(names)
        if len(names) == 3:
            other.set("a", "theirs")
        return answer

    inner.get_many = overtaken  # type: ignore[method-assign]
    assert cache.set_many([("a", 2), ("b", 2)]) == 2
    assert Cache(inner).get_many(["a", "b"]) == [2, 2]


def _follow(cache: Cache) -> None:
    from agentcache_core.runtime import BLOCKING, drive

    follower = cache._core.tiers.follower
    assert follower is not None
    drive(follower.step(BLOCKING))

"""Setting, getting, views and values on every kind of tier, through both faces."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from agentcache_core import MISSING, AsyncCache, Cache, CacheControl, Cost, Freshness, Tier
from agentcache_core.clock import ManualClock
from agentcache_core.errors import (
    AgentCacheError,
    CacheClosed,
    ConfigurationError,
    KeyingError,
    NotCached,
    UnstorableValue,
)

CHAT = {"provider": "openai", "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.7}


@pytest.fixture(params=["memory", "sqlite", "both"])
def tiers(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    url = f"sqlite:///{tmp_path}/cache.db"
    return {"memory": ["memory://"], "sqlite": [url], "both": ["memory://", url]}[request.param]


def test_what_is_set_is_got_as_a_copy_of_the_callers_own(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        cache.set(CHAT, {"answer": [1, 2]})
        first = cache.get(CHAT)
        first["answer"].append(3)
        assert cache.get(CHAT) == {"answer": [1, 2]}


def test_none_is_a_value_and_absence_is_missing(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        assert cache.get("a") is MISSING
        assert cache.get("a", None) is None
        cache.set("a", None)
        assert cache.get("a") is None
        assert cache.lookup("a") is not None
        assert cache.lookup("b") is None


def test_missing_is_falsy_and_one_object_through_copy_and_pickle() -> None:
    assert not MISSING
    assert copy.deepcopy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING


def test_text_and_bytes_keys_are_different_keys(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        cache.set("a", 1)
        cache.set(b"a", 2)
        assert (cache.get("a"), cache.get(b"a")) == (1, 2)


def test_a_hit_tells_how_how_old_from_where_and_what_it_saved(tiers: list[str]) -> None:
    clock = ManualClock()
    with Cache(tiers, clock=clock) as cache:
        cache.set(CHAT, "x", ttl="1h", tags=["policy"], cost=Cost(usd_micros=120, output_tokens=3))
        clock.advance(60)
        hit = cache.lookup(CHAT)
        assert hit is not None
        assert (hit.value, hit.how, hit.freshness, hit.tags) == ("x", "exact", Freshness.FRESH, ("policy",))
        assert hit.age == pytest.approx(60, abs=0.01)
        assert hit.ttl == pytest.approx(3540, abs=0.01)
        assert hit.saved == Cost(usd_micros=120, output_tokens=3)
        assert cache.stats().saved.usd_micros == 120


def test_get_many_answers_in_request_order(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        assert cache.set_many([("a", 1), (CHAT, {"b": 2})], ttl=60, tags=["t"]) == 2
        assert cache.get_many(["x", CHAT, "a"]) == [MISSING, {"b": 2}, 1]
        cache.invalidate(tag="t")
        assert cache.get_many(["a", CHAT]) == [MISSING, MISSING]


def test_delete_answers_whether_there_was_one(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        cache.set("a", 1)
        assert cache.delete("a") is True
        assert cache.delete("a") is False
        assert cache.get("a") is MISSING
        cache.set("a", 2)
        assert cache.get("a") == 2


def test_tenants_and_namespaces_never_see_each_other(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        views = [
            cache,
            cache.tenant("acme"),
            cache.tenant("evil"),
            cache.namespace("n"),
            cache.tenant("acme").namespace("n"),
        ]
        for number, view in enumerate(views):
            view.set("k", number, tags=["t"])
        assert [view.get("k") for view in views] == [0, 1, 2, 3, 4]
        views[1].invalidate(tag="t")
        assert [view.get("k", None) for view in views] == [0, None, 2, 3, 4]


def test_a_tenants_view_cannot_leave_it_and_only_the_root_closes() -> None:
    with Cache() as cache:
        view = cache.tenant("acme")
        with pytest.raises(AgentCacheError, match="cannot reach another tenant"):
            view.namespace("n").tenant("evil")
        with pytest.raises(AgentCacheError, match="close the cache it was made from"):
            view.close()


def test_a_durable_cache_keeps_its_answers_over_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url, secret="s") as cache:
        cache.set(CHAT, {"a": 1}, tags=["t"])
    with Cache(["memory://", url], secret="s") as cache:
        assert cache.get(CHAT) == {"a": 1}
        cache.invalidate(tag="t")
    with Cache(url, secret="s") as cache:
        assert cache.get(CHAT) is MISSING


def test_another_secret_finds_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url, secret="s") as cache:
        cache.set("k", 1)
    with Cache(url, secret="other") as cache:
        assert cache.get("k") is MISSING


def test_an_unstorable_value_is_refused_by_set_and_passed_through_by_compute(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        with pytest.raises(UnstorableValue, match="object"):
            cache.set("k", {"a": [object()]})
        value = object()
        assert cache.get_or_compute("k", lambda: value) is value
        assert cache.get("k") is MISSING


def test_controls_narrow_one_call(tiers: list[str]) -> None:
    clock = ManualClock()
    with Cache(tiers, clock=clock) as cache:
        cache.set("k", 1)
        clock.advance(10)
        assert cache.lookup("k", control=CacheControl(max_age=5)) is None
        assert cache.lookup("k", control=CacheControl(max_age=15)) is not None
        assert cache.get_or_compute("k", lambda: 2, control=CacheControl(no_store=True, no_cache=True)) == 2
        assert cache.get("k") == 1
        assert cache.get_or_compute("k", lambda: 3, control=CacheControl(refresh=True)) == 3
        assert cache.get("k") == 3
        with pytest.raises(NotCached):
            cache.get_or_compute("other", lambda: 1, control=CacheControl(only_if_cached=True))


def test_samples_of_one_request_are_independent(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        answers = [cache.get_or_compute(CHAT, lambda n=n: n, control=CacheControl(sample=n)) for n in range(3)]
        assert answers == [0, 1, 2]
        assert [cache.get_or_compute("k", lambda n=n: n, control=CacheControl(sample=n)) for n in range(3)] == [0, 1, 2]
        assert cache.get_or_compute(CHAT, lambda: 9, control=CacheControl(sample=1)) == 1


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Cache("nosuch://x"), "installed: .*memory://"),
        (lambda: Cache("plain text"), "storage URL"),
        (lambda: Cache(ttl="soon"), "ttl='soon' is not a duration"),
        (lambda: Cache(ttl=-1), "at least 0"),
        (lambda: Cache(mode="fast"), "mode must be one of live"),
        (lambda: Cache("memory://?max_bytes=0"), "max_bytes"),
        (lambda: Cache("memory://?size=3"), "unknown option size"),
        (lambda: Cache([]), "at least one"),
        (lambda: Cache(["memory://", "memory://"]), "first tier"),
        (lambda: Cache(Tier("memory://", max_value=-5)), "max_value"),
        (lambda: Cache(deadline=0), "deadline"),
        (lambda: Cache(tenant=3), "tenant must be text"),
        (lambda: Cache(42), "a tier is a URL"),
    ],
)
def test_a_wrong_setting_is_named_at_construction(build: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        build()  # type: ignore[operator]


def test_wrong_use_is_named_and_changes_nothing() -> None:
    async def compute() -> int:
        return 1

    with Cache() as cache:
        cache.set("k", 1)
        with pytest.raises(ConfigurationError, match="aio"):
            cache.get_or_compute("k", compute)
        with pytest.raises(ConfigurationError, match="exactly one"):
            cache.invalidate()
        with pytest.raises(ConfigurationError, match="tag and pattern"):
            cache.invalidate(tag="a", pattern="b")
        with pytest.raises(ConfigurationError, match="bogus"):
            cache.invalidate(bogus=1)
        with pytest.raises(ConfigurationError, match="ttl"):
            cache.set("j", 1, ttl="ten")
        with pytest.raises(ConfigurationError, match=r"write \['policy'\]"):
            cache.set("j", 1, tags="policy")
        with pytest.raises(KeyingError):
            cache.get(object())
        assert cache.get("j") is MISSING
        assert cache.get("k") == 1


def test_a_closed_cache_raises_and_may_be_closed_again(tiers: list[str]) -> None:
    cache = Cache(tiers)
    cache.set("k", 1)
    view = cache.namespace("n")
    cache.close()
    cache.close()
    for call in (
        lambda: cache.get("k"),
        lambda: cache.set("k", 1),
        lambda: view.get("k"),
        lambda: cache.invalidate(tag="t"),
    ):
        with pytest.raises(CacheClosed):
            call()


async def test_both_faces_share_one_cache(tmp_path: Path) -> None:
    for tiers in (["memory://"], [f"sqlite:///{tmp_path}/a.db"], ["memory://", f"sqlite:///{tmp_path}/b.db"]):
        cache = Cache(tiers)
        cache.set(CHAT, {"a": 1})
        assert await cache.aio.get(CHAT) == {"a": 1}
        await cache.aio.set("b", 2)
        assert cache.get("b") == 2
        assert cache.aio.blocking is cache
        assert await cache.aio.get_many([CHAT, "x"]) == [{"a": 1}, MISSING]
        assert await cache.aio.delete("b") is True
        assert cache.get("b") is MISSING
        await cache.aio.close()


async def test_the_async_face_stands_alone(tiers: list[str]) -> None:
    async with AsyncCache(tiers) as cache:
        await cache.set("k", [1], ttl="1m", tags=["t"])
        assert await cache.get("k") == [1]
        assert await cache.get_or_compute("k", lambda: 5) == [1]

        async def compute() -> dict[str, int]:
            return {"n": 1}

        assert await cache.get_or_compute(CHAT, compute) == {"n": 1}
        assert await cache.invalidate(tag="t", count=True) == 1
        assert await cache.get("k") is MISSING
    with pytest.raises(CacheClosed):
        await cache.get("k")


def test_memory_holds_its_bounds_and_counts_what_it_gives_up() -> None:
    with Cache("memory://?max_entries=100") as cache:
        for number in range(1000):
            cache.set(f"k{number}", b"x")
        tier = cache.stats().tiers[0]
        assert tier.entries == 100
        assert tier.evictions == 900
    with Cache("memory://?max_bytes=100KB") as cache:
        for number in range(200):
            cache.set(f"k{number}", b"x" * 2000, tags=["t"] if number % 2 else ())
            size = cache.stats().tiers[0].size_bytes
            assert size is not None
            assert size <= 100_000


def test_a_used_entry_outlives_unused_ones() -> None:
    with Cache("memory://?max_entries=10") as cache:
        cache.set("kept", 1)
        for number in range(50):
            assert cache.get("kept") == 1
            cache.set(f"k{number}", b"x")
        assert cache.get("kept") == 1

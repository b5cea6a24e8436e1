"""Bad input gets an error that names what was wrong and how to mend it, and changes nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, AsyncCache, Cache, CacheControl, Cost, Tier
from agentcache_core.errors import AgentCacheError, CacheClosed, ConfigurationError, KeyingError, UnstorableValue

Wrong = Callable[[], Any]


class Foreign:
    """A type nobody registered."""


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache() as cache:
        cache.set("known", "value", tags=["t"])
        yield cache
        assert cache.get("known") == "value"  # whatever was wrong, it changed nothing


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Cache("nosuch://x"), r"nosuch.*memory.*sqlite"),
        (lambda: Cache("rediss+sentinel://x"), "rediss"),
        (lambda: Cache("just words"), "just words"),
        (lambda: Cache(""), "URL|url|empty"),
        (lambda: Cache([]), "tier"),
        (lambda: Cache(42), "42|int"),
        (lambda: Cache("memory://?max_bytes=-1"), "max_bytes"),
        (lambda: Cache("memory://?max_bytes=lots"), "max_bytes"),
        (lambda: Cache("memory://?max_entries=-5"), "max_entries"),
        (lambda: Cache("memory://?max_byte=1MB"), "max_byte"),
        (lambda: Cache("sqlite:///x.db?durability=some"), "durability"),
        (lambda: Cache(inline_max="-1"), "inline_max"),
        (lambda: Cache(inline_max=-1), "inline_max"),
        (lambda: Cache(ttl="soon"), "soon"),
        (lambda: Cache(ttl=-1), "ttl"),
        (lambda: Cache(ttl=float("nan")), "ttl"),
        (lambda: Cache(max_staleness="-5s"), "max_staleness"),
        (lambda: Cache(deadline=0), "deadline"),
        (lambda: Cache(mode="lively"), "mode.*live"),
        (lambda: Cache(tenant=3), "tenant"),
        (lambda: Cache(strict="no"), "strict.*True or False"),
        (lambda: Cache(background="no"), "background.*True or False"),
        (lambda: Cache(keyring=b"secret"), "keyring.*Keyring"),
        (lambda: Cache(clock=3), "clock.*monotonic"),
        (lambda: Cache(serializers=5), "serializers"),
        (lambda: Cache(serializers=[int]), "serializer.*load"),
        (lambda: Cache(namespace=None), "namespace"),
        (lambda: Tier("memory://", write="sideways"), "write"),
        (lambda: Tier("memory://", max_value=-1), "max_value"),
        (lambda: Tier("memory://", max_age="never"), "max_age|never"),
    ],
)
def test_a_setting_that_cannot_work_raises_at_construction(
    build: Wrong, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        build()
    assert re.search(named, str(caught.value), re.DOTALL), str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scheme_names_what_is_installed_and_the_extra_that_would_add_one() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Cache("nosuch://x")
    message = str(caught.value)
    for known in ("memory", "sqlite", "redis"):
        assert known in message
    assert "with pip install" in message


@pytest.mark.parametrize("ttl", ["soon", "10", "1x", "", "-5s", -1, float("inf"), [], True, "1h 5"])
def test_a_malformed_ttl_is_named(cache: Cache, ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        cache.set("k", "v", ttl=ttl)
    with pytest.raises(ConfigurationError, match="ttl"):
        cache.get_or_compute("k", lambda: pytest.fail("nothing is computed for a wrong call"), ttl=ttl)
    assert cache.lookup("k") is None


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"model": "m", "messages": [{"role": "user", "content": Foreign()}]}, r"messages\[0\].content"),
        ({"a": {1: "b"}}, "a"),
        (None, "NoneType"),
        (3.5, "float"),
        (Foreign(), "Foreign"),
    ],
)
def test_an_unkeyable_request_names_the_path(cache: Cache, request_: Any, path: str) -> None:
    for call in (
        lambda: cache.get(request_),
        lambda: cache.set(request_, "v"),
        lambda: cache.get_or_compute(request_, lambda: pytest.fail("nothing is computed")),
        lambda: cache.key(request_),
        lambda: cache.delete(request_),
    ):
        with pytest.raises(KeyingError, match=path):
            call()


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (Foreign(), "Foreign"),
        ({"a": [1, Foreign()]}, r"a\[1\]|a"),
        ({1: "x"}, "key|str"),
        (float("nan"), "nan|finite"),
        (lambda: 1, "function"),
        (object(), "object"),
        (iter([]), "iterator"),
        ("\ud800", "surrogate|text|UTF"),
    ],
)
def test_an_unstorable_value_is_refused_by_set_and_passed_on_by_get_or_compute(
    cache: Cache, value: Any, path: str
) -> None:
    with pytest.raises(UnstorableValue, match=path):
        cache.set({"model": "m", "x": 1}, value)
    assert cache.lookup({"model": "m", "x": 1}) is None
    assert cache.get_or_compute({"model": "m", "x": 1}, lambda: value) is value
    assert cache.lookup({"model": "m", "x": 1}) is None


def test_a_closed_cache_raises_on_every_call() -> None:
    cache = Cache()
    view = cache.namespace("n")
    cache.close()
    cache.close()
    for closed in (cache, view):
        for call in (
            lambda c: c.get("k"),
            lambda c: c.lookup("k"),
            lambda c: c.set("k", "v"),
            lambda c: c.get_or_compute("k", lambda: 1),
            lambda c: c.get_many(["k"]),
            lambda c: c.set_many([("k", "v")]),
            lambda c: c.delete("k"),
            lambda c: c.invalidate(tag="t"),
            lambda c: c.prewarm([], lambda r: r),
            lambda c: c.savings(),
            lambda c: asyncio.run(c.aio.get("k")),
        ):
            with pytest.raises(CacheClosed):
                call(closed)


def test_an_async_function_given_to_the_blocking_face_points_at_aio(cache: Cache) -> None:
    async def compute() -> int:
        return 1

    with pytest.raises(ConfigurationError, match=r"\.aio"):
        cache.get_or_compute("k", compute)
    with pytest.raises(ConfigurationError, match=r"coroutine.*\.aio"):
        cache.get_or_compute("k", lambda: compute())
    assert cache.lookup("k") is None


def test_memoize_tells_a_wrong_option_where_it_is_written(cache: Cache) -> None:
    with pytest.raises(ConfigurationError, match="soon"):
        cache.memoize(ttl="soon")
    with pytest.raises(ConfigurationError, match="function"):
        cache.memoize(5)


def test_only_functions_can_listen(cache: Cache) -> None:
    with pytest.raises(ConfigurationError, match="int"):
        cache.events.subscribe(5)


@pytest.mark.parametrize(
    ("selectors", "named"),
    [
        ({}, "exactly one"),
        ({"tag": "t", "pattern": "*"}, "exactly one"),
        ({"tags": ["t"]}, "exactly one|unexpected"),
        ({"tag": ["t"]}, "text"),
        ({"tag": ""}, "tag|exactly one|empty"),
        ({"pattern": ""}, "pattern|exactly one|empty"),
    ],
)
def test_invalidate_takes_exactly_one_selector(cache: Cache, selectors: dict[str, Any], named: str) -> None:
    with pytest.raises((ConfigurationError, TypeError), match=named):
        cache.invalidate(**selectors)


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.set("k", "v", tags="policy"),
        lambda cache: cache.set("k", "v", tags=[3]),
        lambda cache: cache.set("k", "v", tags=[""]),
        lambda cache: cache.set("k", "v", jitter=2.0),
        lambda cache: cache.set("k", "v", jitter="some"),
        lambda cache: cache.set("k", "v", cost=5),
        lambda cache: cache.get_or_compute("k", lambda: 1, control={"no_cache": True}),
        lambda cache: cache.get_or_compute("k", lambda: 1, store_if=True),
        lambda cache: cache.set("k", "v", stale_if_error="-1s"),
        lambda cache: cache.set("k", "v", ttl="1h", sliding=True, eager=1.5),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_stored(cache: Cache, call: Callable[[Cache], object]) -> None:
    with pytest.raises(ConfigurationError):
        call(cache)
    assert cache.lookup("k") is None


@pytest.mark.parametrize(
    "build",
    [
        lambda: Cost(usd_micros=-1),
        lambda: Cost(usd_micros=0.5),
        lambda: Cost(seconds=float("nan")),
        lambda: CacheControl(sample=-1),
        lambda: CacheControl(max_age=-1),
    ],
)
def test_a_noun_that_makes_no_sense_cannot_be_made(build: Wrong) -> None:
    with pytest.raises(ValueError, match=r"Cost\.|CacheControl\."):
        build()


def test_a_tenants_view_cannot_reach_another_tenant(cache: Cache) -> None:
    with pytest.raises(AgentCacheError, match="cannot reach another tenant"):
        cache.tenant("acme").tenant("globex")


def test_a_view_cannot_close_the_cache(cache: Cache) -> None:
    with pytest.raises(AgentCacheError, match="close the cache it was made from"):
        cache.namespace("n").close()


async def test_the_async_face_is_as_strict() -> None:
    async with AsyncCache() as cache:
        with pytest.raises(ConfigurationError, match="exactly one"):
            await cache.invalidate()
        with pytest.raises(ConfigurationError, match="ttl"):
            await cache.set("k", "v", ttl="soon")
        with pytest.raises(KeyingError):
            await cache.get(Foreign())
    with pytest.raises(CacheClosed):
        await cache.get("k")


def test_a_value_larger_than_the_memory_tier_takes_is_told_as_such() -> None:
    with Cache("memory://?max_bytes=1MB") as cache:
        assert cache.set("k", b"x" * 2_000_000) is False
        assert cache.set("k", {"text": "x" * 2_000_000}) is False
        assert cache.stats().reasons == {"larger than the memory tier takes": 2}
        assert cache.get_or_compute("k", lambda: b"y" * 2_000_000) == b"y" * 2_000_000


def test_an_option_that_does_not_exist_is_named_with_the_one_that_was_meant(cache: Cache) -> None:
    with pytest.raises(ConfigurationError, match="no option 'tll'; did you mean 'ttl'"):
        cache.set("k", 1, tll="1h")
    with pytest.raises(ConfigurationError, match="there are ttl, tags"):
        cache.get_or_compute("k", lambda: 1, zzzzzz=1)
    assert cache.get("k") is MISSING

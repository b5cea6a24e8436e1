"""Values above `inline_max` in a whole cache: stored once, served, and a lost or damaged blob is only a miss."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.backend import Stored
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.testing import DictBackend, FaultyBackend, TornBackend

LARGE = {"text": "a large answer, " * 2000, "parts": [1, 2.5, None]}


def blob_names(backend: DictBackend) -> list[bytes]:
    return [stat.name for stat in backend.scan(b"") if stat.name[16:19] == b"/x/"]


def open_on(backend: Any, **options: Any) -> Cache:
    return Cache(backend, **options)


def test_a_large_value_is_one_blob_however_many_keys_have_it() -> None:
    backend = DictBackend()
    cache = open_on(backend)
    for number in range(5):
        assert cache.set(f"key {number}", LARGE)
    assert [cache.get(f"key {number}") for number in range(5)] == [LARGE] * 5
    assert len(blob_names(backend)) == 1
    dedup = cache.stats().dedup
    assert dedup.logical == 5 * dedup.stored > 0
    assert dedup.ratio == 5.0


def test_small_values_stay_in_their_entries() -> None:
    backend = DictBackend()
    cache = open_on(backend)
    cache.set("key", {"text": "small"})
    assert blob_names(backend) == []
    assert cache.stats().dedup.ratio == 1.0


def test_namespaces_share_blobs_and_tenants_do_not() -> None:
    backend = DictBackend()
    cache = open_on(backend)
    for view in (cache, cache.namespace("a"), cache.namespace("b")):
        view.set("key", LARGE)
    assert len(blob_names(backend)) == 1
    for tenant in ("one", "two"):
        view = cache.tenant(tenant)
        view.set("key", LARGE)
        assert view.stats().dedup.ratio == 1.0
        assert view.get("key") == LARGE
    assert len(blob_names(backend)) == 3


def test_many_large_values_take_two_round_trips() -> None:
    backend = FaultyBackend(DictBackend())
    cache = open_on(backend)
    keys = [f"key {number}" for number in range(10)]
    cache.set_many([(key, {**LARGE, "key": key}) for key in keys])
    backend.calls.clear()
    assert [value["key"] for value in cache.get_many(keys)] == keys
    assert sum(backend.calls.values()) == 2


@pytest.mark.parametrize("how", ["lost", "cut", "flip", "empty", "garbage", "swapped"])
def test_a_lost_or_damaged_blob_is_a_miss_and_mends_itself(how: Any) -> None:
    backend = DictBackend()
    seen: list[str] = []
    cache = open_on(backend, keyring=Keyring({1: b"k" * 32}))
    cache.events.subscribe(lambda event: seen.append(event.name))
    cache.set("other", {"text": "another large answer, " * 2000})
    (other,) = blob_names(backend)
    cache.set("key", LARGE)
    (name,) = set(blob_names(backend)) - {other}
    held = backend.get(name)
    assert isinstance(held, Stored)
    if how == "lost":
        backend.delete(name)
    elif how == "swapped":
        another = backend.get(other)
        assert isinstance(another, Stored)
        backend.put(name, another.data)
    else:
        torn = TornBackend(backend, how).get(name)
        assert isinstance(torn, Stored)
        backend.put(name, torn.data)
    assert cache.get("key") is MISSING
    assert "corrupt" in seen
    assert cache.get_or_compute("key", lambda: LARGE) == LARGE
    assert cache.get("key") == LARGE


def test_an_encrypted_store_shows_nothing_of_a_large_value() -> None:
    backend = DictBackend()
    cache = open_on(backend, keyring=Keyring({1: b"k" * 32}), secret="s")
    cache.set("the plain key", LARGE, tags=["the tag"])
    held = b"".join(
        stored.data for stat in backend.scan(b"") if isinstance(stored := backend.get(stat.name), Stored)
    ) + b"".join(stat.name for stat in backend.scan(b""))
    assert not any(word in held for word in (b"large answer", b"plain key", b"the tag"))
    assert cache.get("the plain key") == LARGE


def test_a_pattern_of_an_encrypted_store_is_not_shown_either() -> None:
    backend = DictBackend()
    cache = open_on(backend, keyring=Keyring({1: b"k" * 32}))
    cache.set("customer:7", 1)
    cache.invalidate(pattern="customer:*")
    values = [stored.data for stat in backend.scan(b"") if isinstance(stored := backend.get(stat.name), Stored)]
    assert not any(b"customer" in value for value in values)
    assert open_on(backend, keyring=Keyring({1: b"k" * 32})).get("customer:7") is MISSING


def test_a_cache_without_the_keyring_neither_reads_nor_removes_what_is_encrypted() -> None:
    backend = DictBackend()
    owner = open_on(backend, keyring=Keyring({1: b"k" * 32}))
    owner.set("key", LARGE)
    assert open_on(backend).get("key") is MISSING
    assert owner.get("key") == LARGE


def test_the_async_face_serves_the_same_blobs() -> None:
    async def work() -> None:
        from agentcache_core.resilience import in_threads

        cache = AsyncCache(in_threads(DictBackend()))
        await cache.set("key", LARGE)
        assert await cache.get("key") == LARGE
        assert await cache.get_many(["key", "absent"]) == [LARGE, MISSING]
        await cache.close()

    asyncio.run(work())

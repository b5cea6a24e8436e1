"""`verify` finds exactly what is damaged, wherever it lies, and after `--repair` the next write stores it anew."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.backend import Stored
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.frame import BLOB
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.runtime import Immediate, drive
from agentcache_core.store.blobs import Blobs
from agentcache_core.testing import DictBackend
from agentcache_core.urls import open_backend
from agentcache_core.wrapping import Around

CONTENT = random.Random(11).randbytes(1_000_000)
ALIKE = "some words that are alike in every answer, "


class Warm(DictBackend):
    """A hot tier, told apart from the authority by its name."""


def opened(tiers: Any, **options: Any) -> Cache:
    return Cache(tiers, background=False, maintenance="manual", **options)


def verdict(cache: Cache, **options: Any) -> list[tuple[int, int, int]]:
    return [(told.damaged, told.repaired, told.unreadable) for told in cache.verify(**options).values()]


def largest(store: Any) -> bytes:
    name: bytes = max(store.scan(b""), key=lambda stat: stat.size).name
    return name


def damage(store: Any, name: bytes, at: int) -> None:
    held = store.get(name)
    assert isinstance(held, Stored)
    store.put(name, held.data[:at] + bytes([held.data[at] ^ 1]) + held.data[at + 1 :])


@pytest.fixture(params=["dict", "sqlite", "file", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "dict":
        return DictBackend()
    places = {"sqlite": f"sqlite:///{tmp_path}/cache.db", "file": f"file://{tmp_path}/cache"}
    return open_backend(places.get(request.param) or request.getfixturevalue("redis_url"))


@pytest.mark.parametrize("how", ["damaged", "lost"])
@pytest.mark.parametrize("fresh", [False, True], ids=["the same program", "another program"])
def test_a_broken_pack_is_taken_off_the_index_so_that_putting_the_asset_again_mends_it(
    store: Any, how: str, fresh: bool
) -> None:
    cache = opened(store)
    assert not cache.put_asset("key", CONTENT).deduplicated
    pack = largest(store)
    if how == "damaged":
        damage(store, pack, 500_000)
    else:
        store.delete(pack)
    assert verdict(opened(store) if fresh else cache, repair=True) == [(1, 1, 0)]
    with pytest.raises(KeyError):
        cache.open_asset("key")
    again = cache.put_asset("key", CONTENT)
    assert again.stored
    assert not again.deduplicated
    assert cache.open_asset("key").read() == CONTENT
    assert verdict(cache) == [(0, 0, 0)]


def test_of_two_copies_of_a_part_only_the_damaged_one_is_called_damaged() -> None:
    store = DictBackend()
    cache = opened(store)
    cache.put_asset("first", CONTENT)
    cache.put_asset("other", CONTENT[:400_000])
    pack = largest(store)
    damage(store, pack, 900_000)  # within `first`, not within `other`
    assert verdict(cache, repair=True) == [(1, 1, 0)]
    cache.put_asset("first", CONTENT)
    assert verdict(cache) == [(0, 0, 0)]
    damage(store, pack, 100_000)
    assert verdict(cache) == [(1, 0, 0)], "`other` lies in the old pack, `first` in a new one"


def test_an_asset_in_a_hot_tier_is_whole_when_its_parts_on_the_authority_are() -> None:
    warm, cold = Warm(), DictBackend()
    cache = opened([warm, cold])
    cache.put_asset("packed", CONTENT)
    cache.put_asset("small", b"small")
    assert verdict(cache) == [(0, 0, 0), (0, 0, 0)]
    assert [swept.missing for swept in cache.maintain().swept.values()] == [0, 0]
    damage(cold, largest(cold), 500_000)
    told = cache.verify(repair=True)
    assert [(one.damaged, one.repaired) for one in told.values()] == [(1, 1), (1, 1)]
    with pytest.raises(KeyError):
        opened([warm, cold]).open_asset("packed")
    assert cache.put_asset("packed", CONTENT).stored
    assert opened([warm, cold]).open_asset("packed").read() == CONTENT


def test_each_part_is_read_once_however_many_tiers_name_it() -> None:
    warm, cold = Warm(), DictBackend()
    cache = opened([warm, cold])
    cache.put_asset("key", CONTENT)
    told = cache.verify()
    assert [one.bytes_read > len(CONTENT) for one in told.values()] == [False, True]


def test_near_copies_of_what_was_repaired_are_not_served_by_anybody() -> None:
    store = DictBackend()
    reader = opened(["memory://", store], max_staleness=0)
    opened(store).put_asset("key", CONTENT)
    for _ in range(2):  # the second comes from memory
        assert reader.open_asset("key").size == len(CONTENT)
    damage(store, largest(store), 500_000)
    assert verdict(opened(store), repair=True) == [(1, 1, 0)]
    with pytest.raises(KeyError):
        reader.open_asset("key")


def compressed(store: Any) -> Cache:
    """A cache whose answers are compressed with a dictionary that it trained."""
    cache = opened(store)
    draw = random.Random(5)
    for number in range(400):
        cache.set(f"key {number}", {"user": f"user {number}", "text": ALIKE * 12 + str(draw.random())})
    assert cache.maintain().dictionaries
    cache.set("later", {"user": "user 7", "text": ALIKE * 12})
    return cache


def test_what_is_compressed_with_a_dictionary_can_be_verified_and_swept_by_any_program() -> None:
    store = DictBackend()
    cache = compressed(store)
    cache.set("gone", {"text": random.Random(1).randbytes(50_000)})
    cache.delete("gone")
    assert verdict(opened(store)) == [(0, 0, 0)]
    (swept,) = opened(store).sweep_all(grace=0).swept.values()
    assert (swept.unreadable, swept.unnamed) == (0, 1)
    assert opened(store).get("later")["user"] == "user 7"


def test_sweeping_all_tenants_lends_no_tenants_dictionary_to_another() -> None:
    store = DictBackend()
    compressed(store)
    operator = opened(store, tenant="")
    other = operator.tenant("other")
    operator.sweep_all()
    other.set("key", {"user": "user 7", "text": ALIKE * 12})
    assert opened(store).tenant("other").get("key")["user"] == "user 7"


@pytest.mark.parametrize("reading", [True, False], ids=["a reader", "verify"])
def test_a_blob_that_another_program_mended_meanwhile_is_not_removed(reading: bool) -> None:
    store = DictBackend()
    value = {"bytes": CONTENT[:50_000]}
    opened(store).set("key", value)
    blob = largest(store)
    whole = store.get(blob)
    assert isinstance(whole, Stored)
    damage(store, blob, 100)
    torn = store.get(blob)

    def mend() -> None:
        store.put(blob, whole.data)
        opened(store).set("other", value)

    class Mended(Around):
        """Somebody mends the blob right after it was first read."""

        def run(self, verb: str, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
            answer = call(*args, **options)
            if verb.startswith("get") and args[0] in (blob, [blob]) and store.get(blob) == torn:
                mend()
            return answer

    cache = opened(Mended(store))
    assert verdict(cache, repair=True) == [(1, 1, 0)] if not reading else cache.get("key") is MISSING
    assert opened(store).get("other") == value


def test_what_is_wrong_with_a_blob_is_looked_at_again_before_it_goes() -> None:
    store = DictBackend()
    blobs = Blobs(Immediate(store), Pipeline(), b"tenant/x/")
    ref = drive(blobs.put(b"payload", now=0.0)).ref
    assert drive(blobs.discard([ref])) == 0, "it is whole"
    damage(store, blobs.name(ref.digest), 31)
    assert drive(blobs.discard([ref])) == 1
    store.put(blobs.name(ref.digest), Pipeline(keyring=Keyring({1: b"k" * 32})).seal(BLOB, b"", b"payload"))
    assert drive(blobs.discard([ref])) == 0, "another program may read it"

"""Blobs, assets, the sweep, verify and moves between tiers on every store, real servers included."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.policy.placement import Rules
from agentcache_core.testing import ManualClock

LARGE = {"text": "a large answer, " * 3000}
CONTENT = random.Random(3).randbytes(6_000_000)

Opener = Callable[..., Cache]


@pytest.fixture(
    params=[
        "sqlite",
        "file",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("s3", marks=pytest.mark.s3),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cache.db"
    if request.param == "file":
        return f"file://{tmp_path}/cache"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def opened(place: Any, **options: Any) -> Cache:
    return Cache(place, background=False, maintenance="manual", deadline="30s", **options)


def test_large_values_are_stored_once_and_swept_when_nothing_names_them(place: str) -> None:
    with opened(place) as cache:
        for key in ("a", "b"):
            assert cache.set(key, LARGE)
        cache.set("gone", {"text": "gone " * 10_000}, tags=["t"])
        cache.invalidate(tag="t")
        assert cache.stats().dedup.logical > cache.stats().dedup.stored
        assert cache.get_many(["a", "b", "gone"]) == [LARGE, LARGE, MISSING]
        (told,) = cache.maintain(dry_run=True, grace=0).swept.values()
        (swept,) = cache.maintain(grace=0).swept.values()
        assert (swept.dead, swept.unnamed, swept.missing, swept.corrupt) == (1, 1, 0, 0)
        assert (told.dead, told.unnamed) == (1, 1)
        assert cache.get_many(["a", "b"]) == [LARGE, LARGE]
        (verified,) = cache.verify().values()
        assert (verified.damaged, verified.entries) == (0, 2)


def test_young_blobs_survive_a_sweep(place: str) -> None:
    with opened(place) as cache:
        cache.set("key", LARGE)
        cache.delete("key")
        (swept,) = cache.maintain().swept.values()
        assert (swept.young, swept.unnamed) == (1, 0)


def test_an_asset_is_streamed_found_again_and_read_by_ranges(place: str, tmp_path: Path) -> None:
    path = tmp_path / "asset"
    path.write_bytes(CONTENT)
    with opened(place) as cache:
        assert not cache.put_asset("key", path, content_type="x/y").deduplicated
        assert cache.put_asset("other", path).deduplicated
        assert cache.put_asset("changed", b"!" + CONTENT).stored
        assert cache.stats().dedup.ratio > 2.9
    with opened(place) as cache:
        with cache.open_asset("key") as asset:
            assert asset.read() == CONTENT
            assert asset.read_range(3_000_000, 1000) == CONTENT[3_000_000:3_001_000]
        assert cache.open_asset("changed").read_range(0, 11) == b"!" + CONTENT[:10]
        (verified,) = cache.verify().values()
        assert verified.damaged == 0
        (swept,) = cache.maintain(grace=0).swept.values()
        assert (swept.unnamed, swept.missing) == (0, 0)


async def test_the_async_face_streams_assets_on_real_stores(place: str) -> None:
    from agentcache_core import AsyncCache

    async with AsyncCache(place, background=False, maintenance="manual", deadline="30s") as cache:
        assert (await cache.put_asset("key", CONTENT)).stored
        asset = await cache.open_asset("key")
        assert await asset.readall() == CONTENT
        assert await cache.set("large", LARGE)
        assert await cache.get("large") == LARGE
        report = await cache.maintain(grace=0)
        assert report.trouble == {}


def test_moves_between_a_hot_tier_and_this_one(place: str, tmp_path: Path) -> None:
    hot = f"sqlite:///{tmp_path}/hot.db"
    with opened([hot, place]) as cache:
        cache.set("key", LARGE)
        assert cache.get("key") == LARGE
        plan = cache.maintain(dry_run=True, policy=Rules(hot=1, cold=1, cold_after=0)).plan
        if cache.stats().authority.startswith("sqlite"):
            assert plan.moves == () or plan.moves[0].verb == "demote"
            return
        assert [move.verb for move in plan.moves] == ["demote"]
        assert cache.maintain(policy=Rules(hot=1, cold=1, cold_after=0)).moved == 1
    with opened(place) as cold, opened(hot) as alone:
        assert cold.get("key") == LARGE
        assert alone.keys() == []


def test_blobs_written_twice_by_two_processes_are_one(place: str) -> None:
    with opened(place) as one, opened(place) as two:
        one.set("one", LARGE)
        two.set("two", LARGE)
        assert two.stats().dedup.stored == 0
        assert [one.get("two"), two.get("one")] == [LARGE, LARGE]


def test_expired_blobs_do_not_outlive_use_and_live_ones_are_kept(tmp_path: Path) -> None:
    clock = ManualClock()
    with opened(f"sqlite:///{tmp_path}/cache.db", clock=clock) as cache:
        cache.set("short", LARGE, ttl="1h")
        cache.set("long", LARGE, ttl="10d")
        clock.advance(5 * 86_400)
        assert cache.get("short") is MISSING
        assert cache.get("long") == LARGE
        cache.maintain()
        assert cache.get("long") == LARGE


def test_memory_is_bounded_while_an_asset_is_read_from_a_file_store(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "asset"
    with path.open("wb") as file:
        for _ in range(24):
            file.write(os.urandom(1 << 20))
    with opened(f"file://{tmp_path}/cache") as cache:
        tracemalloc.start()
        try:
            cache.put_asset("key", path)
            written = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            with cache.open_asset("key") as asset, path.open("rb") as original:
                while block := asset.read(1 << 20):
                    assert block == original.read(1 << 20)
            read = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert written < 40 << 20
    assert read < 20 << 20


def test_what_a_crash_left_beside_the_database_is_reclaimed(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/cache.db") as cache:
        assert cache.put_asset("key", os.urandom(200_000)).stored
        kept = {path for path in tmp_path.rglob("*") if path.is_file()}
        (folder,) = {path.parent for path in kept if path.stat().st_size >= 200_000 and path.suffix != ".db"}
        leftover = folder / (folder.name + "0" * 30)
        leftover.write_bytes(b"half a value")
        os.utime(leftover, (0, 0))
        assert cache.maintain(dry_run=True).leftovers == 0
        assert leftover.exists()
        assert cache.maintain().leftovers == 1
        assert not leftover.exists()
        assert cache.open_asset("key").size == 200_000
        assert cache.verify()[cache.stats().authority].damaged == 0

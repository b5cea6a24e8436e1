"""Assets through the faces: any size, stored once, replaced and invalidated like answers, harmless in an outage."""

from __future__ import annotations

import asyncio
import io
import os
import random
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.backend import Stored
from agentcache_core.errors import CorruptFrame, MissingBlob, NotWritten
from agentcache_core.resilience import in_threads
from agentcache_core.testing import DictBackend, FaultyBackend, ManualClock

CONTENT = os.urandom(9_000_000)


@pytest.fixture(params=["memory", "stored", "tiers"])
def cache(request: pytest.FixtureRequest) -> Any:
    places: dict[str, Any] = {
        "memory": "memory://?max_bytes=128MB",
        "stored": DictBackend(),
        "tiers": ["memory://", DictBackend()],
    }
    with Cache(places[request.param]) as opened:
        yield opened


def test_an_asset_comes_back_from_a_path_a_stream_or_bytes(cache: Cache, tmp_path: Path) -> None:
    path = tmp_path / "asset.bin"
    path.write_bytes(CONTENT)
    for source in (path, str(path), io.BytesIO(CONTENT), CONTENT, memoryview(CONTENT)):
        asset = cache.put_asset("key", source, content_type="application/x-test")
        assert (asset.key, asset.size, asset.content_type) == ("key", len(CONTENT), "application/x-test")
        with cache.open_asset("key") as reader:
            assert reader.content_type == "application/x-test"
            assert reader.size == len(CONTENT)
            assert reader.read(10) == CONTENT[:10]
            assert reader.read_range(4_194_300, 20) == CONTENT[4_194_300:4_194_320]
            reader.seek(0)
            assert reader.read() == CONTENT


def test_the_same_content_is_stored_once_and_says_so(cache: Cache) -> None:
    first = cache.put_asset("a", CONTENT)
    second = cache.put_asset("b", io.BytesIO(CONTENT))
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert first.digest == second.digest
    assert cache.stats().dedup.ratio == 2.0


def test_an_asset_and_an_answer_under_the_same_key_are_two_things(cache: Cache) -> None:
    cache.set("key", "the answer")
    with pytest.raises(KeyError):
        cache.open_asset("key")
    cache.put_asset("key", b"the asset")
    assert cache.get("key") == "the answer"
    assert cache.open_asset("key").read() == b"the asset"


def test_putting_again_replaces(cache: Cache) -> None:
    cache.put_asset("key", b"old")
    cache.put_asset("key", b"new", content_type="text/plain")
    reader = cache.open_asset("key")
    assert (reader.read(), reader.content_type) == (b"new", "text/plain")


def test_an_empty_asset_is_an_asset(cache: Cache) -> None:
    assert cache.put_asset("key", b"").size == 0
    assert cache.open_asset("key").read() == b""


def test_tags_and_patterns_invalidate_assets(cache: Cache) -> None:
    cache.put_asset("report:1", b"x", tags=["reports"])
    cache.put_asset("report:2", b"x")
    cache.invalidate(tag="reports")
    with pytest.raises(KeyError):
        cache.open_asset("report:1")
    cache.invalidate(pattern="report:*")
    with pytest.raises(KeyError):
        cache.open_asset("report:2")


def test_an_asset_is_gone_after_its_time() -> None:
    for place in ("memory://", "stored"):
        clock = ManualClock()
        cache = Cache(DictBackend(clock=clock) if place == "stored" else place, clock=clock)
        cache.put_asset("key", b"x", ttl="1m")
        assert cache.open_asset("key").read() == b"x"
        clock.advance(61)
        with pytest.raises(KeyError):
            cache.open_asset("key")


def test_tenants_share_no_asset() -> None:
    backend = DictBackend()
    cache = Cache(backend)
    assert not cache.tenant("a").put_asset("key", CONTENT).deduplicated
    assert not cache.tenant("b").put_asset("key", CONTENT).deduplicated
    with pytest.raises(KeyError):
        cache.tenant("c").open_asset("key")


def test_a_request_can_name_an_asset() -> None:
    cache = Cache(DictBackend())
    request = {"url": "https://example.org/", "accept": "text/html"}
    cache.put_asset(request, b"page")
    assert cache.open_asset(dict(reversed(request.items()))).read() == b"page"


@pytest.mark.parametrize("steps", range(8))
def test_whichever_write_fails_nothing_is_torn_and_nobody_is_told_otherwise(steps: int) -> None:
    inner = DictBackend()
    Cache(inner).put_asset("key", b"old content")
    backend = FaultyBackend(inner)
    backend.fail("put" if steps % 2 else "touch", times=1, after=steps % 4 > 1)
    cache = Cache(backend)
    asset = cache.put_asset("key", CONTENT)
    assert (asset.size, len(asset.digest)) == (len(CONTENT), 32)
    assert Cache(inner).open_asset("key").read() == (CONTENT if asset.stored else b"old content")
    assert cache.put_asset("key", CONTENT).stored
    assert Cache(inner).open_asset("key").read() == CONTENT


def test_a_durable_asset_that_is_not_written_raises() -> None:
    backend = FaultyBackend(DictBackend())
    backend.fail("put")
    with pytest.raises(NotWritten):
        Cache(backend).put_asset("key", CONTENT, durable=True)
    with pytest.raises(NotWritten):
        Cache(backend, strict=True).put_asset("key", CONTENT)


def test_memory_too_small_for_a_part_says_so_and_keeps_working() -> None:
    told: list[str] = []
    cache = Cache("memory://?max_bytes=4MB")
    cache.events.subscribe(lambda event: told.append(event.name))
    asset = cache.put_asset("key", CONTENT)
    assert (asset.stored, asset.size) == (False, len(CONTENT))
    assert "not_stored" in told
    assert cache.stats().reasons["a part of an asset was not stored"] == 1
    with pytest.raises(KeyError):
        cache.open_asset("key")
    assert cache.put_asset("small", b"small").stored
    assert cache.open_asset("small").read() == b"small"


def test_a_part_that_is_gone_is_told_while_reading() -> None:
    backend = DictBackend()
    cache = Cache(backend)
    cache.put_asset("key", CONTENT)
    reader = cache.open_asset("key")
    assert len(reader.read(4)) == 4
    for stat in list(backend.scan(b"")):
        if stat.name[16:19] == b"/x/":
            backend.delete(stat.name)
    with pytest.raises(MissingBlob):
        reader.read()


@pytest.mark.parametrize("size", [100_000, len(CONTENT)], ids=["one part", "packed"])
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_putting_an_asset_again_mends_what_reading_found_broken(size: int, how: str) -> None:
    backend = DictBackend()
    cache = Cache(backend, inline_max="1MiB")
    cache.put_asset("key", CONTENT[:size])
    for stat in list(backend.scan(b"")):
        if stat.name[16:19] == b"/x/":
            backend.delete(stat.name)
            if how == "damaged":
                backend.put(stat.name, b"\x00" * stat.size)
    broken = 0
    for _ in range(5):  # each broken pack is found when it is read
        try:
            assert cache.open_asset("key").read() == CONTENT[:size]
            break
        except CorruptFrame:
            broken += 1
            cache.put_asset("key", CONTENT[:size])
    assert broken >= 1
    assert cache.open_asset("key").read() == CONTENT[:size]


def test_a_new_release_of_a_large_asset_costs_what_is_new_in_it() -> None:
    backend = DictBackend()
    cache = Cache(backend)
    first = b"".join(b"line %d of a long file\n" % number for number in range(100_000))
    second = first.replace(b"line 5000 of", b"line 5000 (changed) of")
    cache.put_asset("release 1", first)
    cache.put_asset("release 2", second)
    assert cache.open_asset("release 2").read() == second
    assert cache.stats().dedup.ratio > 1.9
    assert len([stat for stat in backend.scan(b"") if stat.name[16:19] == b"/x/"]) < 10


def test_what_is_no_stream_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        Cache().put_asset("key", None)
    with pytest.raises(FileNotFoundError):
        Cache().put_asset("key", "/nowhere/at/all")


def test_the_async_face_streams_too(tmp_path: Path) -> None:
    path = tmp_path / "asset.bin"
    path.write_bytes(CONTENT)

    class Stream:
        def __init__(self) -> None:
            self.file = io.BytesIO(CONTENT)

        async def read(self, size: int) -> bytes:
            await asyncio.sleep(0)
            return self.file.read(size)

    async def work() -> None:
        async with AsyncCache(in_threads(DictBackend())) as cache:
            for source in (path, Stream(), CONTENT):
                asset = await cache.put_asset("key", source, content_type="a/b")
                assert asset.size == len(CONTENT)
                reader = await cache.open_asset("key")
                assert reader.content_type == "a/b"
                assert await reader.readall() == CONTENT
            assert await cache.get("key") is MISSING
            with pytest.raises(KeyError):
                await cache.open_asset("other")

    asyncio.run(work())


def test_a_copy_that_outlived_a_crash_fails_one_reader_and_is_given_up() -> None:
    hot, cold = DictBackend(), DictBackend()
    old, new = random.Random(1).randbytes(400_000), random.Random(2).randbytes(400_000)
    writer = Cache([hot, cold], maintenance="manual", background=False)
    writer.put_asset("a", old)
    copies = {stat.name: hot.get(stat.name) for stat in hot.scan(b"")}
    told = {stat.name: cold.get(stat.name) for stat in cold.scan(b"") if stat.name.endswith(b"/g")}
    writer.put_asset("a", new)
    # As if the writer had died between its entry on the authority and telling of it.
    for backend, held in ((hot, copies), (cold, told)):
        for name, stored in held.items():
            assert isinstance(stored, Stored)
            backend.put(name, stored.data)
    Cache(cold, maintenance="manual", background=False).maintain(grace=0)  # the parts of the old asset go
    with Cache([hot, cold], maintenance="manual", background=False) as reader:
        with pytest.raises(CorruptFrame):
            reader.open_asset("a").read()
        assert reader.open_asset("a").read() == new

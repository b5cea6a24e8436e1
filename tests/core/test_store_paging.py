"""Assets of any number of parts: manifests written and read a page at a time, an index of packs of fixed size, and so
the same memory however large the content is."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core import AsyncCache, Cache
from agentcache_core.errors import CorruptFrame, MissingBlob
from agentcache_core.runtime import drive
from agentcache_core.store import chunks, cuts, packs, paging
from agentcache_core.store.blobs import GRACE
from agentcache_core.store.entries import BlobRef
from agentcache_core.store.manifest import Index, Manifest, Part, Place, Table
from agentcache_core.store.packindex import MOST_PACKS, PackIndex
from agentcache_core.store.paging import ManifestReader, ManifestWriter
from agentcache_core.testing import DictBackend, FaultyBackend, ManualClock

DIGEST = b"d" * 32


def parts_of(count: int, draw: random.Random) -> list[tuple[BlobRef, Place | None]]:
    found: list[tuple[BlobRef, Place | None]] = []
    for number in range(count):
        ref = BlobRef(number.to_bytes(32, "big"), draw.randrange(1, 100))
        place = Place(bytes([draw.randrange(4)]) * 32, draw.randrange(1000), ref.size) if draw.random() < 0.8 else None
        found.append((ref, place))
    return found


def written(parts: list[tuple[BlobRef, Place | None]], most: int) -> tuple[Manifest, dict[bytes, bytes]]:
    """A manifest of parts, and its pages."""
    pages: dict[bytes, bytes] = {}

    async def keep(page: bytes) -> BlobRef:
        digest = len(pages).to_bytes(32, "little")
        pages[digest] = page
        return BlobRef(digest, len(page))

    async def work() -> Manifest:
        writer = ManifestWriter(keep, most=most)
        for ref, place in parts:
            await writer.add(ref, place)
        return await writer.finish(DIGEST)

    return Manifest.decode(drive(work()).encode()), pages


def reading(manifest: Manifest, pages: dict[bytes, bytes], asked: list[bytes] | None = None) -> ManifestReader:
    async def fetch(ref: BlobRef) -> bytes:
        if asked is not None:
            asked.append(ref.digest)
        assert len(pages[ref.digest]) == ref.size
        return pages[ref.digest]

    return ManifestReader(manifest, fetch)


def walked(reader: ManifestReader) -> list[BlobRef | Table]:
    async def collect() -> list[BlobRef | Table]:
        return [found async for found in reader.walk()]

    return drive(collect())


@given(st.integers(0, 70), st.integers(2, 5), st.integers(0, 100))
@settings(max_examples=150)
def test_however_many_levels_of_pages_every_part_is_found_where_it_is(count: int, most: int, seed: int) -> None:
    parts = parts_of(count, random.Random(seed))
    manifest, pages = written(parts, most)
    assert (len(manifest), manifest.size) == (count, sum(ref.size for ref, _ in parts))
    assert manifest.level == 0 if count <= most else manifest.level >= 1
    assert most**manifest.level < max(count, 2) or count <= most
    reader = reading(manifest, pages)
    found = walked(reader)
    listed = [part for table in found if isinstance(table, Table) for part in table]
    assert [(part.ref, part.place) for part in listed] == parts
    assert sorted(page.digest for page in found if isinstance(page, BlobRef)) == sorted(pages)
    starts = list(itertools.accumulate((ref.size for ref, _ in parts), initial=0))
    for number in random.Random(seed).sample(range(count), min(count, 20)):
        ref, place = parts[number]
        expected = Part(ref, place, starts[number])
        assert drive(reader.at(starts[number])) == expected
        assert drive(reader.at(starts[number + 1] - 1)) == expected


def test_reading_in_order_fetches_each_page_once_and_jumping_only_what_leads_there() -> None:
    parts = parts_of(60, random.Random(1))
    manifest, pages = written(parts, 4)
    asked: list[bytes] = []
    reader = reading(manifest, pages, asked)
    for offset in range(manifest.size):
        drive(reader.at(offset))
    assert sorted(asked) == sorted(pages)
    asked.clear()
    reader = reading(manifest, pages, asked)
    drive(reader.at(manifest.size - 1))
    assert len(asked) == manifest.level


def test_a_page_that_is_another_than_its_index_says_is_refused() -> None:
    manifest, pages = written(parts_of(40, random.Random(2)), 4)
    reader = reading(manifest, pages)
    assert isinstance(manifest.body, Index)
    first, second = [page.ref.digest for page in itertools.islice(manifest.body, 2)]
    whole = dict(pages)
    for wrong in (whole[second], b"", b"\x90", b"\xc1", whole[first][:-1], b"\x92\x07\xc4\x00"):
        pages[first] = wrong
        with pytest.raises(CorruptFrame):
            drive(reading(manifest, _resized(pages, whole)).at(0))
    pages[first] = whole[first]
    drive(reader.at(0))


def _resized(pages: dict[bytes, bytes], whole: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Pages whose sizes are not looked at."""

    class Sized(bytes):
        def __len__(self) -> int:
            return self.size  # type: ignore[attr-defined, no-any-return]  # set below

    sized = {}
    for digest, page in pages.items():
        sized[digest] = Sized(page)
        sized[digest].size = len(whole[digest])  # type: ignore[attr-defined]  # a plain attribute of a subclass
    return sized  # type: ignore[return-value]  # bytes all the same


# --- through the faces ------------------------------------------------------------------------------------------


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of seven rows, so that a megabyte has several levels of them."""
    monkeypatch.setattr(paging, "MOST_ROWS", 7)


CONTENT = random.Random(3).randbytes(2_000_000)


def blobs_in(backend: Any) -> set[bytes]:
    return {stat.name for stat in backend.scan(b"") if stat.name[16:19] == b"/x/"}


def pages_in(backend: Any) -> list[bytes]:
    return [stat.name for stat in backend.scan(b"") if stat.name[16:19] == b"/x/" and stat.size < 2000]


@pytest.mark.usefixtures("short_pages")
def test_a_paged_asset_is_read_swept_verified_and_deduplicated_like_any_other() -> None:
    clock = ManualClock()
    backend = DictBackend(clock=clock)
    cache = Cache(backend, clock=clock, background=False, maintenance="manual", inline_max="1MiB")
    assert not cache.put_asset("a", CONTENT).deduplicated
    assert len(pages_in(backend)) > 30
    asset = cache.open_asset("a")
    assert asset.read() == CONTENT
    assert asset.read_range(1_234_567, 89_000) == CONTENT[1_234_567:1_323_567]
    before = blobs_in(backend)
    assert cache.put_asset("b", CONTENT).deduplicated
    assert blobs_in(backend) == before, "the pages are the same as well"
    clock.advance(2 * GRACE)
    (swept,) = cache.maintain().swept.values()
    assert (swept.unnamed, swept.missing, swept.corrupt) == (0, 0, 0)
    (verified,) = cache.verify().values()
    assert (verified.damaged, cache.open_asset("b").read()) == (0, CONTENT)
    cache.put_asset("a", b"short")
    cache.put_asset("b", b"short")
    clock.advance(2 * GRACE)
    (swept,) = cache.maintain().swept.values()
    assert swept.unnamed == len(before)


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_broken_page_is_told_while_reading_and_found_by_verify_and_putting_again_mends_it(how: str) -> None:
    backend = DictBackend()
    cache = Cache(backend, background=False, maintenance="manual", inline_max="1MiB")
    cache.put_asset("key", CONTENT)
    for page in pages_in(backend)[:3]:
        backend.delete(page)
        if how == "damaged":
            backend.put(page, b"\0" * 100)
    with pytest.raises(MissingBlob if how == "lost" else CorruptFrame):
        cache.open_asset("key").read()
    (told,) = cache.verify(repair=True).values()
    assert (told.damaged, told.repaired) == (1, 1)
    for _ in range(3):  # each broken page is met when it is read
        assert cache.put_asset("key", CONTENT).stored
        cache.verify(repair=True)
    cache.put_asset("key", CONTENT)
    assert cache.open_asset("key").read() == CONTENT


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize("step", range(0, 60, 4))
def test_whichever_write_of_a_paged_asset_fails_it_is_whole_or_not_there(step: int) -> None:
    inner = DictBackend()
    backend = FaultyBackend(inner)
    cache = Cache(backend, background=False, maintenance="manual", inline_max="1MiB")
    count = itertools.count()

    def run(verb: str, call: Any, /, *args: Any, **options: Any) -> Any:
        if verb in ("put", "touch") and next(count) == step:
            raise OSError("the disk is gone")
        return call(*args, **options)

    backend.run = run  # type: ignore[method-assign]  # one fault at a counted write
    asset = cache.put_asset("key", CONTENT)
    assert asset.size == len(CONTENT)
    fresh = Cache(inner, background=False, maintenance="manual")
    if asset.stored:
        assert fresh.open_asset("key").read() == CONTENT
    else:
        with pytest.raises(KeyError):
            fresh.open_asset("key")
    fresh.put_asset("key", CONTENT)
    assert fresh.open_asset("key").read() == CONTENT


# --- the index of packs -----------------------------------------------------------------------------------------


def digest_of(number: int) -> bytes:
    return random.Random(number).randbytes(32)


def test_the_index_knows_the_newest_parts_and_grows_no_further() -> None:
    index = PackIndex(most=1000)
    for pack in range(40):
        index.add(digest_of(-pack), [(digest_of(pack * 100 + row), row, 1, 1) for row in range(100)])
    known = [number for number in range(4000) if index.find(digest_of(number)) is not None]
    assert known == list(range(3000, 4000))
    assert index.find(digest_of(3456)) == Place(digest_of(-34), 56, 1)
    assert len(index._rows) == 1000 * 44
    assert len(index._addresses) <= 8192


def test_only_so_many_packs_are_known() -> None:
    index = PackIndex()
    for number in range(MOST_PACKS + 10):
        index.add(number.to_bytes(32, "big"), [(digest_of(number), 0, 1, 1)])
    assert index.find(digest_of(9)) is None
    assert index.find(digest_of(10)) is not None


@given(st.lists(st.tuples(st.sampled_from(["add", "add", "add", "forget", "keep"]), st.integers(0, 30)), max_size=60))
@settings(max_examples=100)
def test_the_index_agrees_with_a_plain_one(steps: list[tuple[str, int]]) -> None:
    index, plain = PackIndex(most=5000), dict[bytes, dict[bytes, Place]]()
    for number, (what, pack) in enumerate(steps):
        name = digest_of(-pack)
        if what == "add" and name not in plain:
            rows = [(digest_of(number * 100 + row), row, row, row) for row in range(pack)]
            index.add(name, rows)
            plain[name] = {digest: Place(name, offset, size) for digest, offset, size, _ in rows}
        elif what == "forget":
            index.forget(name)
            plain.pop(name, None)
        elif what == "keep":
            index.keep_only([kept for kept in plain if kept[0] > 40])
            plain = {kept: held for kept, held in plain.items() if kept[0] > 40}
    known = {digest: place for held in plain.values() for digest, place in held.items()}
    for number in {step * 100 + row for step in range(len(steps)) for row in range(31)}:
        assert index.find(digest_of(number)) == known.get(digest_of(number))


def test_packs_that_other_programs_wrote_meanwhile_are_learned_of() -> None:
    backend = DictBackend()
    one, two = (Cache(backend, background=False, maintenance="manual") for _ in range(2))
    first, second = CONTENT[:600_000], CONTENT[1_000_000:1_600_000]

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() == 0:
                two.put_asset("second", second)  # while the first is being written
            return super().read(size)

    one.put_asset("first", Slow(first))
    assert one.put_asset("again", second).deduplicated


# --- the same memory however large --------------------------------------------------------------------------------


class Endless:
    """Content of `size` bytes that is never in memory as a whole: the same for the same seed, at any place."""

    def __init__(self, size: int) -> None:
        self.left = size
        self._blocks = _blocks()

    def read(self, size: int) -> bytes:
        block = next(self._blocks)[: min(size, self.left, 1 << 16)]
        self.left -= len(block)
        return block


def _blocks() -> Iterator[bytes]:
    for number in itertools.count():
        yield random.Random(number).randbytes(1 << 16)


@pytest.mark.parametrize("face", ["blocking", "async"])
def test_assets_of_four_times_the_parts_take_the_same_memory_to_write_and_to_read(
    face: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the default path: content-defined cuts, packs, pages, the index. Everything is smaller than usual, so that a
    little content has many parts: what a part costs is what grows, if anything does."""
    monkeypatch.setattr(paging, "MOST_ROWS", 512)
    monkeypatch.setattr(cuts, "PART_SIZE", 1 << 19)
    monkeypatch.setattr(packs, "PACK_SIZE", 1 << 19)
    monkeypatch.setattr(chunks, "best_cuts", lambda short: cuts.ContentCuts(average=256))
    peaks = []
    for size in (WARMING, SMALL, 4 * SMALL):  # the first fills what is filled once
        work = _async_peaks(size, tmp_path) if face == "async" else None
        peaks.append(asyncio.run(work) if work is not None else _peaks(size, tmp_path))
    (small_write, small_read, small_parts), (large_write, large_read, large_parts) = peaks[1:]
    more = large_parts - small_parts
    assert more > 8_000
    assert large_write - small_write < more * 100, "an index of known parts grows up to its bound"
    assert large_read - small_read < more * 10


WARMING, SMALL = 1 << 19, 3 << 18


def _peaks(size: int, tmp_path: Any) -> tuple[int, int, int]:
    with Cache(f"file://{tmp_path}/{size}-{os.urandom(4).hex()}", background=False, maintenance="manual") as cache:
        tracemalloc.start()
        try:
            asset = cache.put_asset("key", Endless(size))
            assert asset.stored
            writing = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with cache.open_asset("key") as reader:
                parts = len(reader._parts.manifest)
                while reader.read(1 << 16):
                    pass
            return writing, tracemalloc.get_traced_memory()[1] - before, parts
        finally:
            tracemalloc.stop()


async def _async_peaks(size: int, tmp_path: Any) -> tuple[int, int, int]:
    url = f"file://{tmp_path}/{size}-{os.urandom(4).hex()}"
    async with AsyncCache(url, background=False, maintenance="manual", deadline="60s") as cache:
        tracemalloc.start()
        try:
            asset = await cache.put_asset("key", Endless(size))
            assert asset.stored
            writing = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            reader = await cache.open_asset("key")
            parts = len(reader._parts.manifest)
            while await reader.read(1 << 16):
                pass
            return writing, tracemalloc.get_traced_memory()[1] - before, parts
        finally:
            tracemalloc.stop()

"""Assets: any content comes back whole, by ranges and by seeking, in constant memory; equal parts are stored once."""

from __future__ import annotations

import asyncio
import io
import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core.backend import Stored
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame, MissingBlob
from agentcache_core.runtime import Immediate, drive
from agentcache_core.store.blobs import GRACE, Blobs
from agentcache_core.store.chunks import LooseParts, Parts, Written, write_asset
from agentcache_core.store.cuts import PART_SIZE, ContentCuts, FixedCuts
from agentcache_core.store.manifest import PAGE, Index, Manifest, Table
from agentcache_core.store.packindex import PackIndex
from agentcache_core.store.packs import PACK_SIZE, PackedParts
from agentcache_core.store.reading import AssetReader, AsyncAssetReader
from agentcache_core.testing import DictBackend, ManualClock

PIPELINE = Pipeline()


def blobs_on(backend: Any) -> Blobs:
    return Blobs(Immediate(backend), PIPELINE, b"tenant/x/")


def stored(blobs: Blobs, content: bytes, size: int = PART_SIZE) -> Written:
    return drive(write_asset(loose(blobs), PIPELINE, io.BytesIO(content), now=0.0, cutter=FixedCuts(size)))


def loose(blobs: Blobs) -> Any:
    return lambda packs: LooseParts(blobs)


def table(manifest: Manifest) -> Table:
    assert isinstance(manifest.body, Table)
    return manifest.body


def reader(blobs: Blobs, manifest: Manifest) -> AssetReader:
    return AssetReader(Parts(blobs, manifest), drive)


@given(st.binary(max_size=300), st.integers(1, 40), st.data())
@settings(max_examples=200)
def test_an_asset_reads_like_the_file_it_was(content: bytes, size: int, data: st.DataObject) -> None:
    blobs = blobs_on(DictBackend())
    written = stored(blobs, content, size)
    manifest = Manifest.decode(written.manifest.encode())
    assert manifest == written.manifest
    assert manifest.digest == PIPELINE.digest(content)
    assert len(manifest) == -(-len(content) // size)
    asset, file = reader(blobs, manifest), io.BytesIO(content)
    for _ in range(data.draw(st.integers(0, 10))):
        what = data.draw(st.sampled_from(["read", "seek", "end", "range"]))
        number = data.draw(st.integers(0, len(content) + 5))
        if what == "read":
            assert asset.read(number) == file.read(number)
        elif what == "seek":
            assert asset.seek(number) == file.seek(number)
        elif what == "end":
            assert asset.seek(-min(number, len(content)), os.SEEK_END) == file.seek(
                -min(number, len(content)), os.SEEK_END
            )
        else:
            assert asset.read_range(number, 7) == content[number : number + 7]
        assert asset.tell() == file.tell()
    asset.seek(0)
    assert asset.read() == content


def test_equal_parts_are_stored_once_within_and_across_assets() -> None:
    backend = DictBackend()
    blobs = blobs_on(backend)
    first = stored(blobs, b"a" * 100 + b"b" * 100 + b"a" * 100, 100)
    second = stored(blobs, b"b" * 100 + b"c" * 50, 100)
    again = stored(blobs, b"b" * 100 + b"c" * 50, 100)
    assert (first.known_parts, second.known_parts, again.known_parts) == (1, 1, 2)
    assert again.known_bytes == again.manifest.size == 150
    assert len(list(backend.scan(b""))) == 3


def test_reading_holds_one_part_and_fetches_only_what_a_range_needs() -> None:
    backend = DictBackend()
    blobs = blobs_on(backend)
    written = stored(blobs, os.urandom(1000), 100)
    asked: list[bytes] = []

    class Counting(Immediate):
        async def get(self, name: bytes) -> Any:
            asked.append(name)
            return await super().get(name)

    asset = reader(Blobs(Counting(backend), PIPELINE, b"tenant/x/"), written.manifest)
    asset.read_range(450, 100)
    assert len(asked) == 2


def test_lines_are_read_through_the_usual_buffering() -> None:
    blobs = blobs_on(DictBackend())
    written = stored(blobs, b"one\ntwo\nthree", 5)
    with io.BufferedReader(reader(blobs, written.manifest)) as buffered:
        assert list(buffered) == [b"one\n", b"two\n", b"three"]


def test_a_lost_part_and_a_damaged_one_say_so_while_reading() -> None:
    backend = DictBackend()
    blobs = blobs_on(backend)
    written = stored(blobs, os.urandom(300), 100)
    parts = list(table(written.manifest))
    backend.delete(blobs.name(parts[1].ref.digest))
    backend.put(blobs.name(parts[2].ref.digest), b"not a frame")
    asset = reader(blobs, written.manifest)
    assert len(asset.read(100)) == 100
    with pytest.raises(MissingBlob):
        asset.read(1)
    asset.seek(200)
    with pytest.raises(CorruptFrame):
        asset.read(1)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_a_corrupt_frame(noise: bytes) -> None:
    whole = Manifest(b"d" * 32, Table(b"x" * 32 + (100).to_bytes(8, "big"))).encode()
    paged = Manifest(b"d" * 32, Index(PAGE.pack(b"x" * 32, 100, 10)), parts=9, level=2).encode()
    for payload in (noise, whole[: len(noise)], whole + noise, paged[: len(noise)], paged + noise):
        try:
            Manifest.decode(payload)
        except CorruptFrame:
            continue


def test_a_manifest_whose_size_is_not_that_of_its_parts_is_refused() -> None:
    import ormsgpack

    for fields in (
        [1, 5, b"d" * 32, b""],
        ["1", 0, b"d" * 32, b""],
        [1, 0, b"d" * 31, b""],
        [1, 0, b"d" * 32, b"x"],
        [1, 0, b"d" * 32, b"", b"p", b""],
        [1, 0, b"d" * 32, b"", b"", b"x" * 12],
        [2, 5, b"d" * 32, 1, 1, b""],
        [2, 0, b"d" * 32, 0, 0, b""],
        [2, 0, b"d" * 32, 0, 9, b""],
        [2, 0, b"d" * 32, 0, 1, b"x"],
        [2, 0, b"d" * 32, 0, 1],
    ):
        with pytest.raises(CorruptFrame):
            Manifest.decode(ormsgpack.packb(fields))


def test_a_stream_of_text_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="binary mode"):
        drive(write_asset(loose(blobs_on(DictBackend())), PIPELINE, io.StringIO("text"), now=0.0))


def test_a_closed_reader_refuses() -> None:
    blobs = blobs_on(DictBackend())
    asset = reader(blobs, stored(blobs, b"abc").manifest)
    asset.close()
    for call in (asset.read, asset.tell, lambda: asset.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ValueError, match="before the beginning"):
        reader(blobs, stored(blobs, b"abc").manifest).seek(-1)


def test_an_event_loop_writes_from_an_awaited_stream_and_reads_by_blocks() -> None:
    class Stream:
        def __init__(self, content: bytes) -> None:
            self.file = io.BytesIO(content)

        async def read(self, size: int) -> bytes:
            await asyncio.sleep(0)
            return self.file.read(size)

    content = os.urandom(3_000_000)

    async def work() -> None:
        blobs = blobs_on(DictBackend())
        written = await write_asset(loose(blobs), PIPELINE, Stream(content), now=0.0, cutter=FixedCuts(400_000))
        async with AsyncAssetReader(Parts(blobs, written.manifest)) as asset:
            assert b"".join([block async for block in asset]) == content
            asset.seek(10)
            assert await asset.read(20) == content[10:30]
            assert asset.tell() == 30
            assert await asset.read_range(399_990, 20) == content[399_990:400_010]
            assert await asset.readall() == content[30:]
        with pytest.raises(ValueError, match="closed"):
            await asset.read(1)

    asyncio.run(work())


# --- content-defined cuts and packs ----------------------------------------------------------------------------


def packed(backend: Any, content: bytes, index: PackIndex | None = None, now: float = 0.0) -> Written:
    blobs = blobs_on(backend)
    index = index if index is not None else PackIndex()
    return drive(
        write_asset(
            lambda packs: PackedParts(Immediate(backend), blobs, PIPELINE, b"tenant", index),
            PIPELINE,
            io.BytesIO(content),
            now=now,
            cutter=ContentCuts(),
        )
    )


def objects(backend: DictBackend) -> list[Any]:
    return list(backend.scan(b"tenant/x/"))


CONTENT = random.Random(7).randbytes(9_000_000)


def test_content_defined_parts_are_cut_the_same_however_much_is_seen_at_once() -> None:
    cutter = ContentCuts()
    content, whole = CONTENT[:3_000_000], []
    for window in (len(content), 700_000, 300_001):
        sizes, start = [], 0
        while start < len(content):
            buffer = content[start : start + window]
            found = cutter.cut(buffer, last=start + window >= len(content))
            sizes += found
            start += sum(found)
        whole.append(sizes)
    assert whole[0] == whole[1] == whole[2]
    assert all(2048 <= size <= 65536 for size in whole[0][:-1])


def test_a_packed_asset_reads_like_the_file_it_was() -> None:
    backend = DictBackend()
    written = packed(backend, CONTENT)
    assert len(written.manifest) > 500
    assert len(objects(backend)) == -(-len(CONTENT) // PACK_SIZE), "hundreds of parts in a few objects"
    manifest = Manifest.decode(written.manifest.encode())
    assert manifest == written.manifest
    asset = reader(blobs_on(backend), manifest)
    assert asset.read() == CONTENT
    draw = random.Random(1)
    for _ in range(50):
        start, size = draw.randrange(len(CONTENT)), draw.randrange(100_000)
        assert asset.read_range(start, size) == CONTENT[start : start + size]


def test_a_byte_inserted_in_front_costs_a_part_and_not_the_whole() -> None:
    backend = DictBackend()
    index = PackIndex()
    packed(backend, CONTENT, index)
    before = sum(stat.size for stat in objects(backend))
    written = packed(backend, b"!" + CONTENT, index)
    assert sum(stat.size for stat in objects(backend)) - before < 100_000
    assert written.known_bytes > 0.99 * len(CONTENT)
    assert reader(blobs_on(backend), written.manifest).read() == b"!" + CONTENT


def test_another_process_learns_from_the_stored_index_what_is_there() -> None:
    backend = DictBackend()
    packed(backend, CONTENT)
    again = packed(backend, CONTENT)
    assert again.known_bytes == len(CONTENT)
    assert len(objects(backend)) == 3


def test_a_pack_that_is_gone_is_forgotten_and_its_parts_are_stored_anew() -> None:
    backend = DictBackend()
    index = PackIndex()
    packed(backend, CONTENT, index)
    for stat in objects(backend)[:1]:
        backend.delete(stat.name)
    again = packed(backend, CONTENT, index)
    assert 0 < again.known_bytes < len(CONTENT)
    assert reader(blobs_on(backend), again.manifest).read() == CONTENT
    assert packed(backend, CONTENT).known_bytes == len(CONTENT)


def test_packs_that_an_asset_relies_on_are_made_young_again_everywhere() -> None:
    for plain in (False, True):
        clock = ManualClock()
        inner = DictBackend(clock=clock)
        backend: Any = Plain(inner) if plain else inner
        packed(backend, CONTENT, now=clock.now())
        clock.advance(GRACE)
        packed(backend, CONTENT, now=clock.now())
        assert all(stat.modified_at == clock.now() for stat in objects(inner))
        assert len(objects(inner)) == 3


class Plain:
    """A store with the plain verbs only: no ranges, no batches, no touch."""

    def __init__(self, inner: DictBackend) -> None:
        self.get, self.put, self.delete, self.scan = inner.get, inner.put, inner.delete, inner.scan
        self.capabilities = inner.capabilities


def test_a_packed_asset_reads_from_a_store_without_ranges() -> None:
    inner = DictBackend()
    written = packed(Plain(inner), CONTENT)
    assert reader(blobs_on(Plain(inner)), written.manifest).read() == CONTENT


def test_reading_in_order_fetches_stretches_and_a_range_only_what_it_needs() -> None:
    backend = DictBackend()
    written = packed(backend, CONTENT)
    asked: list[int] = []

    class Counting(Immediate):
        async def get_range(self, name: bytes, offset: int, size: int) -> Any:
            asked.append(size)
            return self.backend.get_range(name, offset, size)  # type: ignore[attr-defined]  # a DictBackend

    blobs = Blobs(Counting(backend), PIPELINE, b"tenant/x/")
    assert reader(blobs, written.manifest).read() == CONTENT
    assert len(asked) < 20
    asked.clear()
    reader(blobs, written.manifest).read_range(5_000_000, 10)
    assert asked == [asked[0]]
    assert asked[0] < 70_000


def test_damage_in_a_pack_is_found_and_told() -> None:
    backend = DictBackend()
    written = packed(backend, CONTENT)
    name = objects(backend)[0].name
    held = backend.get(name)
    assert isinstance(held, Stored)
    damaged = bytearray(held.data)
    damaged[1000] ^= 1
    backend.put(name, bytes(damaged))
    told: list[Any] = []

    async def note(part: Any) -> None:
        told.append(part.place.pack)

    with pytest.raises(CorruptFrame):
        AssetReader(Parts(blobs_on(backend), written.manifest, note), drive).read()
    assert [b"tenant/x/" + pack for pack in told] == [name]

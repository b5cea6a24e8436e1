"""Assets: content of any size, written and read in constant memory as the parts of a manifest."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame, UnreadableFrame
from agentcache_core.store.blobs import Blobs, Offload, Placed
from agentcache_core.store.cuts import CONTENT_FROM, PART_SIZE, Cutter, FixedCuts, best_cuts
from agentcache_core.store.entries import BlobRef
from agentcache_core.store.manifest import Manifest, Part
from agentcache_core.store.paging import ManifestReader, ManifestWriter

READ_SIZE: Final = 1024 * 1024
AHEAD: Final = 1024 * 1024
"""Bytes of a pack that are fetched at once while an asset is read in order."""


Damaged = Callable[[Part], Awaitable[None]]


class Places(Protocol):
    """Where the parts of one asset go: blobs of their own, packs, or something around them."""

    async def put(self, parts: Sequence[bytes], *, now: float, expires_at: float | None = None) -> list[Placed]:
        """Store parts, in order."""
        ...

    async def keep(self, page: bytes, *, now: float, expires_at: float | None = None) -> BlobRef:
        """Store a page of the manifest."""
        ...

    async def finish(self) -> None:
        """Write what is left."""
        ...


class ChoosesPlaces(Protocol):
    """Says where parts go, once it is known how they will be cut."""

    def __call__(self, *, packs: bool) -> Places: ...


class LooseParts:
    """Parts that are blobs by themselves."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, parts: Sequence[bytes], *, now: float, expires_at: float | None = None) -> list[Placed]:
        return [await self._blobs.put(part, now=now, expires_at=expires_at, kind="asset") for part in parts]

    async def keep(self, page: bytes, *, now: float, expires_at: float | None = None) -> BlobRef:
        return (await self._blobs.put(page, now=now, expires_at=expires_at)).ref

    async def finish(self) -> None:
        """Nothing is ever left."""


@dataclass(frozen=True, slots=True)
class Written:
    """An asset that was written: its manifest, and how many of its parts and bytes were there already."""

    manifest: Manifest
    known_parts: int
    known_bytes: int


async def write_asset(
    choose: ChoosesPlaces,
    pipeline: Pipeline,
    source: Any,
    *,
    now: float,
    expires_at: float | None = None,
    cutter: Cutter | None = None,
    offload: Offload | None = None,
) -> Written:
    """Read `source` (its `read(size)` answers bytes, or an awaitable of them) to its end and store its parts.

    Holds one window of the cutter, one read, one pack and one page of the manifest in memory, whatever the size. The
    parts are stored when this answers; the entry with the manifest is the caller's to write, after. `offload` runs
    what takes long aside, as for `Blobs`. Raises `BackendError`.
    """
    whole = pipeline.hasher()
    known_parts = known_bytes = 0
    buffer = bytearray()
    last = await _fill(source, buffer, CONTENT_FROM if cutter is None else cutter.window, whole)
    if cutter is None:
        cutter = best_cuts(short=last)
    places = choose(packs=cutter.packs)
    manifest = ManifestWriter(partial(places.keep, now=now, expires_at=expires_at))
    while True:
        if not last:
            last = await _fill(source, buffer, cutter.window, whole)
        cut = partial(_cut, cutter, buffer, last)
        parts = cut() if offload is None else await offload(cut)
        for placed in await places.put(parts, now=now, expires_at=expires_at):
            await manifest.add(placed.ref, placed.place)
            known_parts += placed.existed
            known_bytes += placed.ref.size if placed.existed else 0
        if last:
            break
    await places.finish()
    return Written(await manifest.finish(whole.digest()), known_parts, known_bytes)


def _cut(cutter: Cutter, buffer: bytearray, last: bool) -> list[bytes]:
    """Take the parts that are certain from the front of the buffer."""
    seen = bytes(buffer)
    parts, start = [], 0
    for size in cutter.cut(seen, last=last):
        parts.append(seen[start : start + size])
        start += size
    del buffer[:start]
    return parts


async def _fill(source: Any, buffer: bytearray, window: int, whole: Any) -> bool:
    """Read until the buffer holds a window; answers whether the source has ended."""
    while len(buffer) < window:
        block = source.read(max(READ_SIZE, window - len(buffer)))
        if inspect.isawaitable(block):
            block = await block
        if not isinstance(block, bytes | bytearray | memoryview):
            raise TypeError(f"the stream's read() gave {type(block).__name__}, not bytes: open it in binary mode")
        if not block:
            return True
        whole.update(block)
        buffer += block
    return False


class Parts:
    """The content of a manifest, read by position. Holds one part, one stretch of a pack and one page of each level of
    the manifest in memory."""

    __slots__ = (
        "_ahead", "_ahead_at", "_ahead_pack", "_blobs", "_damaged", "_held", "_held_digest", "_next", "_reader",
        "manifest",
    )  # fmt: skip

    def __init__(self, blobs: Blobs, manifest: Manifest, damaged: Damaged | None = None) -> None:
        """`damaged(part)` is awaited for a part, or a page of the manifest, that cannot be read, before that raises."""
        self._blobs = blobs
        self._damaged = damaged
        self.manifest = manifest
        self._reader = ManifestReader(manifest, self._page)
        self._held_digest = b""
        self._held = b""
        self._ahead_pack = b""
        self._ahead_at = 0
        self._ahead = b""
        self._next = 0

    async def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, never across a part's end, none at the end of the content.

        `MissingBlob` or `CorruptFrame` when a part is gone or damaged.
        """
        if size <= 0 or offset >= self.manifest.size:
            return b""
        part = await self._reader.at(offset)
        if part.ref.digest != self._held_digest:
            try:
                self._held = await self.payload(part)
            except CorruptFrame as problem:
                self._ahead = b""
                await self._broken(part, problem)
                raise
            self._held_digest = part.ref.digest
        start = offset - part.start
        return self._held[start : start + size]

    async def _page(self, ref: BlobRef) -> bytes:
        try:
            return await self._blobs.get(ref)
        except CorruptFrame as problem:
            await self._broken(Part(ref, None, 0), problem)
            raise

    async def _broken(self, part: Part, problem: CorruptFrame) -> None:
        if self._damaged is not None and type(problem) is not UnreadableFrame:
            await self._damaged(part)

    async def payload(self, part: Part) -> bytes:
        """The bytes of one part. `MissingBlob` or `CorruptFrame` when it is gone or damaged."""
        ref, place, start = part
        in_order = start == self._next
        self._next = start + ref.size
        if place is None:
            return await self._blobs.get(ref)
        at = place.offset - self._ahead_at
        if place.pack != self._ahead_pack or at < 0 or at + place.size > len(self._ahead):
            wanted = max(place.size, AHEAD) if in_order and start else place.size
            self._ahead_at, self._ahead = await self._blobs.stretch(place.pack, place.offset, wanted)
            self._ahead_pack = place.pack
            at = place.offset - self._ahead_at
        return self._blobs.opened(ref, self._ahead[at : at + place.size])


__all__ = ["PART_SIZE", "FixedCuts", "LooseParts", "Manifest", "Parts", "Written", "write_asset"]

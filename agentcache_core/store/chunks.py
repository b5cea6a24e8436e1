"""Assets: content of any size, written and read in constant memory as the parts of a manifest."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame, UnreadableFrame
from agentcache_core.store.blobs import Blobs, Placed
from agentcache_core.store.cuts import CONTENT_FROM, PART_SIZE, Cutter, FixedCuts, best_cuts
from agentcache_core.store.manifest import ROW, Manifest, Part

READ_SIZE: Final = 1024 * 1024
AHEAD: Final = 1024 * 1024
"""Bytes of a pack that are fetched at once while an asset is read in order."""


Damaged = Callable[[Part], Awaitable[None]]


class Places(Protocol):
    """Where the parts of one asset go: blobs of their own, packs, or something around them."""

    async def put(self, payload: bytes, *, now: float, expires_at: float | None = None, kind: str = "") -> Placed: ...
    async def finish(self) -> tuple[bytes, bytes]:
        """Write what is left; answers the manifest's packs and places."""
        ...


class ChoosesPlaces(Protocol):
    """Says where parts go, once it is known how they will be cut."""

    def __call__(self, *, packs: bool) -> Places: ...


class LooseParts:
    """Parts that are blobs by themselves."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, payload: bytes, *, now: float, expires_at: float | None = None, kind: str = "") -> Placed:
        return await self._blobs.put(payload, now=now, expires_at=expires_at, kind=kind)

    async def finish(self) -> tuple[bytes, bytes]:
        return b"", b""


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
) -> Written:
    """Read `source` (its `read(size)` answers bytes, or an awaitable of them) to its end and store its parts.

    Holds one window of the cutter, one read and one pack in memory, whatever the size. The parts are stored when
    this answers; the entry with the manifest is the caller's to write, after. Raises `BackendError`.
    """
    whole = pipeline.hasher()
    rows = bytearray()
    known_parts = known_bytes = 0
    buffer = bytearray()
    last = await _fill(source, buffer, CONTENT_FROM if cutter is None else cutter.window, whole)
    if cutter is None:
        cutter = best_cuts(short=last)
    places = choose(packs=cutter.packs)
    while True:
        if not last:
            last = await _fill(source, buffer, cutter.window, whole)
        start = 0
        for size in cutter.cut(bytes(buffer), last=last):
            part = bytes(buffer[start : start + size])
            start += size
            placed = await places.put(part, now=now, expires_at=expires_at, kind="asset")
            rows += ROW.pack(placed.ref.digest, size)
            known_parts += placed.existed
            known_bytes += size if placed.existed else 0
        del buffer[:start]
        if last:
            break
    packs, where = await places.finish()
    return Written(Manifest(whole.digest(), bytes(rows), packs, where), known_parts, known_bytes)


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
    """The content of a manifest, read by position. Holds one part and one stretch of a pack in memory."""

    __slots__ = (
        "_ahead", "_ahead_at", "_ahead_pack", "_blobs", "_damaged", "_held", "_held_digest", "_next", "manifest",
    )  # fmt: skip

    def __init__(self, blobs: Blobs, manifest: Manifest, damaged: Damaged | None = None) -> None:
        """`damaged(part)` is awaited for a part that cannot be read, before that is raised."""
        self._blobs = blobs
        self._damaged = damaged
        self.manifest = manifest
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
        part = self.manifest.at(offset)
        if part.ref.digest != self._held_digest:
            try:
                self._held = await self.payload(part)
            except CorruptFrame as problem:
                self._ahead = b""
                if self._damaged is not None and type(problem) is not UnreadableFrame:
                    await self._damaged(part)
                raise
            self._held_digest = part.ref.digest
        start = offset - part.start
        return self._held[start : start + size]

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

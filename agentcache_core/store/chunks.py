"""Assets: content of any size as a manifest of parts, written and read in constant memory.

A part is a blob. How parts are cut is the writer's choice and nothing that a reader needs to know: `FixedCuts` cuts
every 4 MiB. The layout of a manifest is specified in `docs/format.md`.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct
from typing import Any, Final, Protocol

import ormsgpack

from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.store.blobs import DIGEST_SIZE, Blobs, Placed
from agentcache_core.store.entries import BlobRef

PART_SIZE: Final = 4 * 1024 * 1024
READ_SIZE: Final = 1024 * 1024
MANIFEST_VERSION: Final = 1
_ROW: Final = Struct(">32sQ")


class Cutter(Protocol):
    """How content is cut into parts. Cutters keep no state between calls; `window` is how much they want to see."""

    @property
    def window(self) -> int: ...
    def cut(self, buffer: bytes, *, last: bool) -> list[int]:
        """The sizes of the parts at the front of `buffer` that are certain, at least one of them when the buffer
        holds `window` bytes; with `last`, all of them, summing up to the buffer."""
        ...


@dataclass(frozen=True, slots=True)
class FixedCuts:
    """Parts of `size` bytes each, the last one shorter. Finds again what is equal from the front on."""

    size: int = PART_SIZE

    @property
    def window(self) -> int:
        return self.size

    def cut(self, buffer: bytes, *, last: bool) -> list[int]:
        whole, rest = divmod(len(buffer), self.size)
        return [self.size] * whole + ([rest] if last and rest else [])


class Manifest:
    """What an asset is made of: its size in bytes, the keyed digest of its content, and its parts in order."""

    __slots__ = ("_ends", "_table", "digest", "size")

    def __init__(self, digest: bytes, table: bytes) -> None:
        """`table` holds 40 bytes a part: its digest and its length as 8 bytes. `CorruptFrame` when it cannot."""
        if len(digest) != DIGEST_SIZE or len(table) % _ROW.size:
            raise CorruptFrame("the manifest's table is torn")
        self.digest = digest
        self._table = table
        self._ends = list(accumulate(length for _, length in _ROW.iter_unpack(table)))
        self.size = self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[BlobRef]:
        return (BlobRef(digest, length) for digest, length in _ROW.iter_unpack(self._table))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and (self.digest, self._table) == (other.digest, other._table)

    def __hash__(self) -> int:
        return hash((self.digest, self._table))

    def at(self, offset: int) -> tuple[BlobRef, int]:
        """The part that holds the byte at `offset` (within the size), and where in it that byte lies."""
        index = bisect_right(self._ends, offset)
        digest, length = _ROW.unpack_from(self._table, index * _ROW.size)
        return BlobRef(digest, length), offset - (self._ends[index] - length)

    def encode(self) -> bytes:
        """The manifest as payload of its entry."""
        return ormsgpack.packb([MANIFEST_VERSION, self.size, self.digest, self._table])

    @classmethod
    def decode(cls, payload: bytes) -> Manifest:
        """The inverse of `encode`; `CorruptFrame` for anything else."""
        try:
            version, size, digest, table, *_ = ormsgpack.unpackb(payload)
        except (ValueError, TypeError) as problem:
            raise CorruptFrame(f"not a manifest: {problem}") from problem
        if version != MANIFEST_VERSION or type(digest) is not bytes or type(table) is not bytes:
            raise CorruptFrame(f"a manifest of version {version!r}; this program reads {MANIFEST_VERSION}")
        manifest = cls(digest, table)
        if manifest.size != size:
            raise CorruptFrame(f"the parts have {manifest.size} bytes where the manifest says {size}")
        return manifest


@dataclass(frozen=True, slots=True)
class Written:
    """An asset that was written: its manifest, and how many of its parts and bytes were there already."""

    manifest: Manifest
    known_parts: int
    known_bytes: int


class Places(Protocol):
    """Where parts go: `Blobs`, or something around them."""

    async def put(self, payload: bytes, *, now: float, expires_at: float | None = None, kind: str = "") -> Placed: ...


async def write_asset(
    blobs: Places,
    pipeline: Pipeline,
    source: Any,
    *,
    now: float,
    expires_at: float | None = None,
    cutter: Cutter | None = None,
) -> Written:
    """Read `source` (its `read(size)` answers bytes, or an awaitable of them) to its end and store its parts.

    Holds one window of the cutter and one read in memory, whatever the size. The parts are stored when this
    answers; the entry with the manifest is the caller's to write, after. Raises `BackendError`.
    """
    cutter = cutter if cutter is not None else FixedCuts()
    whole = pipeline.hasher()
    rows = bytearray()
    known_parts = known_bytes = 0
    buffer = bytearray()
    last = False
    while not last:
        while len(buffer) < cutter.window:
            block = await _read(source, max(READ_SIZE, cutter.window - len(buffer)))
            if not block:
                last = True
                break
            whole.update(block)
            buffer += block
        start = 0
        for size in cutter.cut(bytes(buffer), last=last):
            part = bytes(buffer[start : start + size])
            start += size
            placed = await blobs.put(part, now=now, expires_at=expires_at, kind="asset")
            rows += _ROW.pack(placed.ref.digest, size)
            known_parts += placed.existed
            known_bytes += size if placed.existed else 0
        del buffer[:start]
    return Written(Manifest(whole.digest(), bytes(rows)), known_parts, known_bytes)


async def _read(source: Any, size: int) -> bytes:
    block = source.read(size)
    if inspect.isawaitable(block):
        block = await block
    if not isinstance(block, bytes | bytearray | memoryview):
        raise TypeError(f"the stream's read() gave {type(block).__name__}, not bytes: open it in binary mode")
    return bytes(block)


class Parts:
    """The content of a manifest, read by position. Holds one part in memory: the one that was read last."""

    __slots__ = ("_blobs", "_held", "_held_digest", "manifest")

    def __init__(self, blobs: Blobs, manifest: Manifest) -> None:
        self._blobs = blobs
        self.manifest = manifest
        self._held_digest = b""
        self._held = b""

    async def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, never across a part's end, none at the end of the content.

        `MissingBlob` or `CorruptFrame` when a part is gone or damaged.
        """
        if size <= 0 or offset >= self.manifest.size:
            return b""
        ref, start = self.manifest.at(offset)
        if ref.digest != self._held_digest:
            self._held = await self._blobs.get(ref)
            self._held_digest = ref.digest
        return self._held[start : start + size]

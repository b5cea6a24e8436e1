"""Manifests: what an asset is made of. The layout is specified in `docs/format.md`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple

import ormsgpack

from agentcache_core.errors import CorruptFrame, UnreadableFrame
from agentcache_core.store.blobs import DIGEST_SIZE
from agentcache_core.store.entries import BlobRef

MANIFEST_VERSION: Final = 1
ROW: Final = Struct(">32sQ")
PLACE: Final = Struct(">III")
LOOSE: Final = PLACE.pack(0, 0, 0)
"""The place of a part that is a blob by itself."""


class Place(NamedTuple):
    """Where a packed part lies: the pack's digest, and the part's frame within it."""

    pack: bytes
    offset: int
    size: int


class Part(NamedTuple):
    """One part: its digest and length, its place when it is packed, and where in the content it begins."""

    ref: BlobRef
    place: Place | None
    start: int


class Manifest:
    """What an asset is made of: its size in bytes, the keyed digest of its content, and its parts in order."""

    __slots__ = ("_ends", "_packs", "_places", "_table", "digest", "size")

    def __init__(self, digest: bytes, table: bytes, packs: bytes = b"", places: bytes = b"") -> None:
        """`table` holds 40 bytes a part: digest, length. `packs` the digests of packs, one after the other; `places`
        12 bytes a part: number of the pack counted from 1 (0: the part is a blob), offset, size. `CorruptFrame` when
        these do not fit together."""
        parts = len(table) // ROW.size
        if len(digest) != DIGEST_SIZE or len(table) % ROW.size or len(packs) % DIGEST_SIZE:
            raise CorruptFrame("the manifest's table is torn")
        if places and len(places) != parts * PLACE.size:
            raise CorruptFrame("the manifest's places do not fit its parts")
        most = len(packs) // DIGEST_SIZE
        if any(number > most for number, _, _ in PLACE.iter_unpack(places)):
            raise CorruptFrame("the manifest names a pack that it does not list")
        self.digest = digest
        self._table = table
        self._packs = packs
        self._places = places
        self._ends = list(accumulate(length for _, length in ROW.iter_unpack(table)))
        self.size = self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Part]:
        return (self.part(index) for index in range(len(self._ends)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash((self.digest, self._table))

    def part(self, index: int) -> Part:
        """The part number `index`."""
        digest, length = ROW.unpack_from(self._table, index * ROW.size)
        place = None
        if self._places:
            number, offset, size = PLACE.unpack_from(self._places, index * PLACE.size)
            if number:
                place = Place(self._packs[(number - 1) * DIGEST_SIZE : number * DIGEST_SIZE], offset, size)
        return Part(BlobRef(digest, length), place, self._ends[index] - length)

    def at(self, offset: int) -> Part:
        """The part that holds the byte at `offset`, which must lie within the size."""
        return self.part(bisect_right(self._ends, offset))

    @property
    def needed(self) -> list[BlobRef]:
        """The stored objects it needs, each once: parts that are blobs, and packs with how much of them it needs."""
        seen: dict[bytes, int] = {}
        for ref, place, _ in self:
            digest = ref.digest if place is None else place.pack
            seen[digest] = seen.get(digest, 0) + ref.size
        return [BlobRef(digest, size) for digest, size in seen.items()]

    def encode(self) -> bytes:
        """The manifest as it is stored."""
        fields: list[object] = [MANIFEST_VERSION, self.size, self.digest, self._table]
        if self._packs:
            fields += [self._packs, self._places]
        return ormsgpack.packb(fields)

    @classmethod
    def decode(cls, encoded: bytes) -> Manifest:
        """The inverse of `encode`; `CorruptFrame` for anything else."""
        try:
            version, size, digest, table, *more = ormsgpack.unpackb(encoded)
        except (ValueError, TypeError) as problem:
            raise CorruptFrame(f"not a manifest: {problem}") from problem
        if type(version) is int and version > MANIFEST_VERSION:
            raise UnreadableFrame(f"a manifest of version {version}; this program reads {MANIFEST_VERSION}")
        packs, places = (*more, b"", b"")[:2] if len(more) >= 2 else (b"", b"")
        if version != MANIFEST_VERSION or any(type(part) is not bytes for part in (digest, table, packs, places)):
            raise CorruptFrame("a manifest with fields of wrong types")
        manifest = cls(digest, table, packs, places)
        if manifest.size != size:
            raise CorruptFrame(f"the parts have {manifest.size} bytes where the manifest says {size}")
        return manifest

"""Manifests: what an asset is made of. The layout is specified in `docs/format.md`.

A manifest with few parts holds them in a `Table`. One with many holds an `Index` of pages, each a stored blob with a
table or a further index in it, so that neither who writes an asset nor who reads it ever holds all of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from struct import Struct
from typing import Any, Final, NamedTuple

import ormsgpack

from agentcache_core.errors import CorruptFrame, UnreadableFrame
from agentcache_core.store.entries import BlobRef

DIGEST_SIZE: Final = 32
SINGLE, PAGED = 1, 2
"""Versions of a manifest: all parts in one table; pages."""
MOST_LEVELS: Final = 8
ROW: Final = Struct(">32sQ")
PLACE: Final = Struct(">III")
PAGE: Final = Struct(">32sQI")


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


class Page(NamedTuple):
    """A page: the blob it is stored as, where in the content it begins, and how many bytes of it it covers."""

    ref: BlobRef
    start: int
    covers: int


class Table:
    """Parts in order. `size` is the bytes of content they cover; they begin at 0 of the table."""

    __slots__ = ("_ends", "_packs", "_places", "_rows", "size")

    def __init__(self, rows: bytes, packs: bytes = b"", places: bytes = b"") -> None:
        """`rows` holds 40 bytes a part: digest, length. `packs` the digests of packs, one after the other; `places` 12
        bytes a part: number of the pack counted from 1 (0: the part is a blob), offset, size. `CorruptFrame` when
        these do not fit together."""
        parts = len(rows) // ROW.size
        if len(rows) % ROW.size or len(packs) % DIGEST_SIZE:
            raise CorruptFrame("the manifest's table is torn")
        if places and len(places) != parts * PLACE.size:
            raise CorruptFrame("the manifest's places do not fit its parts")
        most = len(packs) // DIGEST_SIZE
        if any(number > most for number, _, _ in PLACE.iter_unpack(places)):
            raise CorruptFrame("the manifest names a pack that it does not list")
        self._rows, self._packs, self._places = rows, packs, places
        self._ends = list(accumulate(length for _, length in ROW.iter_unpack(rows)))
        self.size = self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Part]:
        return (self.part(index) for index in range(len(self._ends)))

    def part(self, index: int) -> Part:
        """The part number `index`."""
        digest, length = ROW.unpack_from(self._rows, index * ROW.size)
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

    @property
    def fields(self) -> list[bytes]:
        """What it is stored as."""
        return [self._rows, self._packs, self._places] if self._packs else [self._rows]


class Index:
    """Pages in order. `size` is the bytes of content they cover; they begin at 0 of the index."""

    __slots__ = ("_ends", "_rows", "size")

    def __init__(self, rows: bytes) -> None:
        """`rows` holds 44 bytes a page: digest, bytes of content covered, size of the page. `CorruptFrame` if not."""
        if len(rows) % PAGE.size:
            raise CorruptFrame("the manifest's list of pages is torn")
        self._rows = rows
        self._ends = list(accumulate(covers for _, covers, _ in PAGE.iter_unpack(rows)))
        self.size = self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Page]:
        return (self.page(index) for index in range(len(self._ends)))

    def page(self, index: int) -> Page:
        """The page number `index`."""
        digest, covers, size = PAGE.unpack_from(self._rows, index * PAGE.size)
        return Page(BlobRef(digest, size), self._ends[index] - covers, covers)

    def at(self, offset: int) -> Page:
        """The page that covers the byte at `offset`, which must lie within the size."""
        return self.page(bisect_right(self._ends, offset))

    @property
    def fields(self) -> list[bytes]:
        """What it is stored as."""
        return [self._rows]


Body = Table | Index


class Manifest:
    """What an asset is made of: its size in bytes, the keyed digest of its content, how many parts it has, and `body`:
    a table of them, or an index of pages with `level` levels below it."""

    __slots__ = ("body", "digest", "level", "parts", "size")

    def __init__(self, digest: bytes, body: Body, *, parts: int | None = None, level: int | None = None) -> None:
        """`parts` and `level` are for an index. `CorruptFrame` when these do not fit together."""
        if isinstance(body, Table):
            parts, level = len(body), 0
        if len(digest) != DIGEST_SIZE or parts is None or level is None or level > MOST_LEVELS:
            raise CorruptFrame("a manifest whose fields do not fit together")
        self.digest = digest
        self.body = body
        self.size = body.size
        self.parts = parts
        self.level = level

    def __len__(self) -> int:
        return self.parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash((self.digest, self.size))

    def encode(self) -> bytes:
        """The manifest as it is stored."""
        fields: list[Any] = [SINGLE, self.size, self.digest]
        if self.level:
            fields = [PAGED, self.size, self.digest, self.parts, self.level]
        return ormsgpack.packb(fields + self.body.fields)

    @classmethod
    def decode(cls, encoded: bytes) -> Manifest:
        """The inverse of `encode`; `CorruptFrame` for anything else."""
        version, size, digest, *more = _unpacked(encoded, least=4)
        if type(version) is int and version > PAGED:
            raise UnreadableFrame(f"a manifest of version {version}; this program reads {PAGED}")
        if type(digest) is not bytes:
            raise CorruptFrame("a manifest with fields of wrong types")
        if version == SINGLE:
            manifest = cls(digest, _table(more))
        elif version == PAGED and len(more) >= 3 and type(more[0]) is int and type(more[1]) is int and more[1] > 0:
            manifest = cls(digest, _index(more[2]), parts=more[0], level=more[1])
        else:
            raise CorruptFrame("a manifest with fields of wrong types")
        if manifest.size != size:
            raise CorruptFrame(f"the parts have {manifest.size} bytes where the manifest says {size}")
        return manifest


def encode_page(body: Body, level: int) -> bytes:
    """A page as it is stored."""
    return ormsgpack.packb([level, *body.fields])


def decode_page(encoded: bytes, page: Page, level: int) -> Body:
    """What stands in a page of a level; `CorruptFrame` when it is not the page that an index speaks of."""
    stated, *fields = _unpacked(encoded, least=2)
    if stated != level:
        raise CorruptFrame(f"a page of level {stated!r} where one of level {level} belongs")
    body = _index(fields[0]) if level else _table(fields)
    if body.size != page.covers:
        raise CorruptFrame(f"a page that covers {body.size} bytes where its index says {page.covers}")
    return body


def _unpacked(encoded: bytes, *, least: int) -> list[Any]:
    try:
        fields = ormsgpack.unpackb(encoded)
    except (ValueError, TypeError) as problem:
        raise CorruptFrame(f"not a manifest: {problem}") from problem
    if type(fields) is not list or len(fields) < least:
        raise CorruptFrame("not a manifest: too few fields")
    return fields


def _table(fields: list[Any]) -> Table:
    rows, packs, places = (*fields, b"", b"")[:3] if len(fields) >= 3 else (fields[0], b"", b"")
    if any(type(part) is not bytes for part in (rows, packs, places)):
        raise CorruptFrame("a manifest with fields of wrong types")
    return Table(rows, packs, places)


def _index(rows: Any) -> Index:
    if type(rows) is not bytes:
        raise CorruptFrame("a manifest with fields of wrong types")
    return Index(rows)

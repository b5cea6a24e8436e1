"""Manifests of any length, written and read a page at a time.

A writer fills a table; when it is full it becomes a page, a blob like any other, and a row of the index above, which
does the same when it is full. What is left in the end is the manifest: a table when it never became full, else the
topmost index. Written bottom up, everything a page names is stored (or about to be) before the entry that names it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from agentcache_core.errors import CorruptFrame
from agentcache_core.store.entries import BlobRef
from agentcache_core.store.manifest import (
    PAGE,
    PLACE,
    ROW,
    Body,
    Index,
    Manifest,
    Page,
    Part,
    Place,
    Table,
    decode_page,
    encode_page,
)

MOST_ROWS: Final = 4096
"""Rows of a table or an index before it becomes a page: 4,096 parts of 8 KiB are 32 MiB of content in 210 KB."""
Keep = Callable[[bytes], Awaitable[BlobRef]]
Fetch = Callable[[BlobRef], Awaitable[bytes]]


class ManifestWriter:
    """Takes the parts of one asset in order. `keep` stores a page and answers how to name it; `most` is how many rows a
    page has, by itself `MOST_ROWS`."""

    def __init__(self, keep: Keep, *, most: int | None = None) -> None:
        self._keep = keep
        self._most = MOST_ROWS if most is None else most
        self._parts = 0
        self._indexes: list[bytearray] = []  # the lowest level of pages first
        self._new_table()

    def _new_table(self) -> None:
        self._rows, self._places = bytearray(), bytearray()
        self._packs: dict[bytes, int] = {}

    async def add(self, ref: BlobRef, place: Place | None) -> None:
        """The next part. Raises `BackendError`."""
        if len(self._rows) == self._most * ROW.size:
            await self._turn_table()
        self._parts += 1
        self._rows += ROW.pack(ref.digest, ref.size)
        number = 0 if place is None else self._packs.setdefault(place.pack, len(self._packs) + 1)
        self._places += PLACE.pack(number, *(place[1:] if place else (0, 0)))

    async def finish(self, digest: bytes) -> Manifest:
        """The manifest of content with this digest. Raises `BackendError`."""
        if not self._indexes:
            return Manifest(digest, self._table())
        await self._turn_table()
        level = 0
        while level + 1 < len(self._indexes):
            await self._turn(level)
            level += 1
        return Manifest(digest, Index(bytes(self._indexes[-1])), parts=self._parts, level=len(self._indexes))

    def _table(self) -> Table:
        packs = b"".join(self._packs)
        return Table(bytes(self._rows), packs, bytes(self._places) if packs else b"")

    async def _turn_table(self) -> None:
        table = self._table()
        self._new_table()
        await self._file(table, 0)

    async def _turn(self, level: int) -> None:
        """Make the index above pages of `level` a page itself."""
        index = Index(bytes(self._indexes[level]))
        self._indexes[level].clear()
        if index.size:
            await self._file(index, level + 1)

    async def _file(self, body: Body, level: int) -> None:
        ref = await self._keep(encode_page(body, level))
        if level == len(self._indexes):
            self._indexes.append(bytearray())
        elif len(self._indexes[level]) == self._most * PAGE.size:
            await self._turn(level)
        self._indexes[level] += PAGE.pack(ref.digest, body.size, ref.size)


class ManifestReader:
    """The parts of a manifest, by position or in order. Holds one page of each level. `fetch` reads a page's bytes."""

    def __init__(self, manifest: Manifest, fetch: Fetch) -> None:
        self._manifest = manifest
        self._fetch = fetch
        self._held: list[tuple[bytes, Body] | None] = [None] * manifest.level

    async def at(self, offset: int) -> Part:
        """The part that holds the byte at `offset`, which must lie within the size. `CorruptFrame` when a page cannot
        be trusted, `MissingBlob` when it is gone, another `BackendError` when the store fails."""
        body, start = self._manifest.body, 0
        level = self._manifest.level
        while isinstance(body, Index):
            level -= 1
            page = body.at(offset - start)
            start += page.start
            body = await self._page(page, level)
        ref, place, begins = body.at(offset - start)
        return Part(ref, place, start + begins)

    async def _page(self, page: Page, level: int) -> Body:
        held = self._held[level]
        if held is not None and held[0] == page.ref.digest and held[1].size == page.covers:
            return held[1]
        body = decode_page(await self._fetch(page.ref), page, level)
        self._held[level] = (page.ref.digest, body)
        return body

    async def walk(self) -> AsyncIterator[BlobRef | Table]:
        """Every page's blob and every table, in order, each page's blob before what it leads to."""
        async for found in self._walk(self._manifest.body, self._manifest.level):
            yield found

    async def _walk(self, body: Body, level: int) -> AsyncIterator[BlobRef | Table]:
        if isinstance(body, Table):
            yield body
            return
        for page in body:
            yield page.ref
            below = decode_page(await self._fetch(page.ref), page, level - 1)
            async for found in self._walk(below, level - 1):
                yield found


async def no_pages(ref: BlobRef) -> bytes:
    """A `fetch` for manifests that have no pages."""
    raise CorruptFrame(f"page {ref.digest.hex()[:16]} was not expected")

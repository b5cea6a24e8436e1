"""Packs: many small parts in one stored object, so that content-defined parts do not become millions of objects.

A pack is stored like a blob, under a random name, and holds the frames of its parts one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.store.blobs import Blobs, Placed
from agentcache_core.store.entries import BlobRef
from agentcache_core.store.manifest import DIGEST_SIZE, Place
from agentcache_core.store.packindex import MOST_PACKS, PackIndex, Row, load_index, note, unlist

PACK_SIZE: Final = 4 * 1024 * 1024


class PackedParts:
    """Where the parts of one asset go: known ones are named where they are, new ones fill packs.

    Holds one pack and the digests in it, whatever the size of the asset: what is in packs that are written, `index`
    knows. `prefix` is the tenant's; the index is shared by the assets that one process writes.
    """

    def __init__(self, store: Any, blobs: Blobs, pipeline: Pipeline, prefix: bytes, index: PackIndex) -> None:
        self._store = store
        self._blobs = blobs
        self._pipeline = pipeline
        self._prefix = prefix
        self._index = index
        self._living: dict[bytes, bool] = {}  # packs that live on for this asset, oldest first; a dict keeps the order
        self._pack = b""  # the name of the pack that is being filled
        self._here: dict[bytes, Place] = {}
        self._frames: list[bytes] = []
        self._rows: list[Row] = []
        self._filled = 0
        self._opened = False
        self.until: dict[str, Any] = {}

    async def put(self, parts: Sequence[bytes], *, now: float, expires_at: float | None = None) -> list[Placed]:
        """Place parts, in order. Raises `BackendError`."""
        self.until = {"now": now, "expires_at": expires_at}
        if not self._opened:
            await load_index(self._store, self._pipeline, self._prefix, self._index)
            self._opened = True
        digests: list[bytes] = await self._blobs.aside(parts, lambda: [self._pipeline.digest(part) for part in parts])
        places = [await self._known(digest) for digest in digests]
        fresh = {digest: part for digest, part, place in zip(digests, parts, places, strict=True) if place is None}
        sealed = await self._blobs.aside(
            fresh.values(), lambda: {name: self._sealed(name, part) for name, part in fresh.items()}
        )
        answers, written = [], dict[bytes, Place]()
        for digest, part, known in zip(digests, parts, places, strict=True):
            place = known or written.get(digest)
            if place is None:
                place = written[digest] = await self._append(digest, len(part), sealed[digest])
                answers.append(Placed(BlobRef(digest, len(part)), False, place))
            else:
                answers.append(Placed(BlobRef(digest, len(part)), True, place))
        return answers

    async def keep(self, page: bytes, *, now: float, expires_at: float | None = None) -> BlobRef:
        """Store a page of the manifest: a blob by itself."""
        return (await self._blobs.put(page, now=now, expires_at=expires_at)).ref

    async def finish(self) -> None:
        """Write what is left. Raises `BackendError`."""
        if self._frames:
            await self._flush()

    def _sealed(self, digest: bytes, part: bytes) -> bytes:
        return self._pipeline.seal(frame.BLOB, b"", part, kind="asset", bound_to=self._blobs.name(digest))

    async def _known(self, digest: bytes) -> Place | None:
        """The place of a part in this asset's open pack, or in an older pack that lives on for it."""
        place = self._here.get(digest) or self._index.find(digest)
        if place is None or place.pack == self._pack or place.pack in self._living:
            return place
        if not await self._blobs.renew(place.pack, **self.until):
            await unlist(self._store, self._pipeline, self._prefix, place.pack, self._index)
            return None
        self._lives(place.pack)
        return place

    def _lives(self, pack: bytes) -> None:
        while len(self._living) >= 2 * MOST_PACKS:  # more than the index speaks of at once
            del self._living[next(iter(self._living))]
        self._living[pack] = True

    async def _append(self, digest: bytes, size: int, sealed: bytes) -> Place:
        if not self._frames:
            self._pack = os.urandom(DIGEST_SIZE)
        place = self._here[digest] = Place(self._pack, self._filled, len(sealed))
        self._rows.append((digest, self._filled, len(sealed), size))
        self._frames.append(sealed)
        self._filled += len(sealed)
        if self._filled >= PACK_SIZE:
            await self._flush()
        return place

    async def _flush(self) -> None:
        pack, rows = self._pack, self._rows
        await self._blobs.put_raw(pack, b"".join(self._frames), **self.until)
        self._lives(pack)
        self._pack, self._frames, self._rows, self._filled = b"", [], [], 0
        await note(self._store, self._pipeline, self._prefix, pack, rows, self._index)
        self._here.clear()

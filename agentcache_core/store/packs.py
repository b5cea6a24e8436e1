"""Packs: many small parts in one stored object, so that content-defined parts do not become millions of objects.

A pack is stored like a blob, under a random name, and holds the frames of its parts one after the other. Which packs a
tenant wrote last, and what is in them, is kept in an index from which later assets learn what is stored already. The
index is a hint: a pack it names is made to live on before it is relied upon, and a damaged one is taken off it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from struct import Struct
from typing import Any, Final

from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import BackendError, CorruptFrame
from agentcache_core.store.blobs import DIGEST_SIZE, Blobs, Placed
from agentcache_core.store.manifest import PLACE, Place

PACK_SIZE: Final = 4 * 1024 * 1024
MOST_PACKS: Final = 256
"""How many of the newest packs are searched for parts that are stored already: 1 GiB of content, 30 MB of memory."""
MAX_LISTING: Final = 1 << 24
_ROW: Final = Struct(">32sIII")
ATTEMPTS: Final = 8


class PackIndex:
    """Where a tenant's newest parts lie on one tier, as far as this process has read. A hint, never the truth."""

    __slots__ = ("_packs", "_rows", "loaded")

    def __init__(self) -> None:
        self.loaded: bytes | None = None
        self._rows: dict[bytes, Place] = {}
        self._packs: dict[bytes, list[bytes]] = {}

    def __contains__(self, pack: bytes) -> bool:
        return pack in self._packs

    def find(self, digest: bytes) -> Place | None:
        """The place of a part, or None."""
        return self._rows.get(digest)

    def add(self, pack: bytes, rows: Sequence[tuple[bytes, int, int]]) -> None:
        """Learn a pack's parts: digest, offset and size of each frame. The oldest pack makes room."""
        while len(self._packs) >= MOST_PACKS:
            self.forget(next(iter(self._packs)))
        self._packs[pack] = [digest for digest, _, _ in rows]
        for digest, offset, size in rows:
            self._rows[digest] = Place(pack, offset, size)

    def forget(self, pack: bytes) -> None:
        """A pack is gone."""
        for digest in self._packs.pop(pack, ()):
            if (place := self._rows.get(digest)) is not None and place.pack == pack:
                del self._rows[digest]

    def keep_only(self, packs: Sequence[bytes]) -> None:
        """Forget the packs that are not among these."""
        for pack in set(self._packs).difference(packs):
            self.forget(pack)


class PackedParts:
    """Where the parts of one asset go: known ones are named where they are, new ones fill packs.

    `prefix` is the tenant's; `index` is shared by the assets that one process writes.
    """

    def __init__(self, store: Any, blobs: Blobs, pipeline: Pipeline, prefix: bytes, index: PackIndex) -> None:
        self._store = store
        self._blobs = blobs
        self._pipeline = pipeline
        self._prefix = prefix
        self._index = index
        self._here: dict[bytes, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        self._packs: list[bytes] = []
        self._places = bytearray()
        self._open = 0  # the number of the pack that is being filled, 0 = none
        self._frames: list[bytes] = []
        self._rows: list[tuple[bytes, int, int, int]] = []
        self._filled = 0
        self._opened = False
        self.until: dict[str, Any] = {}

    async def put(self, payload: bytes, *, now: float, expires_at: float | None = None, kind: str = "") -> Placed:
        """Place one part. Raises `BackendError`."""
        self.until = {"now": now, "expires_at": expires_at}
        if not self._opened:
            await load_index(self._store, self._pipeline, self._prefix, self._index)
            self._opened = True
        ref = self._blobs.ref(payload)
        known = self._here.get(ref.digest)
        if known is None:
            known = await self._known(ref.digest)
        if known is not None:
            self._places += known
            return Placed(ref, True)
        sealed = self._pipeline.seal(frame.BLOB, b"", payload, kind=kind, bound_to=self._blobs.name(ref.digest))
        if not self._open:
            self._packs.append(b"")
            self._open = len(self._packs)
        self._here[ref.digest] = place = PLACE.pack(self._open, self._filled, len(sealed))
        self._places += place
        self._rows.append((ref.digest, self._filled, len(sealed), ref.size))
        self._frames.append(sealed)
        self._filled += len(sealed)
        if self._filled >= PACK_SIZE:
            await self._flush()
        return Placed(ref, False)

    async def finish(self) -> tuple[bytes, bytes]:
        """Write what is left; answers the manifest's packs and places. Raises `BackendError`."""
        if self._frames:
            await self._flush()
        return b"".join(self._packs), bytes(self._places)

    async def _known(self, digest: bytes) -> bytes | None:
        """The place of a part in an older pack that lives on for this asset."""
        place = self._index.find(digest)
        if place is None:
            return None
        number = self._numbers.get(place.pack)
        if number is None:
            if not await self._blobs.renew(place.pack, **self.until):
                await unlist(self._store, self._pipeline, self._prefix, place.pack, self._index)
                return None
            self._packs.append(place.pack)
            number = self._numbers[place.pack] = len(self._packs)
        found = self._here[digest] = PLACE.pack(number, place.offset, place.size)
        return found

    async def _flush(self) -> None:
        pack = os.urandom(DIGEST_SIZE)
        await self._blobs.put_raw(pack, b"".join(self._frames), **self.until)
        self._packs[self._open - 1] = pack
        self._numbers[pack] = self._open
        self._index.add(pack, [(digest, offset, size) for digest, offset, size, _ in self._rows])
        listing = b"".join(_ROW.pack(*row) for row in self._rows)
        await _note(self._store, self._pipeline, self._prefix, pack, listing, self._index)
        self._frames, self._rows, self._filled, self._open = [], [], 0, 0


def _names(prefix: bytes) -> tuple[bytes, bytes]:
    return prefix + b"/q", prefix + b"/q/"


async def load_index(store: Any, pipeline: Pipeline, prefix: bytes, index: PackIndex) -> None:
    """Learn of the packs that were written since the index was last read: one read when there are none."""
    whole, each = _names(prefix)
    stored = await store.get(whole)
    if not stored or stored.data == index.loaded:
        return
    listed = _listed(pipeline, whole, stored.data)
    index.keep_only(listed)
    new = [pack for pack in listed if pack not in index]
    for start in range(0, len(new), 64):
        names = [each + pack for pack in new[start : start + 64]]
        batch = getattr(store, "get_many", None)
        found = await batch(names) if batch is not None else [await store.get(name) for name in names]
        for pack, name, held in zip(new[start : start + 64], names, found, strict=True):
            if held:
                index.add(pack, _rows_of(pipeline, name, held.data))
    index.loaded = stored.data


async def _note(store: Any, pipeline: Pipeline, prefix: bytes, pack: bytes, listing: bytes, index: PackIndex) -> None:
    """Add a pack to the stored index. When that fails only later dedup suffers, so trouble is not handed on."""
    whole, each = _names(prefix)
    try:
        name = each + pack
        await store.put(name, pipeline.seal(frame.RECORD, b"", listing, bound_to=name))
        for _ in range(ATTEMPTS):
            stored = await store.get(whole)
            packs = _listed(pipeline, whole, stored.data) if stored else []
            kept = [known for known in packs if known != pack] + [pack]
            sealed = pipeline.seal(frame.RECORD, b"", b"".join(kept[-MOST_PACKS:]), bound_to=whole)
            condition = {"if_version": stored.version} if stored else {"if_absent": True}
            if await store.put(whole, sealed, **condition) is not None:
                for old in kept[:-MOST_PACKS]:
                    await store.delete(each + old)
                index.loaded = sealed
                return
    except BackendError:
        return


async def unlist(store: Any, pipeline: Pipeline, prefix: bytes, pack: bytes, index: PackIndex) -> None:
    """Take a lost or damaged pack off the index, so that its parts are stored anew. Trouble is not handed on."""
    index.forget(pack)
    whole, each = _names(prefix)
    try:
        for _ in range(ATTEMPTS):
            stored = await store.get(whole)
            packs = _listed(pipeline, whole, stored.data) if stored else []
            if pack not in packs:
                return
            packs.remove(pack)
            sealed = pipeline.seal(frame.RECORD, b"", b"".join(packs), bound_to=whole)
            if await store.put(whole, sealed, if_version=stored.version) is not None:
                await store.delete(each + pack)
                return
    except BackendError:
        return


def _listed(pipeline: Pipeline, name: bytes, data: bytes) -> list[bytes]:
    try:
        body = pipeline.open(frame.RECORD, data, max_size=MAX_LISTING, bound_to=name).body
    except CorruptFrame:
        return []
    return [
        body[start : start + DIGEST_SIZE] for start in range(0, len(body) // DIGEST_SIZE * DIGEST_SIZE, DIGEST_SIZE)
    ]


def _rows_of(pipeline: Pipeline, name: bytes, data: bytes) -> list[tuple[bytes, int, int]]:
    try:
        body = pipeline.open(frame.RECORD, data, max_size=MAX_LISTING, bound_to=name).body
    except CorruptFrame:
        return []
    whole = body[: len(body) // _ROW.size * _ROW.size]
    return [(digest, offset, size) for digest, offset, size, _ in _ROW.iter_unpack(whole)]

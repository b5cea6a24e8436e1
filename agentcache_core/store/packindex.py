"""Which packs a tenant wrote last, and what is in them: from this later assets learn what is stored already.

The index is a hint: a pack it names is made to live on before it is relied upon, and a damaged one is taken off it. In
memory it is one table of fixed size, however much is stored, in which the newest parts take the place of the oldest.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import Any, Final

from agentcache_core.batch import fetch
from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import BackendError, CorruptFrame
from agentcache_core.store.manifest import DIGEST_SIZE, Place

MOST_PACKS: Final = 256
"""How many of the newest packs are searched for parts that are stored already: 1 GiB of content."""
MOST_PARTS: Final = 1 << 17
"""How many parts are known at most: those of 1 GiB at 8 KiB each, in 8 MB of memory."""
FEWEST_ADDRESSES: Final = 1024
MAX_LISTING: Final = 1 << 24
BATCH: Final = 16
ATTEMPTS: Final = 8
_ROW: Final = Struct(">32sIII")
Row = tuple[bytes, int, int, int]
"""A part in a pack: digest, offset and size of its frame, its own length in bytes."""


class PackIndex:
    """Where a tenant's newest parts lie on one tier, as far as this process has read. Safe from many threads.

    Rows of digest, number of the pack, offset and size lie in a ring; which row a digest has is found by open
    addressing (Knuth, "The Art of Computer Programming", vol. 3, 6.4, algorithm L). A row that was overwritten, or
    whose pack was forgotten, is passed over when it is met; such go when the addresses fill up and are made anew.
    """

    __slots__ = ("_addresses", "_count", "_lock", "_most", "_names", "_next", "_numbers", "_rows", "_used", "loaded")

    def __init__(self, *, most: int = MOST_PARTS) -> None:
        """`most` parts are known at once."""
        self.loaded: bytes | None = None
        self._lock = threading.Lock()
        self._most = most
        self._rows = bytearray()
        self._next = 0
        self._count = 0
        self._numbers: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}
        self._address_anew()

    def __contains__(self, pack: bytes) -> bool:
        return pack in self._numbers

    def find(self, digest: bytes) -> Place | None:
        """The place of a part, or None."""
        with self._lock:
            last = len(self._addresses) - 1
            at = int.from_bytes(digest[:8], "big") & last
            while address := self._addresses[at]:
                found, number, offset, size = _ROW.unpack_from(self._rows, (address - 1) * _ROW.size)
                if found == digest and number in self._names:
                    return Place(self._names[number], offset, size)
                at = (at + 1) & last
            return None

    def add(self, pack: bytes, rows: Iterable[Row]) -> None:
        """Learn what is in a pack; the oldest make room."""
        with self._lock:
            while len(self._numbers) >= MOST_PACKS:
                self._forget(next(iter(self._numbers)))
            self._count += 1
            self._numbers[pack], self._names[self._count] = self._count, pack
            for digest, offset, size, _ in rows:
                begins = self._next * _ROW.size
                self._rows[begins : begins + _ROW.size] = _ROW.pack(digest, self._count, offset, size)
                if self._used >= len(self._addresses) * 3 // 4:
                    self._address_anew()
                else:
                    self._address(digest, self._next)
                self._next = (self._next + 1) % self._most

    def forget(self, pack: bytes) -> None:
        """A pack is gone."""
        with self._lock:
            self._forget(pack)

    def keep_only(self, packs: Sequence[bytes]) -> None:
        """Forget the packs that are not among these."""
        with self._lock:
            for pack in set(self._numbers).difference(packs):
                self._forget(pack)

    def _forget(self, pack: bytes) -> None:
        number = self._numbers.pop(pack, None)
        if number is not None:
            del self._names[number]

    def _address(self, digest: bytes, row: int) -> None:
        last = len(self._addresses) - 1
        at = int.from_bytes(digest[:8], "big") & last
        while self._addresses[at]:
            at = (at + 1) & last
        self._addresses[at] = row + 1
        self._used += 1

    def _address_anew(self) -> None:
        """Address every row that counts, in a table that has room for three times as many."""
        counting = sum(number in self._names for _, number, _, _ in _ROW.iter_unpack(self._rows))
        size = FEWEST_ADDRESSES
        while size < 4 * (counting + 1):
            size *= 2
        self._addresses = array("I", bytes(4 * size))
        self._used = 0
        for row, (digest, number, _, _) in enumerate(_ROW.iter_unpack(self._rows)):
            if number in self._names:
                self._address(digest, row)


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
    for start in range(0, len(new), BATCH):
        packs = new[start : start + BATCH]
        names = [each + pack for pack in packs]
        for pack, name, held in zip(packs, names, await fetch(store, names), strict=True):
            if held:
                index.add(pack, _rows_of(pipeline, name, held.data))
    index.loaded = stored.data


async def note(
    store: Any, pipeline: Pipeline, prefix: bytes, pack: bytes, rows: Sequence[Row], index: PackIndex
) -> None:
    """Add a pack to the index, here and as stored. When that fails only later dedup suffers, so trouble is not handed
    on."""
    index.add(pack, rows)
    whole, each = _names(prefix)
    listing = b"".join(_ROW.pack(*row) for row in rows)
    try:
        name = each + pack
        await store.put(name, pipeline.seal(frame.RECORD, b"", listing, bound_to=name))
        for _ in range(ATTEMPTS):
            stored = await store.get(whole)
            packs = _listed(pipeline, whole, stored.data) if stored else []
            all_known = (stored.data if stored else None) == index.loaded
            kept = [known for known in packs if known != pack] + [pack]
            sealed = pipeline.seal(frame.RECORD, b"", b"".join(kept[-MOST_PACKS:]), bound_to=whole)
            condition = {"if_version": stored.version} if stored else {"if_absent": True}
            if await store.put(whole, sealed, **condition) is not None:
                for old in kept[:-MOST_PACKS]:
                    await store.delete(each + old)
                if all_known:
                    index.loaded = sealed  # else the next asset learns what others have written meanwhile
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


def _rows_of(pipeline: Pipeline, name: bytes, data: bytes) -> Iterator[Row]:
    try:
        body = pipeline.open(frame.RECORD, data, max_size=MAX_LISTING, bound_to=name).body
    except CorruptFrame:
        return iter(())
    return _ROW.iter_unpack(body[: len(body) // _ROW.size * _ROW.size])

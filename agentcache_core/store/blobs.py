"""Blobs: payloads stored once per tenant and tier, named by their keyed digest.

The order of writes is what keeps them whole: a blob is written, or made to live on, before the entry that names it;
an entry is removed before its blob, which only the sweeper removes, and never one that was touched within the grace
age. A crash in between leaves a blob nobody names, never an entry whose blob is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

from agentcache_core.backend import Put, Stat
from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame, MissingBlob, UnreadableFrame
from agentcache_core.store.entries import BlobRef
from agentcache_core.store.manifest import Place

T = TypeVar("T")
Offload = Callable[[Callable[[], Any]], Awaitable[Any]]
GRACE: Final = 24 * 3600.0
"""Seconds for which a blob is safe from the sweeper after it was written or named again."""
REFRESH: Final = GRACE / 4
"""A blob this old is made young again before another entry names it (stores that cannot touch pay a rewrite)."""
OUTLIVES: Final = 3600.0
"""Seconds by which a blob outlives the entry that names it, for clocks that differ."""


LARGE: Final = 256 * 1024
MOST_OVERHEAD: Final = 1024
"""More than a frame adds to a payload, encryption included."""


OFFLOAD_FROM: Final = 128 * 1024
"""Bytes from which on hashing, compressing and checking are worth a change of threads on an event loop."""


class Placed(NamedTuple):
    """A payload that is stored: its reference, whether it was there already, and where it lies when it is packed."""

    ref: BlobRef
    existed: bool
    place: Place | None = None


class Payload(NamedTuple):
    """A payload to be stored: the content, when the entry that names it is gone, the kind that chooses a dictionary,
    and what a bounded store is told of it."""

    content: bytes
    expires_at: float | None = None
    kind: str = ""
    weight: float | None = None

    def joined(self, other: Payload) -> Payload:
        """The same content for two entries: it lives as long as both, and weighs as much as the dearer."""
        never = self.expires_at is None or other.expires_at is None
        return self._replace(
            expires_at=None if never else max(self.expires_at or 0.0, other.expires_at or 0.0),
            weight=max(self.weight or 0.0, other.weight or 0.0),
        )


class Blobs:
    """The blobs of one tenant on one store. `store` is an async-shaped backend; `prefix` begins each blob's name.

    `offload` runs a function that takes long where it does not hold up others (`Runtime.offload`); without it such
    work is done at once.
    """

    __slots__ = ("_offload", "_pipeline", "_prefix", "_store")

    def __init__(self, store: Any, pipeline: Pipeline, prefix: bytes, *, offload: Offload | None = None) -> None:
        self._store = store
        self._pipeline = pipeline
        self._prefix = prefix
        self._offload = offload

    async def aside(self, of: int | Iterable[bytes], work: Callable[[], T]) -> T:
        """The answer of `work()`, done aside where it is about many bytes: `of` is how many, or which."""
        if self._offload is None or (of if isinstance(of, int) else sum(map(len, of))) < OFFLOAD_FROM:
            return work()
        return cast("T", await self._offload(work))

    def name(self, digest: bytes) -> bytes:
        """The name a blob is stored under."""
        return self._prefix + digest

    def ref(self, payload: bytes | memoryview) -> BlobRef:
        """How an entry names `payload`."""
        return BlobRef(self._pipeline.digest(payload), len(payload))

    async def put(
        self,
        payload: bytes,
        *,
        now: float,
        expires_at: float | None = None,
        kind: str = "",
        weight: float | None = None,
        ref: BlobRef | None = None,
    ) -> Placed:
        """Store `payload` unless it is there, and see that it outlives an entry that is gone at `expires_at`.

        `kind` chooses the dictionary, `weight` is what a bounded store is told of it; `ref` saves hashing again where
        the caller has it. Raises `BackendError`.
        """
        ref = ref if ref is not None else await self.aside(len(payload), lambda: self.ref(payload))
        name = self.name(ref.digest)
        until = _outliving(expires_at)
        touch = getattr(self._store, "touch", None)
        if touch is not None:
            if await touch(name, until):
                return Placed(ref, True)
            sealed = await self._sealed(name, payload, kind)
            if await self._store.put(name, sealed, expires_at=until, if_absent=True, weight=weight) is not None:
                return Placed(ref, False)
            if await touch(name, until):  # another writer was quicker
                return Placed(ref, True)
            await self._store.put(name, sealed, expires_at=until, weight=weight)
            return Placed(ref, False)
        stat = await self._stat(name)
        if stat is not None:
            if _safe(stat, until, now):
                return Placed(ref, True)
            until = None if until is None or stat.expires_at is None else max(until, stat.expires_at)
        await self._store.put(name, await self._sealed(name, payload, kind), expires_at=until, weight=weight)
        return Placed(ref, stat is not None)

    async def put_many(self, payloads: Sequence[Payload], *, now: float) -> list[Placed]:
        """`put` for several: one round trip for those that are new, one more for those that are there already, where
        the store can. Equal payloads are stored once. Raises `BackendError`."""
        contents = [payload.content for payload in payloads]
        refs = await self.aside(contents, lambda: [self.ref(content) for content in contents])
        wanted: dict[bytes, tuple[BlobRef, Payload]] = {}
        for ref, payload in zip(refs, payloads, strict=True):
            known = wanted.get(ref.digest)
            wanted[ref.digest] = (ref, payload if known is None else payload.joined(known[1]))
        existed = await self._put_together([each for each in wanted.values() if each[0].size <= LARGE])
        for digest, (ref, payload) in wanted.items():
            if digest not in existed:
                existed[digest] = (
                    await self.put(
                        payload.content,
                        now=now,
                        expires_at=payload.expires_at,
                        kind=payload.kind,
                        weight=payload.weight,
                        ref=ref,
                    )
                ).existed
        placed = []
        for ref in refs:
            placed.append(Placed(ref, existed[ref.digest]))
            existed[ref.digest] = True  # for whoever else has the same payload
        return placed

    async def _put_together(self, wanted: Sequence[tuple[BlobRef, Payload]]) -> dict[bytes, bool]:
        """Store what is not there, and keep alive what is, as far as the store can do either for many at once; answers
        by digest whether it was there, nothing of those that are still to be seen to."""
        put_many = getattr(self._store, "put_many", None)
        if put_many is None or len(wanted) < 2:
            return {}
        versions = await put_many(
            await self.aside(sum(ref.size for ref, _ in wanted), lambda: [self._put(*each) for each in wanted])
        )
        placed = {ref.digest: False for (ref, _), version in zip(wanted, versions, strict=True) if version is not None}
        there = [each for each in wanted if each[0].digest not in placed]
        touch_many = getattr(self._store, "touch_many", None)
        if there and touch_many is not None:
            names = [self.name(ref.digest) for ref, _ in there]
            touched = await touch_many(names, [_outliving(payload.expires_at) for _, payload in there])
            placed |= {ref.digest: True for (ref, _), alive in zip(there, touched, strict=True) if alive}
        return placed

    def _put(self, ref: BlobRef, payload: Payload) -> Put:
        """The request that stores a blob unless it is there."""
        name = self.name(ref.digest)
        sealed = self._pipeline.seal(frame.BLOB, b"", payload.content, kind=payload.kind, bound_to=name)
        return Put(name, sealed, _outliving(payload.expires_at), if_absent=True, weight=payload.weight)

    async def keep(self, ref: BlobRef, *, now: float, expires_at: float | None = None) -> bool:
        """Make a stored blob young again and let it live as long as needed; False when it must be written (again)."""
        until = _outliving(expires_at)
        touch = getattr(self._store, "touch", None)
        if touch is not None:
            return bool(await touch(self.name(ref.digest), until))
        stat = await self._stat(self.name(ref.digest))
        return stat is not None and _safe(stat, until, now)

    async def _sealed(self, name: bytes, payload: bytes, kind: str) -> bytes:
        seal = self._pipeline.seal
        return await self.aside(len(payload), lambda: seal(frame.BLOB, b"", payload, kind=kind, bound_to=name))

    async def _stat(self, name: bytes) -> Stat | None:
        async for stat in self._store.scan(name):
            if stat.name == name:
                return stat  # type: ignore[no-any-return]  # the store is an AsyncBackend in shape only
        return None

    async def get(self, ref: BlobRef) -> bytes:
        """The payload a reference names. `MissingBlob` when it is absent, `CorruptFrame` when it cannot be trusted."""
        ranged = getattr(self._store, "get_range", None) if ref.size > LARGE else None
        if ranged is None:
            stored = await self._store.get(self.name(ref.digest))
            return await self.aside(ref.size, lambda: self._opened(ref, stored))
        # Asked for by its size, so that whoever bounds this call in time knows how much is to come.
        found = await ranged(self.name(ref.digest), 0, ref.size + MOST_OVERHEAD)
        if not isinstance(found, bytes):
            raise MissingBlob(f"blob {ref.digest.hex()[:16]} of {ref.size} bytes is not there")
        return await self.aside(ref.size, lambda: self.opened(ref, found))

    async def get_many(self, refs: Sequence[BlobRef]) -> list[bytes | CorruptFrame]:
        """Several payloads in one round trip where the store can, in the order asked; what is wrong with one in its
        place."""
        names = [self.name(ref.digest) for ref in refs]
        batch = getattr(self._store, "get_many", None)
        if batch is not None and len(names) > 1:
            found = await batch(names)
        else:
            found = [await self._store.get(name) for name in names]
        pairs = list(zip(refs, found, strict=True))
        return await self.aside(
            sum(ref.size for ref in refs), lambda: [self._attempt(ref, stored) for ref, stored in pairs]
        )

    def _attempt(self, ref: BlobRef, stored: Any) -> bytes | CorruptFrame:
        try:
            return self._opened(ref, stored)
        except CorruptFrame as problem:
            return problem

    def _opened(self, ref: BlobRef, stored: Any) -> bytes:
        if not stored:
            raise MissingBlob(f"blob {ref.digest.hex()[:16]} of {ref.size} bytes is not there")
        return self.opened(ref, stored.data)

    def opened(self, ref: BlobRef, sealed: bytes) -> bytes:
        """The payload in a blob's frame; `CorruptFrame` when it is another's or damaged."""
        body = self._pipeline.open(frame.BLOB, sealed, max_size=ref.size, bound_to=self.name(ref.digest)).body
        if len(body) != ref.size:
            raise CorruptFrame(f"blob {ref.digest.hex()[:16]} has {len(body)} bytes where its entry says {ref.size}")
        return body

    async def put_raw(self, digest: bytes, content: bytes, *, now: float, expires_at: float | None = None) -> None:
        """Store bytes that are framed already (a pack), under a name that nothing else has."""
        until = _outliving(expires_at)
        await self._store.put(self.name(digest), content, expires_at=until)

    async def renew(self, digest: bytes, *, now: float, expires_at: float | None = None) -> bool:
        """Make a stored object young and let it live as long as needed, writing it again where the store cannot touch;
        False when it is not there."""
        if await self.keep(BlobRef(digest, 0), now=now, expires_at=expires_at):
            return True
        if hasattr(self._store, "touch"):
            return False
        stat = await self._stat(self.name(digest))
        stored = await self._store.get(self.name(digest)) if stat is not None else None
        if stat is None or not stored:
            return False
        until = None if expires_at is None or stat.expires_at is None else max(expires_at + OUTLIVES, stat.expires_at)
        await self._store.put(self.name(digest), stored.data, expires_at=until)
        return True

    async def stretch(self, digest: bytes, offset: int, size: int) -> tuple[int, bytes]:
        """Bytes of a stored object from `offset` on, at least `size` of them unless it ends: where they begin, and
        they. The whole object where the store cannot read a range. `MissingBlob` when it is absent."""
        ranged = getattr(self._store, "get_range", None)
        if ranged is not None:
            found = await ranged(self.name(digest), offset, size)
            if isinstance(found, bytes):
                return offset, found
        else:
            stored = await self._store.get(self.name(digest))
            if stored:
                return 0, stored.data
        raise MissingBlob(f"pack {digest.hex()[:16]} is not there")

    async def check(self, ref: BlobRef, place: tuple[bytes, int, int] | None = None) -> None:
        """Read a blob, or a part at its place in a pack, and hash it: raises `MissingBlob` or `CorruptFrame` unless it
        is exactly what its name says."""
        if place is None:
            payload = await self.get(ref)
        else:
            pack, offset, size = place
            at, stretch = await self.stretch(pack, offset, size)
            payload = self.opened(ref, stretch[offset - at : offset - at + size])
        if self._pipeline.digest(payload) != ref.digest:
            raise CorruptFrame(f"blob {ref.digest.hex()[:16]} holds other bytes than its name says")

    async def discard(self, refs: Iterable[BlobRef]) -> int:
        """Remove blobs that were found damaged, so that the next write of the same payload stores them anew; answers
        how many. Each is looked at once more and goes only in that version: somebody may have mended it meanwhile."""
        removed = 0
        for ref in refs:
            name = self.name(ref.digest)
            stored = await self._store.get(name)
            if stored and self._damaged(ref, stored.data):
                removed += bool(await self._store.delete(name, if_version=stored.version))
        return removed

    def _damaged(self, ref: BlobRef, sealed: bytes) -> bool:
        """Whether a frame is not the blob its name says; False for one that another program may read."""
        try:
            return self._pipeline.digest(self.opened(ref, sealed)) != ref.digest
        except UnreadableFrame:
            return False
        except CorruptFrame:
            return True


def _outliving(expires_at: float | None) -> float | None:
    """Until when a blob lives that an entry names which is gone at `expires_at`."""
    return None if expires_at is None else expires_at + OUTLIVES


def _safe(stat: Stat, until: float | None, now: float) -> bool:
    """Whether a blob is young enough to be named again without a rewrite, and lives until `until`."""
    if now - stat.modified_at > REFRESH:
        return False
    return stat.expires_at is None or (until is not None and stat.expires_at >= until)

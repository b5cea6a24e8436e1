"""Assets of a space: streamed to and from blobs on the authority; the entry that names them is like any other.

The entry's value is `[manifest, content type]`, so freshness, tags, patterns and near copies work as for answers.
Where there is only memory, parts are bounded and evicted with everything else in it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from blake3 import blake3

from agentcache_core.backend import Stored
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.engine import Engine
from agentcache_core.errors import BackendError, BackendFull, NotWritten
from agentcache_core.keys import Key
from agentcache_core.model import MISSING, Asset, Missing
from agentcache_core.near import NearTier
from agentcache_core.runtime import Runtime, offload_of
from agentcache_core.space import Space
from agentcache_core.store.blobs import Blobs, Placed
from agentcache_core.store.chunks import LooseParts, Parts, Places, write_asset
from agentcache_core.store.entries import BlobRef
from agentcache_core.store.manifest import Manifest, Part
from agentcache_core.store.packindex import PackIndex, unlist
from agentcache_core.store.packs import PackedParts
from agentcache_core.tier import StoredTier, Trouble
from agentcache_core.wish import Wish

T = TypeVar("T")
KIND = "asset"
_CONTEXT = "agentcache exact keys v1: asset"
_PARTS_NAMESPACE = "\0assets"
MOST_INDEXES = 16
"""Tenants whose packs a process remembers, 8 MB each at most; those of others are read again when they are written."""


class Assets:
    """The assets of one cache. `key` is what the user names an asset by: text, bytes or a request."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pipelines: dict[str, Pipeline] = {}
        self._indexes: dict[str, PackIndex] = {}

    def key(self, space: Space, key: object) -> Key:
        """The exact key of an asset; never that of an answer to the same request."""
        exact = space.keys.key(key)
        return Key(KIND, blake3(exact.digest, derive_key_context=_CONTEXT).digest(), exact.plain)

    async def put(self, rt: Runtime, space: Space, name: object, source: Any, wish: Wish) -> Asset:
        """Read a path or stream to its end, store its parts, then the entry. Where the store fails, the asset says
        `stored=False`, or `NotWritten` is raised for `durable` and strict callers."""
        key = self.key(space, name)
        now = self._engine.settings.clock.now()
        life = wish.lifetime
        places = _Guarded(self, rt, space)
        if not self._engine.settings.writes or wish.control.no_store:
            places.trouble = BackendError("this cache does not write")
        opened, mine = _opened(source)
        try:
            stream = opened if rt.face == "blocking" else _Offloaded(opened, rt)
            written = await write_asset(
                places.choose,
                self._pipeline(space),
                stream,
                now=now,
                expires_at=life.gone_at(life.stale_at(now)),
                offload=offload_of(rt),
            )
        finally:
            if mine:
                opened.close()
        stored = places.trouble is None
        if stored:
            value = [written.manifest.encode(), wish.content_type]
            stored = await self._engine.store(rt, space, key, value, replace(wish, serializers=()))
        elif self._engine.settings.writes and (self._engine.settings.strict or wish.durable):
            raise NotWritten(f"a part of asset {name!r} was not written: {places.trouble}") from places.trouble
        else:
            space.counters.not_stored += 1
            space.counters.because("a part of an asset was not stored")
            self._engine.events.tell(
                "not_stored", tenant=space.tenant, namespace=space.namespace, kind=KIND, reason=str(places.trouble)
            )
        manifest = written.manifest
        deduplicated = stored and len(manifest) > 0 and written.known_parts == len(manifest)
        return Asset(name, manifest.digest, manifest.size, wish.content_type, deduplicated, stored)

    async def open(self, rt: Runtime, space: Space, name: object, wish: Wish) -> tuple[Parts, str | None]:
        """The parts of an asset and its content type. Raises `KeyError` when none is stored under that key."""
        key = self.key(space, name)
        hit = await self._engine.lookup(rt, space, key, wish)
        if hit is None:
            raise KeyError(name)
        manifest, content_type = hit.value
        blobs = self.blobs(rt, space)

        async def damaged(part: Part) -> None:
            """See that a part which cannot be read is stored anew when it is put again, and that the next reader asks
            the authority: a copy of the manifest that missed an overwrite names parts that are gone."""
            await self._engine.tiers.drop_copies(rt, space, key)
            if part.place is None:
                await blobs.discard([part.ref])
            else:
                store, index = self._store(rt, space), self.index(space)
                await unlist(store, self._pipeline(space), space.tenant_prefix, part.place.pack, index)

        return Parts(blobs, Manifest.decode(manifest), damaged), content_type

    def places(self, rt: Runtime, space: Space, *, packs: bool) -> Places:
        """Where the parts of a new asset go."""
        blobs = self.blobs(rt, space)
        if not packs:
            return LooseParts(blobs)
        store, pipeline = self._store(rt, space), self._pipeline(space)
        return PackedParts(store, blobs, pipeline, space.tenant_prefix, self.index(space))

    def index(self, space: Space) -> PackIndex:
        """What this process knows of the packs of a tenant."""
        index = self._indexes.pop(space.tenant, None) or PackIndex()
        self._indexes[space.tenant] = index
        while len(self._indexes) > MOST_INDEXES:
            self._indexes.pop(next(iter(self._indexes)), None)
        return index

    def _pipeline(self, space: Space) -> Pipeline:
        authority = self._engine.tiers.authority
        if authority is not None:
            return authority.pipeline(space)
        pipeline = self._pipelines.get(space.tenant)
        if pipeline is None:
            # Within one process compression would only cost time: the memory tier keeps payloads as they are.
            pipeline = Pipeline(tenant=space.tenant, secret=space.secret, compression=None)
            self._pipelines[space.tenant] = pipeline
        return pipeline

    def _store(self, rt: Runtime, space: Space) -> Any:
        authority = self._engine.tiers.authority
        if authority is not None:
            return authority.store(rt.face)
        near = self._engine.tiers.near
        assert near is not None
        return _NearStore(near, space.tenant, self._engine)

    def blobs(self, rt: Runtime, space: Space) -> Blobs:
        """Where the parts of a space's assets are."""
        return Blobs(self._store(rt, space), self._pipeline(space), space.blobs_prefix, offload=offload_of(rt))

    @property
    def tier(self) -> StoredTier | None:
        """Where parts are stored; None where there is only memory."""
        return self._engine.tiers.authority


class _Guarded:
    """Places whose store may fail: from the first trouble on, parts are only hashed, so that the caller's stream is
    read to its end and what could not be stored is known by size and digest."""

    def __init__(self, assets: Assets, rt: Runtime, space: Space) -> None:
        self._assets = assets
        self._rt = rt
        self._space = space
        self._places: Places | None = None
        self.trouble: BackendError | None = None

    def choose(self, *, packs: bool) -> _Guarded:
        self._places = self._assets.places(self._rt, self._space, packs=packs)
        return self

    async def put(self, parts: Sequence[bytes], **options: Any) -> list[Placed]:
        assert self._places is not None
        if self.trouble is None:
            placed = await self._attempt(self._places.put(parts, **options))
            if placed is not None:
                for one in placed:
                    self._space.counters.blob_placed(one.ref.size, existed=one.existed)
                return placed
        return [Placed(await self._ref(part), False) for part in parts]

    async def keep(self, page: bytes, **options: Any) -> BlobRef:
        assert self._places is not None
        if self.trouble is None:
            kept = await self._attempt(self._places.keep(page, **options))
            if kept is not None:
                return kept
        return await self._ref(page)

    async def finish(self) -> None:
        assert self._places is not None
        if self.trouble is None:
            await self._attempt(self._places.finish())

    async def _ref(self, payload: bytes) -> BlobRef:
        blobs = self._assets.blobs(self._rt, self._space)
        return await blobs.aside(len(payload), lambda: blobs.ref(payload))

    async def _attempt(self, work: Awaitable[T]) -> T | None:
        """Await work on the store; trouble is kept and told, and None comes back."""
        tier = self._assets.tier
        try:
            answer = await work if tier is None else await tier.attempt(self._space, "put", work)
        except BackendError as error:
            self.trouble = error
            return None
        if isinstance(answer, Trouble):
            self.trouble = answer.error
            return None
        return answer


class _NearStore:
    """The memory tier in the shape of an async backend, as far as blobs need one."""

    def __init__(self, near: NearTier, tenant: str, engine: Engine) -> None:
        self._near = near
        self._home = near.home(tenant, _PARTS_NAMESPACE, "blob")
        self._now = engine.settings.clock.now

    async def get(self, name: bytes) -> Stored | Missing:
        slot = self._home.get(name)
        if slot is None or slot.until <= self._now():
            return MISSING
        slot.used = 1
        return Stored(slot.value, b"")

    async def touch(self, name: bytes, expires_at: float | None) -> bool:
        slot = self._home.get(name)
        if slot is None or slot.until <= self._now():
            return False
        slot.until = float("inf") if expires_at is None else max(slot.until, expires_at)
        return True

    async def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: bytes | None = None,
        weight: float | None = None,
    ) -> bytes:
        kept = self._near.takes(len(data)) and self._near.put(
            self._home, name, data, packed=True, until=expires_at, born=self._now()
        )
        if not kept:
            raise BackendFull(f"the memory tier does not take parts of {len(data)} bytes")
        return b""

    async def delete(self, name: bytes, *, if_version: bytes | None = None) -> bool:
        return self._near.remove(self._home, name)


class _Offloaded:
    """A stream whose blocking reads run off the event loop."""

    def __init__(self, stream: Any, rt: Runtime) -> None:
        self._stream = stream
        self._rt = rt

    async def read(self, size: int) -> Any:
        return await self._rt.offload(lambda: self._stream.read(size))


def _opened(source: Any) -> tuple[Any, bool]:
    """A stream to read from, and whether it is ours to close. A path is opened, bytes are read as they are."""
    if isinstance(source, str | os.PathLike):
        return open(source, "rb"), True
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), True
    if not callable(getattr(source, "read", None)):
        raise TypeError(f"put_asset takes a path, bytes or a binary stream with read(), got {type(source).__name__}")
    return source, False

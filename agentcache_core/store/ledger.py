"""The ledger: what a tenant's entries on one store name. It is the truth for what may be removed.

Names begin with 16 hexadecimal digits for the tenant and 16 for the namespace; `/e/` marks an entry, `/x/` behind the
tenant a blob (see `docs/format.md`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentcache_core.backend import Stat, Stored
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.codec.serialize import loads
from agentcache_core.errors import BackendUnavailable, CorruptFrame
from agentcache_core.store.blobs import Blobs
from agentcache_core.store.entries import BlobRef, EntryRecord, decode_entry
from agentcache_core.store.manifest import Manifest, Table
from agentcache_core.store.paging import ManifestReader

TENANT_SIZE: Final = 16
PREFIX_SIZE: Final = 32
BATCH: Final = 100
MAX_ENTRY: Final = 1 << 30
ASSET_KIND: Final = "asset"


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the ledger: its name, version and expiry, and the record or what is wrong with it."""

    stat: Stat
    record: EntryRecord | CorruptFrame
    size: int = 0

    @property
    def name(self) -> bytes:
        return self.stat.name


class Ledger:
    """The entries of one tenant on one store. `store` is an async-shaped backend, `tenant` the 16 digits.

    `stopping()` is asked between batches; when it is true, work on the ledger ends with `BackendUnavailable`.
    `keeps_parts`: whether the parts of assets lie on this store, as they do on a cache's authority alone.
    """

    __slots__ = ("_stopping", "blobs", "keeps_parts", "pipeline", "store", "tenant")

    def __init__(
        self,
        store: Any,
        pipeline: Pipeline,
        tenant: bytes,
        *,
        stopping: Callable[[], bool] = lambda: False,
        keeps_parts: bool = True,
    ) -> None:
        self._stopping = stopping
        self.keeps_parts = keeps_parts
        self.store = store
        self.pipeline = pipeline
        self.tenant = tenant
        self.blobs = Blobs(store, pipeline, self.blobs_prefix)

    @property
    def blobs_prefix(self) -> bytes:
        return self.tenant + b"/x/"

    def go_on(self) -> None:
        """Raise `BackendUnavailable` when work on the ledger should end."""
        if self._stopping():
            raise BackendUnavailable("the cache is closing")

    async def lines(self) -> AsyncIterator[Line]:
        """Every entry, read in batches. An entry that vanishes meanwhile is left out."""
        waiting: list[Stat] = []
        async for stat in self.store.scan(self.tenant):
            if is_entry(stat.name):
                waiting.append(stat)
                if len(waiting) == BATCH:
                    self.go_on()
                    for line in await self._read(waiting):
                        yield line
                    waiting = []
        self.go_on()
        for line in await self._read(waiting):
            yield line

    async def _read(self, stats: Sequence[Stat]) -> list[Line]:
        names = [stat.name for stat in stats]
        batch = getattr(self.store, "get_many", None)
        if batch is not None and len(names) > 1:
            found = await batch(names)
        else:
            found = [await self.store.get(name) for name in names]
        return [
            Line(stat._replace(version=stored.version), self._decoded(stat.name, stored), len(stored.data))
            for stat, stored in zip(stats, found, strict=True)
            if stored
        ]

    def _decoded(self, name: bytes, stored: Stored) -> EntryRecord | CorruptFrame:
        try:
            return decode_entry(stored.data, self.pipeline, max_size=MAX_ENTRY, bound_to=name)
        except CorruptFrame as problem:
            return problem

    async def references(self, record: EntryRecord) -> AsyncIterator[BlobRef]:
        """Every object of this store that an entry needs: its blob, and an asset's pages, parts and packs, of which one
        page is held at a time. `CorruptFrame` when that cannot be told."""
        if record.blob is not None:
            yield record.blob
        manifest = await self.manifest(record) if self.keeps_parts else None
        if manifest is not None:
            async for found in ManifestReader(manifest, self.blobs.get).walk():
                for ref in found.needed if isinstance(found, Table) else [found]:
                    yield ref

    async def manifest(self, record: EntryRecord) -> Manifest | None:
        """An asset's manifest; None for an answer. `CorruptFrame` when it cannot be read."""
        if record.kind != ASSET_KIND:
            return None
        payload = record.payload if record.blob is None else await self.blobs.get(record.blob)
        return manifest_of(payload or b"")


def manifest_of(payload: bytes) -> Manifest:
    """The manifest in an asset's payload; `CorruptFrame` for anything else."""
    value = loads(payload)
    if not isinstance(value, list) or not value or not isinstance(value[0], bytes):
        raise CorruptFrame("the entry of an asset holds no manifest")
    return Manifest.decode(value[0])


def is_entry(name: bytes) -> bool:
    """Whether a name is that of an entry."""
    return name[PREFIX_SIZE : PREFIX_SIZE + 3] == b"/e/"


def digest_of(name: bytes) -> str:
    """The digest of the key of an entry, in hex as `Cache.key` tells it, from the entry's name."""
    return name[PREFIX_SIZE + 3 :].hex()


def shown(name: bytes, record: object) -> str:
    """How people know an entry: by its plain key where its record holds one, by its key's digest otherwise."""
    plain = record.plain if isinstance(record, EntryRecord) else None
    if plain is None:
        return digest_of(name)
    return plain if isinstance(plain, str) else repr(plain)


async def tenants(store: Any) -> list[bytes]:
    """The 16 digits of every tenant that has anything on a store."""
    found: set[bytes] = set()
    async for stat in store.scan(b""):
        digits = stat.name[:TENANT_SIZE]
        if digits not in found and len(digits) == TENANT_SIZE and not digits.strip(b"0123456789abcdef"):
            found.add(digits)
    return sorted(found)

"""The part of both faces that is not about answers: how a call is run, assets, maintenance, listings, savings."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from agentcache_core.allowance import one_call
from agentcache_core.maintenance import MaintenanceReport
from agentcache_core.model import Asset
from agentcache_core.runtime import ASYNC, BLOCKING, drive
from agentcache_core.savings import SavingsReport
from agentcache_core.store.blobs import REFRESH
from agentcache_core.store.reading import AssetReader, AsyncAssetReader
from agentcache_core.store.verify import VerifyReport
from agentcache_core.view import View
from agentcache_core.wish import DEFAULT_WISH

T = TypeVar("T")


class Upkeep(View):
    """Assets, maintenance, listings and savings of a blocking cache."""

    def _answer(self, body: Coroutine[Any, Any, T]) -> T:
        """Run one call of the user: its requests to a store take one deadline together."""
        if self._local:
            return drive(body)
        with one_call():
            return drive(body)

    def uncounted(self) -> None:
        """Leave what this process does out of the stored figures: for programs that look after a cache, not use it."""
        self._core.figures.enabled = False

    def least_grace(self) -> float:
        """The grace age in seconds below which a sweep beside writers may take a blob that is just being named again:
        stores that cannot touch a blob write it anew only when it is older than this."""
        self._open()
        stores = [tier.store("blocking") for tier in self._core.tiers.stored]
        return 0.0 if all(hasattr(store, "touch") for store in stores) else REFRESH

    def put_asset(self, key: object, path_or_stream: Any, content_type: str | None = None, **options: Any) -> Asset:
        """Store content of any size under a key, replacing what was there, in constant memory.

        Takes a path, bytes or a binary stream. Equal parts are stored once per tenant. Options: ttl, tags, sources,
        durable. Where storage fails the answer says `stored=False`; with `durable=True` or a strict cache
        `NotWritten` is raised.
        """
        self._open()
        wish = self._wish(content_type=content_type, **options)
        return drive(self._core.assets.put(BLOCKING, self._space, key, path_or_stream, wish))

    def open_asset(self, key: object) -> AssetReader:
        """A read-only, seekable binary file over a stored asset. Raises `KeyError` when there is none."""
        self._open()
        parts, content_type = drive(self._core.assets.open(BLOCKING, self._space, key, DEFAULT_WISH))
        return AssetReader(parts, drive, content_type=content_type)

    def maintain(self, *, dry_run: bool = False, **options: Any) -> MaintenanceReport:
        """Sweep this tenant's tiers, write back how entries are used, and move entries to the tiers they belong in.

        `dry_run=True` changes nothing and shows every removal and move with what it saves. Options: grace (seconds
        that an unnamed blob is kept), policy (`Rules` or `CostModel`), prices (by tier name or URL scheme).
        """
        self._open()
        return drive(self._core.maintenance.run(BLOCKING, self._space, dry_run=dry_run, **options))

    def sweep_all(self, *, dry_run: bool = False, **options: Any) -> MaintenanceReport:
        """Sweep every tenant on these tiers, for their operator. A tenant's view cannot."""
        self._open()
        self._for_operators()
        return drive(self._core.maintenance.sweep_all(BLOCKING, dry_run=dry_run, **options))

    def verify(self, *, repair: bool = False) -> dict[str, VerifyReport]:
        """Read everything of this tenant back, tier by tier, and hash each blob; `repair` removes what is damaged."""
        self._open()
        return drive(self._core.maintenance.verify(BLOCKING, self._space, repair=repair))

    def keys(self, prefix: str = "") -> list[str]:
        """The live plain keys (text) of this view that begin with `prefix`, by scan, in no promised order."""
        self._open()
        return drive(self._core.invalidation.plain_keys(BLOCKING, self._space, prefix))

    def savings(self) -> SavingsReport:
        """What this tenant's hits saved, by namespace, tag and model, over every process and restart."""
        self._open()
        return drive(self._core.savings(BLOCKING, self._space))


class AsyncUpkeep(View):
    """Assets, maintenance, listings and savings of an async cache."""

    async def _answer(self, body: Coroutine[Any, Any, T]) -> T:
        """As `Upkeep._answer`."""
        if self._local:
            return await body
        with one_call():
            return await body

    async def put_asset(
        self, key: object, path_or_stream: Any, content_type: str | None = None, **options: Any
    ) -> Asset:
        """As `Cache.put_asset`; the stream's `read` may be async."""
        self._open()
        wish = self._wish(content_type=content_type, **options)
        return await self._core.assets.put(ASYNC, self._space, key, path_or_stream, wish)

    async def open_asset(self, key: object) -> AsyncAssetReader:
        """As `Cache.open_asset`, with awaited reads."""
        self._open()
        parts, content_type = await self._core.assets.open(ASYNC, self._space, key, DEFAULT_WISH)
        return AsyncAssetReader(parts, content_type=content_type)

    async def maintain(self, *, dry_run: bool = False, **options: Any) -> MaintenanceReport:
        """As `Cache.maintain`."""
        self._open()
        return await self._core.maintenance.run(ASYNC, self._space, dry_run=dry_run, **options)

    async def sweep_all(self, *, dry_run: bool = False, **options: Any) -> MaintenanceReport:
        """As `Cache.sweep_all`."""
        self._open()
        self._for_operators()
        return await self._core.maintenance.sweep_all(ASYNC, dry_run=dry_run, **options)

    async def verify(self, *, repair: bool = False) -> dict[str, VerifyReport]:
        """As `Cache.verify`."""
        self._open()
        return await self._core.maintenance.verify(ASYNC, self._space, repair=repair)

    async def keys(self, prefix: str = "") -> list[str]:
        """As `Cache.keys`."""
        self._open()
        return await self._core.invalidation.plain_keys(ASYNC, self._space, prefix)

    async def savings(self) -> SavingsReport:
        """As `Cache.savings`."""
        self._open()
        return await self._core.savings(ASYNC, self._space)

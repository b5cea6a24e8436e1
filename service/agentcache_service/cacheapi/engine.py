"""The engine behind the API: one cache for all organizations, each a tenant of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from agentcache_core import Cache, CacheControl, Semantic
from agentcache_core.invalidation import ByNamespace, ByPattern, ByTag, Selector, selects
from agentcache_core.model import Hit
from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.space import Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.urls import open_backend
from agentcache_service.settings import Settings

_VIEWS = 4096
_DEADLINE_S = 10.0
"""What a call to a tier may take, in seconds: a server waits its turn where an agent would go on without the cache."""


class CacheEngine:
    """The cache, opened at first use, and the store its coldest tier lies on (for `/api/v1/objects`).

    Keys, digests and names are those of the embedded engine without a secret, with the organization's id as tenant:
    a customer's own `Cache` with the remote backend computes the same ones.
    """

    def __init__(self, settings: Settings, semantic: Semantic | None = None) -> None:
        self._tiers = settings.cache_tiers
        self._semantic = semantic
        self.is_local = all(tier.startswith(("sqlite://", "memory://")) for tier in self._tiers)
        self._lock = threading.Lock()
        self._cache: Cache | None = None
        self._objects: Any = None
        self._views: OrderedDict[tuple[str, str], Cache] = OrderedDict()

    @property
    def cache(self) -> Cache:
        """The root cache."""
        with self._lock:
            if self._cache is None:
                tiers = list(self._tiers)
                self._cache = Cache(tiers, deadline=_DEADLINE_S, max_staleness="1s", semantic=self._semantic)
            return self._cache

    @property
    def objects(self) -> Any:
        """The blocking backend of the coldest tier."""
        with self._lock:
            if self._objects is None:
                self._objects = open_backend(self._tiers[-1], face="blocking", deadline=_DEADLINE_S)
            return self._objects

    def view(self, org_id: str, namespace: str) -> Cache:
        """The cache of one namespace of one organization."""
        place = (org_id, namespace)
        with self._lock:
            known = self._views.get(place)
            if known is not None:
                self._views.move_to_end(place)
                return known
        view = self.cache.tenant(org_id).namespace(namespace)
        with self._lock:
            self._views[place] = view
            while len(self._views) > _VIEWS:
                self._views.popitem(last=False)
        return view

    def space(self, org_id: str, namespace: str) -> Space:
        """How the names of a namespace are made in storage."""
        return Space(org_id, namespace, None)

    def stored_name(self, org_id: str, namespace: str, request: object) -> str:
        """The name of a request's entry in storage, in hex."""
        view = self.view(org_id, namespace)
        return view._space.entry_name(view.key(request)).hex()

    def now(self) -> float:
        """The engine's wall clock, in seconds: what its stores stamp objects with."""
        return self.cache._core.tiers.clock.now()

    def stale(self, view: Cache, request: object, control: CacheControl) -> Hit | None:
        """The entry of a request that is past its time and may still be served, for a look-up that found none fresh."""
        core = view._core
        wish = view._wish(control=control)
        return drive(core.engine.lookup_stale(BLOCKING, view._space, view.key(request), wish))

    def has(self, name: bytes) -> bool:
        """True when storage has something alive under this name."""
        return bool(self.objects.get(name))

    def entries(self, org_id: str, namespace: str) -> Iterator[tuple[bytes, EntryRecord]]:
        """The living entries of a namespace, by scan: (name in storage, record)."""
        view = self.view(org_id, namespace)
        core = view._core

        async def collect() -> list[tuple[bytes, EntryRecord]]:
            return [found async for found in core.invalidation.entries(BLOCKING, view._space)]

        yield from drive(collect())

    def warm_up(self) -> None:
        """Load the embedding model, where there is one, so that no customer waits for it."""
        if self._semantic is not None:
            self._semantic.embedder.embed(["ready"])

    def close(self) -> None:
        """Close what was opened."""
        with self._lock:
            if self._cache is not None:
                self._cache.close()
            if self._objects is not None:
                self._objects.close()
            self._cache = self._objects = None
            self._views.clear()


def selector_of(*, tag: str | None, pattern: str | None, source: str | None) -> Selector:
    """The engine's selector for exactly one of these; all None means the whole namespace."""
    if tag is not None:
        return ByTag(tag)
    if source is not None:
        return ByTag(f"source:{source}")
    if pattern is not None:
        return ByPattern(pattern)
    return ByNamespace()


__all__ = ["CacheEngine", "EntryRecord", "Selector", "selector_of", "selects"]

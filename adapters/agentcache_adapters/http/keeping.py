"""The transport's side of the cache: look up, store, tell. Trouble with the cache never reaches the caller."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any, Final

from agentcache_adapters.http.exchange import Found
from agentcache_adapters.http.plan import KeyedRequest, Plan
from agentcache_adapters.http.recorder import Discard, Store
from agentcache_adapters.http.recording import from_value, to_value
from agentcache_core import AsyncCache, Cache, CacheControl, Cost
from agentcache_core.beginning import Beginning
from agentcache_core.errors import KeyingError, ReplayMiss
from agentcache_core.pricing import cost_of

_log: Final = logging.getLogger("agentcache.http")


def credentials_secret(cache: Cache | AsyncCache) -> bytes:
    """A secret for the digests of credentials, bound to the cache's own secret, its tenant and its namespace."""
    return cache.key("agentcache: credentials of HTTP calls").digest


def control_of(plan: Plan) -> CacheControl:
    """The plan's directives in the engine's words. The sample index is part of the request already."""
    wish = plan.directives
    return CacheControl(max_age=wish.max_age, semantic=wish.semantic, refresh=wish.refresh)


def cost(plan: Plan, outcome: Store) -> Cost:
    """What the recorded call cost: by the price book for model calls, and the time it took for all."""
    if plan.wire is None:
        return Cost(seconds=outcome.seconds)
    return cost_of(plan.wire.provider, outcome.verdict.model, outcome.verdict.usage, seconds=outcome.seconds)


def found(hit: Any) -> Found | None:
    """The recording in a hit, None for no hit and for a value that is no recording."""
    if hit is None:
        return None
    recording = from_value(hit.value)
    return None if recording is None else Found(recording, hit.how, hit.age)


def options_of(plan: Plan, outcome: Store, began: Beginning | None) -> dict[str, Any]:
    """The options of the `set` that stores `outcome`, whose call left when `began` was noted."""
    options: dict[str, Any] = {"cost": cost(plan, outcome), "tags": plan.tags, "began": began}
    if plan.wire is not None:
        options["meta"] = {"provider": plan.wire.provider, "model": outcome.verdict.model}
    if plan.ttl is not None:
        options["ttl"] = plan.ttl
    return options


class BlockingKeep:
    """The blocking face."""

    def __init__(self, cache: Cache | AsyncCache) -> None:
        self.cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache

    def identity(self, request: KeyedRequest) -> Hashable:
        """What identifies the request in this cache; `KeyingError` when it has no canonical form."""
        return (id(self.cache), self.cache.key(request))

    def find(self, plan: Plan) -> Found | None:
        """The recorded answer, None on a miss and on any trouble. `ReplayMiss` is the caller's wish and passes."""
        try:
            return found(self.cache.lookup(plan.request, control=control_of(plan)))
        except (ReplayMiss, KeyingError):
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read; the call goes upstream", exc_info=True)
            return None

    def begin(self, plan: Plan) -> Beginning | None:
        """Note that a call leaves now, so that what is invalidated before its answer is whole is not stored."""
        try:
            return self.cache.begin(tags=plan.tags)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be asked; the answer will not be stored", exc_info=True)
            return None

    def settle(self, plan: Plan, outcome: Store | Discard, began: Beginning | None) -> None:
        """Store a good answer; tell why another one is not stored."""
        try:
            if isinstance(outcome, Store) and began is not None:
                self.cache.set(plan.request, to_value(outcome.recording), **options_of(plan, outcome, began))
            elif isinstance(outcome, Discard):
                self.cache.events.tell("not_stored", kind="http", reason=outcome.reason)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the answer could not be stored", exc_info=True)

    def joined(self) -> None:
        """Tell a call that reads another one's live answer."""
        self.cache.events.tell("joined", kind="http")

    def bypassed(self, reason: str) -> None:
        self.cache.bypassed(reason, kind="http")


class AsyncKeep:
    """The async face."""

    def __init__(self, cache: Cache | AsyncCache) -> None:
        self.cache: AsyncCache = cache if isinstance(cache, AsyncCache) else cache.aio

    def identity(self, request: KeyedRequest) -> Hashable:
        """What identifies the request in this cache; `KeyingError` when it has no canonical form."""
        return (id(self.cache), self.cache.key(request))

    async def find(self, plan: Plan) -> Found | None:
        """The recorded answer, None on a miss and on any trouble. `ReplayMiss` is the caller's wish and passes."""
        try:
            return found(await self.cache.lookup(plan.request, control=control_of(plan)))
        except (ReplayMiss, KeyingError):
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read; the call goes upstream", exc_info=True)
            return None

    async def begin(self, plan: Plan) -> Beginning | None:
        """Note that a call leaves now, so that what is invalidated before its answer is whole is not stored."""
        try:
            return await self.cache.begin(tags=plan.tags)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be asked; the answer will not be stored", exc_info=True)
            return None

    async def settle(self, plan: Plan, outcome: Store | Discard, began: Beginning | None) -> None:
        """Store a good answer; tell why another one is not stored."""
        try:
            if isinstance(outcome, Store) and began is not None:
                await self.cache.set(plan.request, to_value(outcome.recording), **options_of(plan, outcome, began))
            elif isinstance(outcome, Discard):
                self.cache.events.tell("not_stored", kind="http", reason=outcome.reason)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the answer could not be stored", exc_info=True)

    def joined(self) -> None:
        """Tell a call that reads another one's live answer."""
        self.cache.events.tell("joined", kind="http")

    def bypassed(self, reason: str) -> None:
        self.cache.bypassed(reason, kind="http")

"""LangGraph: a cache for the results of nodes and tasks (`CachePolicy`), in any `Cache`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from agentcache_core import MISSING, AsyncCache, Cache

try:
    from langgraph.cache.base import BaseCache, FullKey, Namespace
    from langgraph.checkpoint.serde.base import SerializerProtocol
except ImportError as error:
    raise ImportError("this adapter needs LangGraph: pip install 'agentcache[langgraph]'") from error

V = TypeVar("V")
_log = logging.getLogger("agentcache.langgraph")
_ALL = "agentcache:langgraph"


class AgentCacheNodes(BaseCache[V]):
    """The cache behind `graph.compile(cache=AgentCacheNodes(cache))`; nodes opt in with a `CachePolicy`.

    Trouble with the cache is logged and counts as a miss. `clear` drops whole namespaces, or everything it stored.
    """

    def __init__(self, cache: Cache | AsyncCache, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, V]:
        """The values that are stored, by key."""
        try:
            found = self._cache.get_many([_plain(key) for key in keys])
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return {}
        return self._opened(keys, found)

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, V]:
        """As `get`."""
        try:
            found = await self._cache.aio.get_many([_plain(key) for key in keys])
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return {}
        return self._opened(keys, found)

    def set(self, pairs: Mapping[FullKey, tuple[V, int | None]]) -> None:
        """Store the values, each with its time to live in seconds, None for ever."""
        for key, (value, ttl) in pairs.items():
            try:
                self._cache.set(_plain(key), list(self.serde.dumps_typed(value)), **_options(key, ttl))
            except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
                _log.warning("a result could not be stored", exc_info=True)

    async def aset(self, pairs: Mapping[FullKey, tuple[V, int | None]]) -> None:
        """As `set`."""
        for key, (value, ttl) in pairs.items():
            try:
                await self._cache.aio.set(_plain(key), list(self.serde.dumps_typed(value)), **_options(key, ttl))
            except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
                _log.warning("a result could not be stored", exc_info=True)

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Drop the given namespaces; with none given, everything this adapter stored."""
        for tag in _tags(namespaces):
            self._cache.invalidate(tag=tag)

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """As `clear`."""
        for tag in _tags(namespaces):
            await self._cache.aio.invalidate(tag=tag)

    def _opened(self, keys: Sequence[FullKey], found: Sequence[Any]) -> dict[FullKey, V]:
        answers: dict[FullKey, V] = {}
        for key, stored in zip(keys, found, strict=True):
            if stored is not MISSING:
                kind, payload = stored
                answers[key] = self.serde.loads_typed((kind, payload))
        return answers


def _plain(key: FullKey) -> str:
    namespace, name = key
    return "langgraph:" + json.dumps([list(namespace), name])


def _tag(namespace: Namespace) -> str:
    return f"{_ALL}:{json.dumps(list(namespace))}"


def _tags(namespaces: Sequence[Namespace] | None) -> list[str]:
    return [_ALL] if namespaces is None else [_tag(namespace) for namespace in namespaces]


def _options(key: FullKey, ttl: int | None) -> dict[str, Any]:
    return {"tags": [_ALL, _tag(key[0])]} | ({} if ttl is None else {"ttl": ttl})

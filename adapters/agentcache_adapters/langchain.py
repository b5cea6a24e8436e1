"""LangChain: a cache for models, a byte store for embeddings, and a middleware for agents (`langchain_middleware`)."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.errors import ReplayMiss

try:
    from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
    from langchain_core.outputs import ChatGeneration, Generation
    from langchain_core.stores import BaseStore
except ImportError as error:
    raise ImportError("this adapter needs LangChain: pip install 'agentcache[langchain]'") from error

from agentcache_adapters.langchain_messages import (
    cost_of_messages,
    generations_from,
    generations_problem,
    generations_value,
    keyed_message,
)

_log = logging.getLogger("agentcache.langchain")
_TAG = "agentcache:langchain"


class AgentCacheLLM(BaseCache):
    """An LLM cache for LangChain: `set_llm_cache(AgentCacheLLM(cache))`, or `cache=` of one model.

    The whole conversation and the model's settings are the exact key; with a semantic cache only the last human text
    is compared by meaning. Trouble with the cache is logged and counts as a miss. `clear()` drops what the adapter
    stored.
    """

    def __init__(self, cache: Cache | AsyncCache, *, ttl: float | str | None = None, tags: Sequence[str] = ()) -> None:
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        self._ttl, self._tags = ttl, (*tags, _TAG)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The stored generations as a list of fresh objects, None on a miss and on any trouble."""
        try:
            return _opened(self._cache.get(keyed_request(prompt, llm_string)))
        except ReplayMiss:
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return None

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """As `lookup`."""
        try:
            return _opened(await self._cache.aio.get(keyed_request(prompt, llm_string)))
        except ReplayMiss:
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return None

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Store generations that ended well: not cut short, filtered or refused."""
        try:
            if not self._refused(return_val):
                value = generations_value(return_val)
                self._cache.set(keyed_request(prompt, llm_string), value, **self._options(return_val))
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the answer could not be stored", exc_info=True)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """As `update`."""
        try:
            if not self._refused(return_val):
                value = generations_value(return_val)
                await self._cache.aio.set(keyed_request(prompt, llm_string), value, **self._options(return_val))
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the answer could not be stored", exc_info=True)

    def clear(self, **kwargs: Any) -> None:
        """Drop every answer this adapter stored in this view of the cache."""
        self._cache.invalidate(tag=_TAG)

    async def aclear(self, **kwargs: Any) -> None:
        """As `clear`."""
        await self._cache.aio.invalidate(tag=_TAG)

    def _refused(self, generations: Sequence[Generation]) -> bool:
        problem = generations_problem(generations)
        if problem:
            self._cache.events.tell("not_stored", kind="chat", reason=problem)
        return bool(problem)

    def _options(self, generations: Sequence[Generation]) -> dict[str, Any]:
        messages = [generation.message for generation in generations if isinstance(generation, ChatGeneration)]
        options: dict[str, Any] = {"tags": self._tags, "cost": cost_of_messages(messages)}
        return options if self._ttl is None else options | {"ttl": self._ttl}


def _opened(value: Any) -> list[Generation] | None:
    return None if value is MISSING else generations_from(value)


def keyed_request(prompt: str, llm_string: str) -> dict[str, Any]:
    """The request that LangChain's pair of strings stands for: chat models pass their messages as JSON."""
    return {"provider": "langchain", "model": llm_string, "messages": _messages(prompt)}


def _messages(prompt: str) -> list[dict[str, Any]]:
    if prompt.startswith("["):
        try:
            messages = json.loads(prompt)
            if messages and all(message.get("lc") == 1 and "type" in message["kwargs"] for message in messages):
                return [keyed_message(message["kwargs"]) for message in messages]
        except (ValueError, AttributeError, KeyError, TypeError):
            pass  # a text of the user's own that happens to begin like a list
    return [{"role": "user", "content": prompt, "completion": True}]


class AgentCacheByteStore(BaseStore[str, bytes]):
    """A `ByteStore` in a cache: `CacheBackedEmbeddings.from_bytes_store(embedder, AgentCacheByteStore(cache), …)`.

    `namespace` keeps its keys apart from other users of the same view; LangChain puts the embedding model's name into
    the keys itself when it is given one.
    """

    def __init__(self, cache: Cache | AsyncCache, *, namespace: str = "", ttl: float | str | None = None) -> None:
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        self._prefix = f"langchain:bytes:{namespace}:"
        self._options: dict[str, Any] = {} if ttl is None else {"ttl": ttl}

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values in the order of `keys`, None where there is none."""
        return [_or_none(value) for value in self._cache.get_many([self._prefix + key for key in keys])]

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """As `mget`."""
        return [_or_none(value) for value in await self._cache.aio.get_many([self._prefix + key for key in keys])]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store the pairs."""
        self._cache.set_many([(self._prefix + key, value) for key, value in key_value_pairs], **self._options)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """As `mset`."""
        pairs = [(self._prefix + key, value) for key, value in key_value_pairs]
        await self._cache.aio.set_many(pairs, **self._options)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Remove the keys; unknown ones are fine."""
        for key in keys:
            self._cache.delete(self._prefix + key)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """As `mdelete`."""
        for key in keys:
            await self._cache.aio.delete(self._prefix + key)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """The stored keys that begin with `prefix`."""
        for key in self._cache.keys(self._prefix + (prefix or "")):
            yield key.removeprefix(self._prefix)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """As `yield_keys`."""
        for key in await self._cache.aio.keys(self._prefix + (prefix or "")):
            yield key.removeprefix(self._prefix)


def _or_none(value: Any) -> bytes | None:
    return None if value is MISSING else bytes(value)


def __getattr__(name: str) -> Any:
    """`AgentCacheMiddleware` needs `langchain` beside `langchain-core`, so it is imported when asked for."""
    if name == "AgentCacheMiddleware":
        from agentcache_adapters.langchain_middleware import AgentCacheMiddleware

        return AgentCacheMiddleware
    raise AttributeError(name)

"""What tools need of a cache, awaited alike on both faces, so that a tool call is written once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from agentcache_core.errors import ConfigurationError
from agentcache_core.model import MISSING, CacheControl

Request = Any
MARK_SECONDS = 600.0
MARKS = "agentcache.tools"


class Port(Protocol):
    """A cache as tools see it."""

    def digest(self, request: Request) -> bytes: ...
    def bypassed(self, reason: str, tool: str) -> None: ...
    async def run(self, execute: Callable[[], Any]) -> Any: ...
    async def find(self, request: Request) -> Any: ...
    async def store(self, request: Request, value: Any, *, ttl: Any, tags: Sequence[str]) -> None: ...
    async def get_or_compute(
        self,
        request: Request,
        compute: Callable[[], Coroutine[Any, Any, Any]],
        *,
        ttl: Any,
        tags: Sequence[str],
        fresh: bool,
    ) -> Any: ...
    def confirm(self) -> None: ...
    async def invalidate(self, tags: Sequence[str]) -> None: ...
    async def marked(self, marks: Sequence[bytes]) -> bool: ...
    async def mark(self, marks: Sequence[bytes], token: str) -> None: ...
    async def unmark(self, marks: Sequence[bytes], token: str) -> None: ...


class _Common:
    """What both ports do alike: keys and events, which never wait for anything."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._marks = cache.namespace(MARKS)  # apart, so that looking for marks does not count as hits and misses
        self._alone = cache._local  # no other process shares this cache, so none can be writing

    def digest(self, request: Request) -> bytes:
        return bytes(self._cache.key(request).digest)

    def confirm(self) -> None:
        """Let the next look-up confirm with the authority that nothing was invalidated."""
        self._cache.distrust()

    def bypassed(self, reason: str, tool: str) -> None:
        """Count and tell a call that ran without the cache."""
        self._cache.bypassed(reason, kind="tool", detail={"tool": tool})


class BlockingPort(_Common):
    """Over a blocking cache: nothing awaited here ever suspends, so that a body can be driven by hand."""

    async def run(self, execute: Callable[[], Any]) -> Any:
        return execute()

    async def find(self, request: Request) -> Any:
        return self._cache.get(request)

    async def store(self, request: Request, value: Any, *, ttl: Any, tags: Sequence[str]) -> None:
        self._cache.set(request, value, ttl=ttl, tags=tags)

    async def get_or_compute(
        self,
        request: Request,
        compute: Callable[[], Coroutine[Any, Any, Any]],
        *,
        ttl: Any,
        tags: Sequence[str],
        fresh: bool,
    ) -> Any:
        from agentcache_core.runtime import drive

        return self._cache.get_or_compute(
            request, lambda: drive(compute()), ttl=ttl, tags=tags, control=CacheControl(refresh=fresh)
        )

    async def invalidate(self, tags: Sequence[str]) -> None:
        for tag in tags:
            self._cache.invalidate(tag=tag)

    async def marked(self, marks: Sequence[bytes]) -> bool:
        return not self._alone and any(found is not MISSING for found in self._marks.get_many(list(marks)))

    async def mark(self, marks: Sequence[bytes], token: str) -> None:
        self._marks.set_many([(mark, token) for mark in marks], ttl=MARK_SECONDS)

    async def unmark(self, marks: Sequence[bytes], token: str) -> None:
        for mark in marks:
            if self._marks.get(mark) == token:
                self._marks.delete(mark)


class AsyncPort(_Common):
    """Over an async cache."""

    async def run(self, execute: Callable[[], Any]) -> Any:
        answer = execute()
        return await answer if isinstance(answer, Awaitable) else answer

    async def find(self, request: Request) -> Any:
        return await self._cache.get(request)

    async def store(self, request: Request, value: Any, *, ttl: Any, tags: Sequence[str]) -> None:
        await self._cache.set(request, value, ttl=ttl, tags=tags)

    async def get_or_compute(
        self,
        request: Request,
        compute: Callable[[], Coroutine[Any, Any, Any]],
        *,
        ttl: Any,
        tags: Sequence[str],
        fresh: bool,
    ) -> Any:
        return await self._cache.get_or_compute(
            request, compute, ttl=ttl, tags=tags, control=CacheControl(refresh=fresh)
        )

    async def invalidate(self, tags: Sequence[str]) -> None:
        for tag in tags:
            await self._cache.invalidate(tag=tag)

    async def marked(self, marks: Sequence[bytes]) -> bool:
        return not self._alone and any(found is not MISSING for found in await self._marks.get_many(list(marks)))

    async def mark(self, marks: Sequence[bytes], token: str) -> None:
        await self._marks.set_many([(mark, token) for mark in marks], ttl=MARK_SECONDS)

    async def unmark(self, marks: Sequence[bytes], token: str) -> None:
        for mark in marks:
            if await self._marks.get(mark) == token:
                await self._marks.delete(mark)


def ports_of(cache: Any) -> tuple[BlockingPort, AsyncPort]:
    """Both ports of one cache, whichever of its faces is handed in."""
    if hasattr(cache, "aio"):
        return BlockingPort(cache), AsyncPort(cache.aio)
    if hasattr(cache, "blocking"):
        return BlockingPort(cache.blocking), AsyncPort(cache)
    raise ConfigurationError(f"tools belong to a Cache or an AsyncCache, not to {type(cache).__name__}")

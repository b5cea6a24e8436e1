"""Blocking backends for event loops: every verb on a daemon thread, so that the loop never waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, ParamSpec, TypeVar, cast

from agentcache_core.backend import AsyncBackend, Stat
from agentcache_core.watched import WatchedThreads
from agentcache_core.wrapping import SCAN_PAGE, AsyncAround

P = ParamSpec("P")
T = TypeVar("T")


class InThreads(AsyncAround):
    """A blocking backend for an event loop: each verb runs on a daemon thread, so that the loop never waits."""

    def __init__(self, inner: Any, *, threads: int = 16) -> None:
        super().__init__(inner)
        self._threads = WatchedThreads(threads)

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        # `call` is the blocking verb here: what it answers is the value itself, not an awaitable.
        return cast(T, await asyncio.wrap_future(self._threads.submit(call, *args, **kwargs)))

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        stats: Iterator[Stat] = self.inner.scan(prefix, after=after)
        while page := await asyncio.wrap_future(self._threads.submit(_page, stats)):
            for stat in page:
                yield stat

    async def close(self) -> None:
        await asyncio.wrap_future(self._threads.submit(self.inner.close))


def _page(stats: Iterator[Stat]) -> list[Stat]:
    return list(islice(stats, SCAN_PAGE))


def in_threads(backend: Any) -> AsyncBackend:
    """The asynchronous form of a blocking backend, with the same powers."""
    return InThreads(backend)

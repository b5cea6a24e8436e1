"""The asynchronous Redis backend: one shared line per event loop, none of which crosses a fork."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, TypeVar

from hiredis import ReplyError

from agentcache_backends.redis.asks import Ask, Asks
from agentcache_backends.redis.layout import Keys
from agentcache_backends.redis.line import Line, connect, first_error
from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.store import CAPABILITIES
from agentcache_backends.redis.trouble import ours
from agentcache_core.backend import Event, Grant, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed
from agentcache_core.model import Missing

T = TypeVar("T")


class Place:
    """What one event loop holds: its line, and a guard that closes the line when the loop shuts down."""

    def __init__(self) -> None:
        self.line: Line | None = None
        self.opening = asyncio.Lock()
        self.guard: AsyncGenerator[None, None] | None = None

    async def open(self, settings: Settings) -> Line:
        async with self.opening:
            if self.line is None or self.line.lost is not None:
                self.line = await connect(settings)
            if self.guard is None:
                # A loop that ends closes the asynchronous generators it has begun: that is how we learn of it.
                self.guard = self._until_the_loop_ends()
                await anext(self.guard)
            return self.line

    async def close(self) -> None:
        if self.line is not None:
            self.line.give_up(ConnectionError("closed"))
        if self.guard is not None:
            await self.guard.aclose()

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if self.line is not None:
                self.line.give_up(ConnectionError("the event loop ended"))
            await asyncio.sleep(0)


class AsyncRedisBackend:
    """A shared backend in Redis (6.2 or newer) or Valkey for event loops. Opening it does not connect.

    All tasks of a loop share one connection. A call takes at most `connect_timeout` plus `timeout`; it is repeated
    once, on a new connection, when the old one turns out to have been closed and repeating does no harm.
    """

    capabilities = CAPABILITIES

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._now = clock.now
        self._asks = Asks(self._keys, clock.now, settings.log_length)
        self._places: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()
        self._closed = False
        _alive.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.shown!r})"

    def forget_after_fork(self) -> None:
        """Start anew in a child process. The parent's sockets are kept, unused: closing them is the parent's part."""
        _parents.append(list(self._places.values()))
        self._places = weakref.WeakKeyDictionary()

    def _new_place(self) -> Any:
        return Place()

    def _place(self) -> Any:
        """What the running loop holds."""
        if self._closed:
            raise BackendClosed(f"the Redis backend {self._settings.shown} was closed")
        loop = asyncio.get_running_loop()
        place = self._places.get(loop)
        if place is None:
            place = self._places[loop] = self._new_place()
        return place

    async def _line(self) -> Line:
        place: Place = self._place()
        line = place.line
        return line if line is not None and line.lost is None else await place.open(self._settings)

    async def _perform(self, ask: Ask[T]) -> T:
        try:
            if not ask.again:  # what must not be sent twice: first hear whether the other side has closed meanwhile
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            line = await self._line()
            try:
                replies = await line.exchange(ask.packed, ask.replies)
            except TimeoutError:
                raise
            except ConnectionError:
                if not ask.again or self._closed:
                    raise
                replies = await (await self._line()).exchange(ask.packed, ask.replies)
        except (OSError, ReplyError) as error:
            if self._closed:
                raise BackendClosed(f"the Redis backend {self._settings.shown} was closed") from error
            raise ours(error, self._settings.shown) from error
        if (trouble := first_error(replies)) is not None:
            raise ours(trouble, self._settings.shown) from trouble
        return ask.parse(replies)

    async def get(self, name: bytes) -> Stored | Missing:
        return await self._perform(self._asks.get(name))

    async def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        return await self._perform(self._asks.put(Put(name, data, expires_at, if_absent, if_version)))

    async def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        return await self._perform(self._asks.delete(name, if_version))

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        cursor, seen = b"0", set[bytes]()
        while True:
            cursor, keys = await self._perform(self._asks.page(prefix, cursor))
            new = [key for key in dict.fromkeys(keys) if key not in seen]  # SCAN may answer a key twice
            seen.update(new)
            if new:
                for stat in await self._perform(self._asks.stats(new)):
                    if stat.name > after:
                        yield stat
            if cursor == b"0":
                return

    async def close(self) -> None:
        self._closed = True
        place = self._places.pop(asyncio.get_running_loop(), None)
        if place is not None:
            await place.close()

    async def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return await self._perform(self._asks.get_many(names)) if names else []

    async def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        return await self._perform(self._asks.put_many(puts)) if puts else []

    async def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return await self._perform(self._asks.delete_many(names)) if names else []

    async def touch(self, name: bytes, expires_at: float | None) -> bool:
        return await self._perform(self._asks.touch(name, expires_at))

    async def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        return await self._perform(self._asks.touch_many(names, expires_at)) if names else []

    async def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        return await self._perform(self._asks.get_range(name, offset, size))

    async def append(self, topic: bytes, event: bytes) -> bytes:
        return await self._perform(self._asks.append(topic, event))

    async def read(self, topic: bytes, after: bytes) -> list[Event] | None:
        return await self._perform(self._asks.read(topic, after))

    async def tail(self, topic: bytes) -> bytes:
        return await self._perform(self._asks.tail(topic))

    async def acquire(self, lease: bytes, seconds: float) -> Grant | None:
        return await self._perform(self._asks.acquire(lease, seconds))

    async def renew(self, lease: bytes, grant: Grant, seconds: float) -> bool:
        return await self._perform(self._asks.renew(lease, grant, seconds))

    async def release(self, lease: bytes, grant: Grant) -> bool:
        return await self._perform(self._asks.release(lease, grant))

    async def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, *, expires_at: float | None = None
    ) -> Version | None:
        return await self._perform(self._asks.put_fenced(lease, grant, name, data, expires_at))

    async def add(self, name: bytes, amount: int) -> int:
        return await self._perform(self._asks.add(name, amount))


_alive: weakref.WeakSet[AsyncRedisBackend] = weakref.WeakSet()
_parents: list[list[Any]] = []


def _in_the_child() -> None:
    for backend in list(_alive):
        backend.forget_after_fork()


os.register_at_fork(after_in_child=_in_the_child)

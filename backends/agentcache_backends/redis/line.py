"""One asyncio connection to Redis that many tasks share: commands go out as they come, replies come back in order.

Cancelling a task costs the others nothing: its reply is read and dropped. When Redis does not answer in time the
whole line is given up, and everybody waiting on it is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from hiredis import ProtocolError, Reader, ReplyError, pack_command

from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.tls import context_now
from agentcache_backends.redis.trouble import NOT_REDIS, without_credentials

_NOTHING: Final = object()


class _Waiting:
    """Somebody who waits for `missing` more replies since `since` (loop time)."""

    __slots__ = ("future", "missing", "replies", "since")

    def __init__(self, future: asyncio.Future[list[Any]], missing: int, since: float) -> None:
        self.future, self.missing, self.since = future, missing, since
        self.replies: list[Any] = []


class Line(asyncio.Protocol):
    """An open connection. It belongs to one event loop."""

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = Reader(notEnoughData=_NOTHING)
        self._waiting: deque[_Waiting] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self._room: asyncio.Event | None = None
        self.lost: BaseException | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            self._hand_out()
        except ProtocolError as error:
            self.give_up(ConnectionError(f"{NOT_REDIS} ({error})"))

    def _hand_out(self) -> None:
        waiting = self._waiting
        while (reply := self._reader.gets(False)) is not _NOTHING:
            if not waiting:  # nobody asked: this is no Redis, or not ours any more
                self.give_up(ConnectionError("Redis answered what was not asked"))
                return
            first = waiting[0]
            first.replies.append(reply)
            first.missing -= 1
            if not first.missing:
                waiting.popleft()
                if not first.future.done():
                    first.future.set_result(first.replies)

    def eof_received(self) -> None:
        self.give_up(ConnectionError("Redis closed the connection"))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.give_up(exc or ConnectionError("Redis closed the connection"))

    def pause_writing(self) -> None:
        self._room = asyncio.Event()

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    @property
    def idle(self) -> bool:
        """Whether nobody waits for a reply."""
        return not self._waiting

    def give_up(self, reason: BaseException) -> None:
        """Close the connection and tell everybody who waits."""
        if self.lost is not None:
            return
        self.lost = reason
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        if self._room is not None:
            self._room.set()
        while self._waiting:
            future = self._waiting.popleft().future
            if not future.done():
                future.set_exception(reason)

    async def exchange(self, packed: bytes, replies: int) -> list[Any]:
        """The replies to some packed commands. Raises `OSError`, among it `ConnectionError` and `TimeoutError`."""
        if self._room is not None:
            await self._room.wait()
        if self.lost is not None:
            raise ConnectionError("the connection was lost") from self.lost
        now = self._loop.time()
        waiting = _Waiting(self._loop.create_future(), replies, now)
        self._waiting.append(waiting)
        self._transport.write(packed)
        if self._watch is None:
            self._watch = self._loop.call_at(now + self._timeout, self._look)
        return await waiting.future

    def _look(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        until = self._waiting[0].since + self._timeout
        if until <= self._loop.time():
            self.give_up(TimeoutError("Redis did not answer in time"))
        else:
            self._watch = self._loop.call_at(until, self._look)


async def connect(settings: Settings) -> Line:
    """An open line, authenticated and on its database. Raises `OSError`, or hiredis's `ReplyError`."""
    line, trouble = Line(settings.timeout), None
    try:
        async with asyncio.timeout(settings.connect_timeout):
            await _open(line, settings)
    except BaseException as error:
        line.give_up(error if isinstance(error, OSError) else ConnectionError("the greeting failed"))
        trouble = without_credentials(error, settings)
        if trouble is error:
            raise
    if trouble is not None:  # raised out here, so that what was left out is no context of it
        raise trouble
    return line


async def _open(line: Line, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    if settings.socket_path:
        await loop.create_unix_connection(lambda: line, settings.socket_path)
    else:
        tls = context_now(settings) if settings.tls else None
        await loop.create_connection(lambda: line, settings.host, settings.port, ssl=tls)
    for command in _greeting(settings):
        (reply,) = await line.exchange(pack_command(command), 1)
        if isinstance(reply, ReplyError):
            raise reply


def _greeting(settings: Settings) -> list[tuple[Any, ...]]:
    greeting: list[tuple[Any, ...]] = []
    if settings.password is not None:
        user = (settings.username,) if settings.username else ()
        greeting.append(("AUTH", *user, settings.password))
    if settings.database:
        greeting.append(("SELECT", settings.database))
    return greeting


def first_error(replies: list[Any]) -> ReplyError | None:
    """The first reply that is an error, if any."""
    return next((reply for reply in replies if isinstance(reply, ReplyError)), None)

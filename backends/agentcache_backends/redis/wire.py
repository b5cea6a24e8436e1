"""One blocking connection to Redis: redis-py opens it, its socket and hiredis do the rest.

Pool, retries and wrapping are more than half of what a `get` costs in redis-py (measured), so commands go straight
from hiredis to the socket and back.

An exchange is bounded as a whole, opening included. A socket's own timeout begins anew with every byte that arrives,
so where a reply comes in pieces it is set to what is left; each piece earns the time that it may take at
`BYTES_PER_SECOND`.
"""

from __future__ import annotations

import select
import threading
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from time import monotonic
from typing import Any, Final

import redis.exceptions as theirs
from hiredis import ProtocolError, Reader, ReplyError
from redis.backoff import NoBackoff
from redis.connection import Connection, UnixDomainSocketConnection
from redis.retry import Retry

from agentcache_backends.redis.asks import Ask
from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.tls import TlsConnection
from agentcache_backends.redis.trouble import NOT_REDIS, without_credentials
from agentcache_core.allowance import BYTES_PER_SECOND
from agentcache_core.watched import WatchedThreads

_NOTHING: Final = object()
_READ: Final = 131_072
_SHORTEST: Final = 0.001
_OPENING: Final = WatchedThreads()
"""Where connections are opened: resolving a name knows no timeout, every address and greeting has one of its own."""


class Wire:
    """A connection that one thread uses. It connects when first asked and after any trouble.

    `patience` is how long an exchange may take, in seconds.
    """

    patience: float

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Any = _connection(settings)
        self.patience = self._usual = settings.timeout
        self._slack = settings.timeout / 20
        self._longer = max(0.0, settings.connect_timeout - settings.timeout)
        self._socket: Any = None
        self._buffer = bytearray(_READ)
        self._reader: Any = Reader(notEnoughData=_NOTHING)

    def quick(self, packed: bytes, until: float = 0.0) -> Any:
        """The reply to one packed command, by `until` (monotonic) where that is given. Trouble is raised, as
        redis-py's exceptions or `OSError`, and closes it."""
        until = until or monotonic() + self.patience
        socket = self._socket or self._open(until)
        # Less is left where a turn was waited for or a connection opened, and another time may have been asked for.
        changed = abs(until - monotonic() - self._usual) > self._slack or len(packed) > _READ
        try:
            if changed:
                until = self._bound(until, len(packed))
            socket.sendall(packed)
            if changed:
                until = self._bound(until, 0)
            reader, buffer = self._reader, self._buffer
            while True:
                count = socket.recv_into(buffer)
                if not count:
                    raise theirs.ConnectionError("Redis closed the connection")
                reader.feed(buffer, 0, count)
                reply = reader.gets(False)
                if reply is not _NOTHING:
                    break
                until, changed = self._bound(until, count), True
            if changed:
                socket.settimeout(self._usual)
        except ProtocolError as error:
            self.close()
            raise theirs.ConnectionError(NOT_REDIS) from error
        except BaseException:
            self.close()  # a reply may still be under way, and would be taken for the next one's
            raise
        if type(reply) is ReplyError:
            raise theirs.ResponseError(str(reply))
        return reply

    def exchange(self, ask: Ask[Any], until: float = 0.0) -> list[Any]:
        """The replies to one ask, by `until` as in `quick`. An answered error is raised only when every reply was
        read."""
        until = until or monotonic() + self.patience
        if not ask.again and self._socket is not None and self._is_dead():
            self.close()
        was_open = self._socket is not None
        try:
            return self._send_and_read(ask, until)
        except (theirs.ResponseError, theirs.TimeoutError, TimeoutError):
            raise
        except (theirs.ConnectionError, OSError):
            if not (was_open and ask.again):
                raise
        return self._send_and_read(ask, until)

    def _send_and_read(self, ask: Ask[Any], until: float) -> list[Any]:
        trouble: theirs.ResponseError | None = None
        replies: list[Any] = []
        try:
            replies.append(self.quick(ask.packed, until))
        except theirs.ResponseError as error:
            trouble = error
        if ask.replies > 1:
            try:
                self._read_on(ask.replies - 1, replies, until)
            except ProtocolError as error:
                self.close()
                raise theirs.ConnectionError(NOT_REDIS) from error
            except BaseException:
                self.close()
                raise
        first = next((reply for reply in replies if type(reply) is ReplyError), None)
        if trouble is not None or first is not None:
            raise trouble or theirs.ResponseError(str(first))
        return replies

    def _read_on(self, count: int, replies: list[Any], until: float) -> None:
        """Read so many further replies."""
        changed = False
        for _ in range(count):
            while (reply := self._reader.gets(False)) is _NOTHING:
                until, changed = self._bound(until, 0), True
                size = self._socket.recv_into(self._buffer)
                if not size:
                    raise theirs.ConnectionError("Redis closed the connection")
                self._reader.feed(self._buffer, 0, size)
                until += size / BYTES_PER_SECOND
            replies.append(reply)
        if changed:
            self._socket.settimeout(self._usual)

    def _bound(self, until: float, moved: int) -> float:
        """Let the socket wait for what is left, and for what these bytes take; answers the new end."""
        until += moved / BYTES_PER_SECOND
        self._socket.settimeout(max(_SHORTEST, until - monotonic()))
        return until

    def _open(self, until: float | None = None) -> Any:
        trouble: BaseException | None = None
        try:
            self._connect(until)
        except (theirs.RedisError, OSError) as error:
            trouble = without_credentials(error, self._settings)
            if trouble is error:
                raise
        if trouble is not None:  # raised out here, so that what was left out is no context of it
            raise trouble
        self._reader = Reader(notEnoughData=_NOTHING)
        # redis-py keeps the socket it greeted to itself; there is no public way to it.
        self._socket = self._connection._sock
        return self._socket

    def _connect(self, until: float | None) -> None:
        connection = self._connection
        opening = _OPENING.submit(_opened, connection)
        try:
            opening.result(None if until is None else max(_SHORTEST, until - monotonic()) + self._longer)
        except FutureTimeout as error:
            if opening.done():
                raise
            # It may still come about: then nobody has any use for it.
            opening.add_done_callback(lambda _: connection.disconnect())
            self._connection = _connection(self._settings)
            raise theirs.TimeoutError("the connection was not open in time") from error

    def _is_dead(self) -> bool:
        """Whether the other side closed the connection meanwhile. Asked before what must not be sent twice."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._socket = None
        self._connection.disconnect()


def _opened(connection: Any) -> None:
    """Open a connection. Why it failed becomes the error's cause: its context is lost where the error is raised again
    in another thread, which may be handling one of its own."""
    try:
        connection.connect()
    except BaseException as error:
        error.__cause__ = error.__cause__ or error.__context__
        raise


def _connection(settings: Settings) -> Any:
    """A connection of redis-py, not yet open."""
    kind: Any = UnixDomainSocketConnection if settings.socket_path else Connection
    if settings.tls:
        kind = partial(TlsConnection, settings)
    return kind(**settings.connection_options(), retry=Retry(NoBackoff(), 0))


class SharedWire(Wire):
    """A connection that several threads take turns on."""

    def __init__(self, settings: Settings) -> None:
        self._mine = threading.local()
        super().__init__(settings)
        self._turn = threading.RLock()

    @property
    def patience(self) -> float:
        """How long an exchange of this thread may take, in seconds."""
        patience: float = getattr(self._mine, "patience", self._settings.timeout)
        return patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._mine.patience = seconds

    def quick(self, packed: bytes, until: float = 0.0) -> Any:
        until = until or monotonic() + self.patience
        if not self._turn.acquire(timeout=max(0.0, until - monotonic())):
            raise theirs.TimeoutError("the shared connection was busy")
        try:
            return super().quick(packed, until)
        finally:
            self._turn.release()

    def exchange(self, ask: Ask[Any], until: float = 0.0) -> list[Any]:
        until = until or monotonic() + self.patience
        if not self._turn.acquire(timeout=max(0.0, until - monotonic())):
            raise theirs.TimeoutError("the shared connection was busy")
        try:
            return super().exchange(ask, until)
        finally:
            self._turn.release()

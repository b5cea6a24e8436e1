"""One blocking connection to Redis: redis-py opens it, its socket and hiredis do the rest.

Pool, retries and wrapping are more than half of what a `get` costs in redis-py (measured), so commands go straight
from hiredis to the socket and back.
"""

from __future__ import annotations

import select
import threading
from functools import partial
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

_NOTHING: Final = object()
_READ: Final = 131_072


class Wire:
    """A connection that one thread uses. It connects when first asked and after any trouble."""

    def __init__(self, settings: Settings) -> None:
        kind: Any = UnixDomainSocketConnection if settings.socket_path else Connection
        if settings.tls:
            kind = partial(TlsConnection, settings)
        self._settings = settings
        self._connection: Any = kind(**settings.connection_options(), retry=Retry(NoBackoff(), 0))
        self._socket: Any = None
        self._buffer = bytearray(_READ)
        self._reader: Any = Reader(notEnoughData=_NOTHING)

    def quick(self, packed: bytes) -> Any:
        """The reply to one packed command. Trouble is raised, as redis-py's exceptions or `OSError`, and closes it."""
        socket = self._socket or self._open()
        try:
            socket.sendall(packed)
            reader, buffer = self._reader, self._buffer
            while True:
                count = socket.recv_into(buffer)
                if not count:
                    raise theirs.ConnectionError("Redis closed the connection")
                reader.feed(buffer, 0, count)
                reply = reader.gets(False)
                if reply is not _NOTHING:
                    break
        except ProtocolError as error:
            self.close()
            raise theirs.ConnectionError(NOT_REDIS) from error
        except BaseException:
            self.close()  # a reply may still be under way, and would be taken for the next one's
            raise
        if type(reply) is ReplyError:
            raise theirs.ResponseError(str(reply))
        return reply

    def exchange(self, ask: Ask[Any]) -> list[Any]:
        """The replies to one ask. An answered error is raised only when every reply was read."""
        if not ask.again and self._socket is not None and self._is_dead():
            self.close()
        was_open = self._socket is not None
        try:
            return self._send_and_read(ask)
        except (theirs.ResponseError, theirs.TimeoutError, TimeoutError):
            raise
        except (theirs.ConnectionError, OSError):
            if not (was_open and ask.again):
                raise
        return self._send_and_read(ask)

    def _send_and_read(self, ask: Ask[Any]) -> list[Any]:
        trouble: theirs.ResponseError | None = None
        replies: list[Any] = []
        try:
            replies.append(self.quick(ask.packed))
        except theirs.ResponseError as error:
            trouble = error
        try:
            for _ in range(ask.replies - 1):
                reply = self._next()
                if type(reply) is ReplyError:
                    trouble = trouble or theirs.ResponseError(str(reply))
                replies.append(reply)
        except ProtocolError as error:
            self.close()
            raise theirs.ConnectionError(NOT_REDIS) from error
        except BaseException:
            self.close()
            raise
        if trouble is not None:
            raise trouble
        return replies

    def _next(self) -> Any:
        while (reply := self._reader.gets(False)) is _NOTHING:
            count = self._socket.recv_into(self._buffer)
            if not count:
                raise theirs.ConnectionError("Redis closed the connection")
            self._reader.feed(self._buffer, 0, count)
        return reply

    def _open(self) -> Any:
        trouble: BaseException | None = None
        try:
            self._connection.connect()
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

    def _is_dead(self) -> bool:
        """Whether the other side closed the connection meanwhile. Asked before what must not be sent twice."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self._socket = None
        self._connection.disconnect()


class SharedWire(Wire):
    """A connection that several threads take turns on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._turn = threading.RLock()
        self._patience = settings.timeout + settings.connect_timeout

    def quick(self, packed: bytes) -> Any:
        if not self._turn.acquire(timeout=self._patience):
            raise theirs.TimeoutError("the shared connection was busy")
        try:
            return super().quick(packed)
        finally:
            self._turn.release()

    def exchange(self, ask: Ask[Any]) -> list[Any]:
        if not self._turn.acquire(timeout=self._patience):
            raise theirs.TimeoutError("the shared connection was busy")
        try:
            return super().exchange(ask)
        finally:
            self._turn.release()

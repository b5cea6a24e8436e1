"""One blocking connection to Redis, used at the level below redis-py's pool and retries (half of its cost)."""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import redis.exceptions as theirs
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from agentcache_backends.redis.asks import Ask
from agentcache_backends.redis.settings import Settings

T = TypeVar("T")


class Wire:
    """A connection that one thread uses. It connects when first asked and after any trouble."""

    def __init__(self, settings: Settings) -> None:
        kind: Any = (
            SSLConnection if settings.tls else UnixDomainSocketConnection if settings.socket_path else Connection
        )
        self._connection: Any = kind(**settings.connection_options(), retry=Retry(NoBackoff(), 0))

    def quick(self, packed: bytes) -> Any:
        """The reply to one packed command on the open connection; any trouble is raised and closes it."""
        connection = self._connection
        connection.send_packed_command((packed,), check_health=False)
        return connection.read_response(disable_decoding=True)

    def exchange(self, ask: Ask[T]) -> list[Any]:
        """The replies to one ask. An answered error is raised only when every reply was read."""
        connection = self._connection
        if not ask.again and connection.is_connected and self._is_dead():
            connection.disconnect()
        was_open = connection.is_connected
        try:
            return self._send_and_read(ask)
        except (theirs.TimeoutError, theirs.ResponseError, theirs.AuthenticationError):
            raise
        except theirs.ConnectionError:
            if not (was_open and ask.again):
                raise
        return self._send_and_read(ask)

    def _send_and_read(self, ask: Ask[T]) -> list[Any]:
        connection = self._connection
        connection.send_packed_command((ask.packed,), check_health=False)
        replies: list[Any] = []
        trouble: theirs.ResponseError | None = None
        for _ in range(ask.replies):
            try:
                replies.append(connection.read_response(disable_decoding=True, disconnect_on_error=True))
            except theirs.ResponseError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        return replies

    def _is_dead(self) -> bool:
        """Whether the other side closed the connection meanwhile. Asked before what must not be sent twice."""
        try:
            return bool(self._connection.can_read(0))
        except (theirs.RedisError, OSError):
            return True

    def close(self) -> None:
        self._connection.disconnect()


class SharedWire(Wire):
    """A connection that several threads take turns on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._turn = threading.Lock()
        self._patience = settings.timeout + settings.connect_timeout

    def quick(self, packed: bytes) -> Any:
        with self._turn:
            return super().quick(packed)

    def exchange(self, ask: Ask[T]) -> list[Any]:
        if not self._turn.acquire(timeout=self._patience):
            raise theirs.TimeoutError("the shared connection was busy")
        try:
            return super().exchange(ask)
        finally:
            self._turn.release()

"""The blocking Redis backend: one connection held per thread, none of which crosses a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis.exceptions as theirs
from hiredis import pack_command

from agentcache_backends.redis.asks import Ask, Asks
from agentcache_backends.redis.layout import Keys, tagged, unpacked, unpacked_all, viewed_all
from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.trouble import ours
from agentcache_backends.redis.wire import SharedWire, Wire
from agentcache_core.backend import Capabilities, Event, Grant, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed
from agentcache_core.model import Missing

T = TypeVar("T")
CAPABILITIES = Capabilities(shared=True, ordered_scan=False, native_deadline=True)


class RedisBackend:
    """A shared backend in Redis (6.2 or newer) or Valkey. Opening it does not connect; the first call does.

    Each thread holds a connection of its own, up to `max_connections`; further threads share one. A call takes at
    most `timeout` (or `connect_timeout`, if that is more and a connection is to be opened), and what large values
    need; it is repeated once, on a new connection, when the old one turns out to have been closed and repeating does
    no harm.
    """

    capabilities = CAPABILITIES
    _own_kind: Any = Wire
    _shared_kind: Any = SharedWire

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._now = clock.now
        self._asks = Asks(self._keys, clock.now, settings.log_length)
        self._closed = False
        self._begin()
        _alive.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.shown!r})"

    def _begin(self) -> None:
        self._local = threading.local()
        self._registering = threading.Lock()
        self._all: weakref.WeakSet[Any] = weakref.WeakSet()
        self._shared: Any = None

    def forget_after_fork(self) -> None:
        """Start anew in a child process: a shared socket would hand one process the other's bytes."""
        self._begin()

    def _wire(self) -> Any:
        """This thread's connection, of `_own_kind` or `_shared_kind`."""
        wire: Any = getattr(self._local, "wire", None)
        if wire is None or self._closed:
            if self._closed:
                raise BackendClosed(f"the Redis backend {self._settings.shown} was closed")
            with self._registering:
                if len(self._all) < self._settings.max_connections:
                    wire = self._own_kind(self._settings)
                    self._all.add(wire)
                else:
                    wire = self._shared = self._shared or self._shared_kind(self._settings)
            self._local.wire = wire
        return wire

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        wire = self._wire()
        usual, wire.patience = wire.patience, seconds
        try:
            yield
        finally:
            wire.patience = usual

    def _perform(self, ask: Ask[T]) -> T:
        wire = self._wire()
        try:
            replies = wire.exchange(ask)
        except (theirs.RedisError, OSError) as error:
            if self._closed:
                raise BackendClosed(f"the Redis backend {self._settings.shown} was closed") from error
            raise ours(error, self._settings.shown) from error
        return ask.parse(replies)

    def get(self, name: bytes) -> Stored | Missing:
        try:
            raw = self._local.wire.quick(pack_command((b"GET", self._keys.value + tagged(name))))  # type: ignore[arg-type]  # its types are too narrow
        except (theirs.TimeoutError, TimeoutError) as error:
            raise ours(error, self._settings.shown) from error
        except (AttributeError, theirs.RedisError, OSError):  # not open yet, or closed meanwhile: once more, with care
            return self._perform(self._asks.get(name))
        return unpacked(raw, self._now())

    def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        return self._perform(self._asks.put(Put(name, data, expires_at, if_absent, if_version)))

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        return self._perform(self._asks.delete(name, if_version))

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        cursor, seen = b"0", set[bytes]()
        while True:
            cursor, keys = self._perform(self._asks.page(prefix, cursor))
            new = [key for key in dict.fromkeys(keys) if key not in seen]  # SCAN may answer a key twice
            seen.update(new)
            if new:
                for stat in self._perform(self._asks.stats(new)):
                    if stat.name > after:
                        yield stat
            if cursor == b"0":
                return

    def close(self) -> None:
        self._closed = True
        self._local = threading.local()  # so that no thread finds its connection again
        with self._registering:
            for wire in [*self._all, self._shared]:
                if wire is not None:
                    wire.close()

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return unpacked_all(self._raw_many(names), self._now()) if names else []

    def get_views(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return viewed_all(self._raw_many(names), self._now()) if names else []

    def _raw_many(self, names: Sequence[bytes]) -> list[bytes | None]:
        start = self._keys.value
        command: tuple[Any, ...] = (b"MGET", *[start + tagged(name) for name in names])
        try:
            raws: list[bytes | None] = self._local.wire.quick(pack_command(command))
        except (theirs.TimeoutError, TimeoutError) as error:
            raise ours(error, self._settings.shown) from error
        except (AttributeError, theirs.RedisError, OSError):  # as in `get`
            return self._perform(self._asks.raw_many(names))
        return raws

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        return self._perform(self._asks.put_many(puts)) if puts else []

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return self._perform(self._asks.delete_many(names)) if names else []

    def touch(self, name: bytes, expires_at: float | None) -> bool:
        return self._perform(self._asks.touch(name, expires_at))

    def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        return self._perform(self._asks.touch_many(names, expires_at)) if names else []

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        return self._perform(self._asks.get_range(name, offset, size))

    def append(self, topic: bytes, event: bytes) -> bytes:
        return self._perform(self._asks.append(topic, event))

    def read(self, topic: bytes, after: bytes) -> list[Event] | None:
        return self._perform(self._asks.read(topic, after))

    def tail(self, topic: bytes) -> bytes:
        return self._perform(self._asks.tail(topic))

    def acquire(self, lease: bytes, seconds: float) -> Grant | None:
        return self._perform(self._asks.acquire(lease, seconds))

    def renew(self, lease: bytes, grant: Grant, seconds: float) -> bool:
        return self._perform(self._asks.renew(lease, grant, seconds))

    def release(self, lease: bytes, grant: Grant) -> bool:
        return self._perform(self._asks.release(lease, grant))

    def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, *, expires_at: float | None = None
    ) -> Version | None:
        return self._perform(self._asks.put_fenced(lease, grant, name, data, expires_at))

    def add(self, name: bytes, amount: int) -> int:
        return self._perform(self._asks.add(name, amount))


_alive: weakref.WeakSet[RedisBackend] = weakref.WeakSet()


def _in_the_child() -> None:
    for backend in list(_alive):
        backend.forget_after_fork()


os.register_at_fork(after_in_child=_in_the_child)

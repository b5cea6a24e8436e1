"""A bytes backend in a dict, with every power: the reference that tests run the engine on."""

from __future__ import annotations

import bisect
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentcache_core.backend import Capabilities, Event, Grant, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed
from agentcache_core.model import MISSING, Missing


@dataclass(slots=True)
class _Value:
    data: bytes
    version: Version
    modified_at: float
    expires_at: float | None


@dataclass(slots=True)
class _Lease:
    grant: Grant
    until: float


class DictBackend:
    """Bytes in a dict, for tests. Nothing is evicted, nothing survives the process; a fork leaves two copies.

    `log_length` bounds each topic, so that a reader that fell behind meets a GAP.
    """

    capabilities = Capabilities(native_deadline=True)

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, log_length: int = 1000) -> None:
        self._now = clock.now
        self._log_length = log_length
        self._values: dict[bytes, _Value] = {}
        self._logs: dict[bytes, list[Event]] = {}
        self._leases: dict[bytes, _Lease] = {}
        self._counters: dict[bytes, int] = {}
        self._count = 0
        self._closed = False
        self._pid = os.getpid()
        self._own_lock = threading.RLock()

    @property
    def _lock(self) -> threading.RLock:
        if self._pid != os.getpid():  # another thread of the parent may have held the lock at the fork
            self._pid, self._own_lock = os.getpid(), threading.RLock()
        if self._closed:
            raise BackendClosed("this DictBackend was closed")
        return self._own_lock

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _alive(self, name: bytes) -> _Value | None:
        value = self._values.get(name)
        if value is None or (value.expires_at is not None and value.expires_at <= self._now()):
            return None
        return value

    def get(self, name: bytes) -> Stored | Missing:
        with self._lock:
            value = self._alive(name)
            return MISSING if value is None else Stored(value.data, value.version)

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
        with self._lock:
            present = self._alive(name)
            if if_absent and present is not None:
                return None
            if if_version is not None and (present is None or present.version != if_version):
                return None
            version = b"%d" % self._next()
            self._values[name] = _Value(bytes(data), version, self._now(), expires_at)
            return version

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        with self._lock:
            present = self._alive(name)
            if present is None or if_version not in (None, present.version):
                return False
            del self._values[name]
            return True

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        with self._lock:
            names = sorted(self._values)
        for name in names[bisect.bisect_right(names, after) :]:
            if name.startswith(prefix):
                with self._lock:
                    value = self._alive(name)
                    if value is None:
                        continue
                    stat = Stat(name, len(value.data), value.modified_at, value.expires_at, value.version)
                yield stat

    def close(self) -> None:
        self._closed = True

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        with self._lock:
            return [self.get(name) for name in names]

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        with self._lock:
            return [self.put(p.name, p.data, **_options(p)) for p in puts]  # type: ignore[arg-type]  # one dict, five types

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        with self._lock:
            return [self.delete(name) for name in names]

    def append(self, topic: bytes, event: bytes) -> bytes:
        with self._lock:
            position = self._next().to_bytes(8, "big")
            log = self._logs.setdefault(topic, [])
            log.append(Event(position, bytes(event)))
            del log[: -self._log_length]
            return position

    def read(self, topic: bytes, after: bytes) -> list[Event] | None:
        with self._lock:
            log = self._logs.get(topic, [])
            if after == b"":
                return list(log)
            held = [index for index, event in enumerate(log) if event.position == after]
            return log[held[0] + 1 :] if held else None

    def tail(self, topic: bytes) -> bytes:
        with self._lock:
            log = self._logs.get(topic)
            return log[-1].position if log else b""

    def acquire(self, lease: bytes, seconds: float) -> Grant | None:
        with self._lock:
            held = self._leases.get(lease)
            if held is not None and held.until > self._now():
                return None
            grant = Grant(os.urandom(8), held.grant.fence + 1 if held else 1)
            self._leases[lease] = _Lease(grant, self._now() + seconds)
            return grant

    def renew(self, lease: bytes, grant: Grant, seconds: float) -> bool:
        return self._until(lease, grant, self._now() + seconds)

    def release(self, lease: bytes, grant: Grant) -> bool:
        return self._until(lease, grant, 0.0)

    def _until(self, lease: bytes, grant: Grant, until: float) -> bool:
        with self._lock:
            held = self._leases.get(lease)
            if held is None or held.grant != grant or held.until <= self._now():
                return False
            held.until = until
            return True

    def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, *, expires_at: float | None = None
    ) -> Version | None:
        with self._lock:
            held = self._leases.get(lease)
            if held is None or held.grant != grant:
                return None
            return self.put(name, data, expires_at=expires_at)

    def add(self, name: bytes, amount: int) -> int:
        with self._lock:
            self._counters[name] = self._counters.get(name, 0) + amount
            return self._counters[name]

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        with self._lock:
            value = self._alive(name)
            return MISSING if value is None else value.data[offset : offset + size]

    def touch(self, name: bytes, expires_at: float | None) -> bool:
        with self._lock:
            value = self._alive(name)
            if value is None:
                return False
            if expires_at is None or value.expires_at is None:
                value.expires_at = None
            else:
                value.expires_at = max(value.expires_at, expires_at)
            value.modified_at, value.version = self._now(), b"%d" % self._next()
            return True

    def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        with self._lock:
            return [self.touch(name, until) for name, until in zip(names, expires_at, strict=True)]


def _options(put: Put) -> dict[str, object]:
    return {name: value for name, value in put._asdict().items() if name not in ("name", "data")}

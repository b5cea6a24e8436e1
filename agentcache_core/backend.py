"""The seam to storage: what every backend must do. The further powers that some have are in `powers.py`.

A backend keeps opaque bytes under opaque names. It knows nothing of requests, tags, cost or similarity: all it
learns about worth is `weight`. What each later part of the engine needs of these verbs is mapped in `docs/seam.md`.

What an implementer owes
------------------------
*Names* are `bytes`, 1 to 512 of them, any value; *data* is `bytes`, possibly empty. Both come back unchanged.
*Threads*: every blocking method may be called from many threads at once. *Fork*: after a fork the child may use the
same object; the backend reopens what must not be shared (sockets, SQLite handles) on first use there.
*Atomic*: a reader sees a whole old or a whole new value, never a mixture, also after a crash (`atomic_put`).
*Calling twice*: `delete` of an absent name answers False; `close` may be called again. *After close* every verb
raises `BackendClosed`. *Errors*: anything else that goes wrong is raised as a `BackendError` subclass, with the
foreign exception as `__cause__` and no credential in its text. *Expiry*: `expires_at` is wall-clock seconds; an
expired name reads as absent; space may be reclaimed later. *Weight* matters to bounded stores only: higher = keep; the
engine gives times, so a value without one counts by its age. *Versions* are opaque; equal versions mean equal bytes
written by the same put.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from agentcache_core.model import Missing

Version = bytes
MAX_NAME = 512


class Stored(NamedTuple):
    """What `get` found: the bytes, and the version to name in a conditional write."""

    data: bytes
    version: Version


class Stat(NamedTuple):
    """What `scan` tells of one name without reading its value. Times are wall-clock seconds; 0.0 = not known."""

    name: bytes
    size: int
    modified_at: float
    expires_at: float | None
    version: Version


class Put(NamedTuple):
    """One write of a batch, with the same meaning as the arguments of `put`."""

    name: bytes
    data: bytes
    expires_at: float | None = None
    if_absent: bool = False
    if_version: Version | None = None
    weight: float | None = None


class Grant(NamedTuple):
    """A lease that was acquired: `token` proves ownership, `fence` grows with every grant of the same name."""

    token: bytes
    fence: int


class Event(NamedTuple):
    """One message of a log: its position (opaque, ordered within a topic) and its bytes."""

    position: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can promise. `native_deadline` says that it bounds its own calls in time, so that the engine
    need not run them on a watched thread; `max_bytes` is its size bound in bytes, None when unbounded; `metered` that
    each call is charged for, so that nothing is done on it that nobody asked for (maintenance by itself)."""

    durable: bool = False
    shared: bool = False
    atomic_put: bool = True
    conditional_put: bool = True
    native_expiry: bool = True
    ordered_scan: bool = True
    bounded: bool = False
    max_bytes: int | None = None
    native_deadline: bool = False
    metered: bool = False


class Backend(Protocol):
    """The verbs of blocking storage. `put` answers the new version, or None when its condition did not hold.

    `if_absent` writes only where nothing (alive) is stored; `if_version` only over exactly that version. `scan`
    yields names that start with `prefix` and sort after `after`, in byte order where `ordered_scan`; names written
    or deleted meanwhile may or may not appear.
    """

    @property
    def capabilities(self) -> Capabilities: ...
    def get(self, name: bytes) -> Stored | Missing: ...
    def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None: ...
    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool: ...
    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]: ...
    def close(self) -> None: ...


class AsyncBackend(Protocol):
    """The same verbs for an event loop; `scan` is an async iterator. One object may serve several loops in turn."""

    @property
    def capabilities(self) -> Capabilities: ...
    async def get(self, name: bytes) -> Stored | Missing: ...
    async def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None: ...
    async def delete(self, name: bytes, *, if_version: Version | None = None) -> bool: ...
    def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]: ...
    async def close(self) -> None: ...

"""The further powers of some backends, one purpose each. A feature asks for the power it needs when it is built.

What an implementer owes in general stands in `backend.py`. For an event loop the same verbs are coroutines.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from agentcache_core.backend import Event, Grant, Put, Stored, Version
from agentcache_core.model import Missing


@runtime_checkable
class SupportsBatch(Protocol):
    """Many names in one round trip; answers in the order asked. A batch is not a transaction."""

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]: ...
    def put_many(self, puts: Sequence[Put]) -> list[Version | None]: ...
    def delete_many(self, names: Sequence[bytes]) -> list[bool]: ...


@runtime_checkable
class SupportsViews(Protocol):
    """A batch read that copies nothing: as `get_many`, but `data` may be a read-only `memoryview` of what arrived; it
    stays valid while it is held."""

    def get_views(self, names: Sequence[bytes]) -> list[Stored | Missing]: ...


@runtime_checkable
class SupportsLog(Protocol):
    """A log of changes per topic. `read` answers the events after a position, or None for a GAP: the position is no
    longer held, so the reader must assume that anything may have changed. `after=b""` asks from the oldest held;
    `tail` answers the newest position (b"" when empty)."""

    def append(self, topic: bytes, event: bytes) -> bytes: ...
    def read(self, topic: bytes, after: bytes) -> list[Event] | None: ...
    def tail(self, topic: bytes) -> bytes: ...


@runtime_checkable
class SupportsLease(Protocol):
    """Exclusive leases with fencing. `seconds` is the time to live; `put_fenced` writes only while no newer fence of
    `lease` has been granted, so that a holder that overslept cannot overwrite a newer answer."""

    def acquire(self, lease: bytes, seconds: float) -> Grant | None: ...
    def renew(self, lease: bytes, grant: Grant, seconds: float) -> bool: ...
    def release(self, lease: bytes, grant: Grant) -> bool: ...
    def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, *, expires_at: float | None = None
    ) -> Version | None: ...


@runtime_checkable
class SupportsCounter(Protocol):
    """Atomic integer counters: `add` answers the value after adding; an absent counter is 0."""

    def add(self, name: bytes, amount: int) -> int: ...


@runtime_checkable
class SupportsRange(Protocol):
    """A part of a value: `size` bytes from `offset`, fewer at its end, MISSING when the name is absent."""

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing: ...


@runtime_checkable
class SupportsTouch(Protocol):
    """Keeping a value alive without sending it again: its expiry becomes at least `expires_at` (None: never), its
    `modified_at` now, its version a new one, so that a conditional delete decided before fails. False when absent."""

    def touch(self, name: bytes, expires_at: float | None) -> bool: ...


@runtime_checkable
class SupportsTouchMany(Protocol):
    """`touch` for many names in one round trip, each with its own expiry; answers in the order asked."""

    def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]: ...


@runtime_checkable
class SupportsSweep(Protocol):
    """Reclaiming what only the store knows of: values that expired, and what a crash left behind more than
    `older_than` seconds ago. Answers how many went. May take long; safe beside readers, writers and other sweeps."""

    def sweep(self, *, older_than: float = 3600.0) -> int: ...


@runtime_checkable
class SupportsWithin(Protocol):
    """For a blocking backend with `native_deadline`: `within(seconds)` is a context in which what this thread asks may
    take that long, all in all, instead of the usual time. Without it such a request runs on a watched thread."""

    def within(self, seconds: float) -> AbstractContextManager[None]: ...


def supports(backend: object, power: type) -> bool:
    """Whether a backend has a further power. Unlike `isinstance` it also sees verbs that a wrapper forwards when they
    are asked for, which Python 3.12 and later would overlook."""
    return all(callable(getattr(backend, verb, None)) for verb in vars(power) if not verb.startswith("_"))

"""What the engine needs of a memory tier: entries of this process, found without I/O.

It is a protocol of its own and not a backend: it keeps objects, not bytes (see `agentcache_backends.memory`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Protocol

from agentcache_core.store.entries import EntryRecord


class Slot(Protocol):
    """One entry: `value` as an object or, when `packed`, as payload bytes; when to look at it again; when stored."""

    key: Hashable
    value: Any
    until: float
    born: float
    used: int
    record: EntryRecord | None

    @property
    def packed(self) -> bool: ...


class Home(Protocol):
    """The slots of one namespace and kind. Whatever is in it may be served until its time."""

    def get(self, key: Hashable, /) -> Any: ...
    def __iter__(self) -> Any: ...
    def __len__(self) -> int: ...


class NearTier(Protocol):
    """The memory tier. `put` answers whether it kept the entry; `unless()` is asked under its lock."""

    name: str
    entries: int
    size_bytes: int
    evictions: int
    spilled: deque[tuple[tuple[str, str, str], Any]] | None
    """Where evicted slots go with (tenant, namespace, kind), for a colder tier to take; None = nowhere."""

    def takes(self, size: int) -> bool: ...
    def home(self, tenant: str, namespace: str, kind: str) -> Any: ...
    def homes(self, tenant: str, namespace: str) -> list[tuple[str, Any]]: ...
    def put(
        self,
        home: Any,
        key: Hashable,
        value: Any,
        *,
        packed: bool,
        until: float | None,
        born: float,
        record: EntryRecord | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> bool: ...
    def remove(self, home: Any, key: Hashable, *, only: Any = None) -> bool: ...
    def remove_many(self, home: Any, keys: Iterable[Hashable]) -> int: ...
    def tagged(self, home: Any, tag: str) -> list[Hashable]: ...
    def snapshot(self, home: Any) -> list[Any]: ...
    def expire(self, now: float) -> int: ...
    def close(self) -> None: ...

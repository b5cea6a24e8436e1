"""The memory tier: entries of this process, bounded by bytes and by number, read without a lock.

It is not a bytes backend. Each namespace and kind has a plain dict from key to a small slot; immutable values are
kept as the objects they are, everything else as payload bytes that every hit decodes afresh (that is the copy a
caller may change). What is in a dict is servable: an invalidation removes slots, it does not mark them.

A hit reads a dict and sets a flag. Only writes take the lock; the interpreter makes single dict operations whole.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from agentcache_core.errors import ConfigurationError
from agentcache_core.forking import watch
from agentcache_core.policy.eviction import Ring
from agentcache_core.store.entries import EntryRecord
from agentcache_core.urls import Options, StoreUrl

OVERHEAD = 200
"""Bytes one small entry costs beside its key and value, for the byte bound; measured by benchmarks/micro/memory.py."""

DEFAULT_MAX_BYTES = 256 * 1024 * 1024
TICK = 0.001


class Slot:
    """One entry: its value as an object. `until` is when it must be looked at again (wall clock, inf = never),
    `born` when it was stored, `record` its further facts where it has any."""

    __slots__ = ("born", "home", "key", "record", "until", "used", "value")
    packed = False

    def __init__(
        self, key: Hashable, value: Any, until: float, born: float, home: Home, record: EntryRecord | None
    ) -> None:
        self.key = key
        self.value = value
        self.until = until
        self.born = born
        self.used = 0
        self.home: Home | None = home
        self.record = record

    @property
    def alive(self) -> bool:
        return self.home is not None


class PackedSlot(Slot):
    """One entry whose `value` is payload bytes, to be decoded at each hit."""

    __slots__ = ()
    packed = True


class Home(dict[Hashable, Slot]):
    """The slots of one namespace and kind, with an index of those that carry tags."""

    __slots__ = ("place", "tagged")

    def __init__(self, place: tuple[str, str, str] = ("", "", "")) -> None:
        super().__init__()
        self.place = place
        self.tagged: dict[str, set[Hashable]] = {}


class MemoryTier:
    """The entries of this process. All methods may be called from any thread; those that write are serialised."""

    name = "memory"

    def __init__(
        self,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_entries: int | None = None,
    ) -> None:
        for name, bound in (("max_bytes", max_bytes), ("max_entries", max_entries)):
            if bound is not None and bound <= 0:
                raise ConfigurationError(f"memory://: {name} must be above 0, got {bound}")
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self.evictions = 0
        self._homes: dict[tuple[str, str, str], Home] = {}
        self._last = (0.0, 0.0, float("inf"))  # born, asked until, shared until: see _times
        self._lock = threading.Lock()
        self._ring: Ring[Slot] = Ring()
        self.entries = 0
        self.size_bytes = 0
        self.spilled: deque[tuple[tuple[str, str, str], Slot]] | None = None
        watch(self)

    def after_fork(self) -> None:
        """A fresh lock; and nothing else when another thread was in the middle of a change at the fork."""
        amid_change, self._lock = self._lock.locked(), threading.Lock()
        if amid_change:
            self.close()

    def takes(self, size: int) -> bool:
        """Whether a payload of `size` bytes belongs here: at most an eighth of the tier, so that one entry cannot
        empty it."""
        return size + OVERHEAD <= self.max_bytes // 8

    def home(self, tenant: str, namespace: str, kind: str) -> Home:
        """The dict of one namespace and kind; the same object for as long as this tier lives."""
        place = (tenant, namespace, kind)
        home = self._homes.get(place)
        if home is None:
            with self._lock:
                home = self._homes.setdefault(place, Home(place))
        return home

    def homes(self, tenant: str, namespace: str) -> list[tuple[str, Home]]:
        """Every kind of a namespace that has ever held an entry, with its dict."""
        return [(place[2], home) for place, home in list(self._homes.items()) if place[:2] == (tenant, namespace)]

    def put(
        self,
        home: Home,
        key: Hashable,
        value: Any,
        *,
        packed: bool,
        until: float | None,
        born: float,
        record: EntryRecord | None = None,
        unless: Callable[[], bool] | None = None,
    ) -> bool:
        """Store or replace one entry, and give up others until the bounds hold; answers whether it was stored.

        `unless()` is asked under the lock: a truth there means that the entry became unservable on its way here.
        An entry larger than the whole tier is not stored.
        """
        size = _size(key) + _size(value) + OVERHEAD
        born, until = self._times(born, float("inf") if until is None else until)
        slot = (PackedSlot if packed else Slot)(key, value, until, born, home, record)
        with self._lock:
            if size > self.max_bytes or (unless is not None and unless()):
                return False
            old = home.get(key)
            if old is not None:
                self._forget(old)
            home[key] = slot
            if record is not None:
                for tag, _ in record.tags:
                    home.tagged.setdefault(tag, set()).add(key)
            self.entries += 1
            self.size_bytes += size
            self._ring.append(slot)
            self._shrink()
        return True

    def _times(self, born: float, until: float) -> tuple[float, float]:
        """The two times as float objects shared between entries stored within a millisecond: 24 bytes each saved."""
        last_born, last_until, shared = self._last
        if 0.0 <= born - last_born < TICK:
            if 0.0 <= until - last_until < TICK:
                return last_born, shared
            self._last = (last_born, until, until)
            return last_born, until
        self._last = (born, until, until)
        return born, until

    def _shrink(self) -> None:
        while self.size_bytes > self.max_bytes or (self.max_entries is not None and self.entries > self.max_entries):
            victim = self._ring.victim()
            if victim is None:
                return
            home = victim.home
            if home is not None and home.get(victim.key) is victim:
                del home[victim.key]
                if self.spilled is not None:
                    self.spilled.append((home.place, victim))
            self._forget(victim)
            self.evictions += 1
        if len(self._ring) > 2 * self.entries + 1024:
            self._ring.compact()

    def _forget(self, slot: Slot) -> None:
        """Account for a slot that is no longer, or will not be, in its home."""
        home, slot.home = slot.home, None
        if home is None:
            return
        self.entries -= 1
        self.size_bytes -= _size(slot.key) + _size(slot.value) + OVERHEAD
        if slot.record is not None:
            for tag, _ in slot.record.tags:
                keys = home.tagged.get(tag)
                if keys is not None:
                    keys.discard(slot.key)
                    if not keys:
                        del home.tagged[tag]

    def remove(self, home: Home, key: Hashable, *, only: Slot | None = None) -> bool:
        """Remove one entry, or only that very slot; answers whether it was there."""
        with self._lock:
            slot = home.get(key)
            if slot is None or (only is not None and slot is not only):
                return False
            del home[key]
            self._forget(slot)
        return True

    def remove_many(self, home: Home, keys: Iterable[Hashable]) -> int:
        """Remove several entries at once; answers how many were there."""
        with self._lock:
            slots = [slot for key in keys if (slot := home.pop(key, None)) is not None]
            for slot in slots:
                self._forget(slot)
        return len(slots)

    def tagged(self, home: Home, tag: str) -> list[Hashable]:
        """The keys that carry a tag."""
        with self._lock:
            return list(home.tagged.get(tag, ()))

    def snapshot(self, home: Home) -> list[Slot]:
        """The slots of a home at one moment."""
        with self._lock:
            return list(home.values())

    def expire(self, now: float) -> int:
        """Remove every entry that is gone at `now`; answers how many."""
        removed = 0
        for home in list(self._homes.values()):
            removed += self.remove_many(home, [slot.key for slot in self.snapshot(home) if gone(slot, now)])
        return removed

    def slots(self) -> Iterator[Slot]:
        """Every slot of every namespace."""
        for home in list(self._homes.values()):
            yield from self.snapshot(home)

    def close(self) -> None:
        """Let go of everything."""
        with self._lock:
            for home in self._homes.values():
                home.clear()
                home.tagged.clear()
            self._ring.clear()
            self.entries = self.size_bytes = 0


def gone(slot: Slot, now: float) -> bool:
    """Whether an entry may no longer be served at all."""
    expires_at = slot.record.expires_at if slot.record is not None else slot.until
    return expires_at is not None and now >= expires_at


def _size(value: Any) -> int:
    """Bytes of content: exact for text and bytes, an estimate for the other immutable values."""
    if isinstance(value, bytes | str):
        return len(value)
    if isinstance(value, tuple | frozenset):
        return sum(map(_size, value)) + 16 * len(value)
    return 16


def open_url(url: StoreUrl, *, face: str = "blocking") -> MemoryTier:
    """The memory tier of a URL: `memory://?max_bytes=256MB&max_entries=100000`. The same for both faces."""
    options = Options(url)
    max_bytes = options.size("max_bytes", DEFAULT_MAX_BYTES)
    max_entries = options.integer("max_entries", 0)
    options.finish()
    assert max_bytes is not None
    return MemoryTier(max_bytes=max_bytes, max_entries=max_entries or None)

"""SQLite passes the conformance suite: blocking, in threads, with every value a file, and against a plain dict."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from agentcache_backends.sqlite import SqliteBackend
from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.clock import Clock
from agentcache_core.resilience import in_threads
from agentcache_core.testing import AsyncBackendSuite, BackendSuite, against_a_dict


class TestSqlite(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return SqliteBackend(place / "store.db", clock=clock, timeout=30.0)


class TestSqliteWithEveryValueAFile(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return SqliteBackend(place / "store.db", clock=clock, max_inline=0, timeout=30.0)


class TestSqliteInThreads(AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return in_threads(SqliteBackend(place / "store.db", clock=clock, timeout=30.0))


class _Places:
    """A new store for every new clock, the same store again for a clock seen before."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._numbers = itertools.count()
        self._by_clock: dict[int, Path] = {}
        self._clocks: list[Clock] = []  # kept alive, so that an id stands for one clock

    def open(self, clock: Clock) -> Backend:
        if id(clock) not in self._by_clock:
            self._clocks.append(clock)
            self._by_clock[id(clock)] = Path(self._folder.name) / f"{next(self._numbers)}.db"
        return SqliteBackend(self._by_clock[id(clock)], clock=clock)


TestSqliteAgainstADict = against_a_dict(_Places().open, reopens=True)

"""One SQLite connection per thread, none of which crosses a fork."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from sys import getrefcount
from typing import Literal

from agentcache_backends.sqlite.schema import ours
from agentcache_core.errors import BackendClosed

Durability = Literal["normal", "full"]


class Connection:
    """One thread's connection. It closes itself when nobody can use it any more: when its thread is gone, or the store
    was closed, and no call on it is under way. Closed earlier, by another thread, it would take the process with it."""

    __slots__ = ("__weakref__", "_idle", "execute", "raw", "unmeasured")

    def __init__(self, path: Path, durability: Durability, timeout: float, log_pages: int) -> None:
        self.raw = sqlite3.connect(
            path, timeout=timeout, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        self.execute = self.raw.execute
        self.unmeasured = 0  # bytes written since the size of the store was last looked at
        self.execute(f"PRAGMA synchronous = {durability.upper()}")
        # Moving the write-ahead log into the database every 4000 pages, not every 1000, makes puts a quarter quicker.
        self.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
        self.execute(f"PRAGMA journal_size_limit = {2 * log_pages * 4096}")
        self.execute("PRAGMA trusted_schema = OFF")
        self._idle = (getrefcount(self.execute), getrefcount(self.raw))

    def __del__(self) -> None:
        # Whoever still runs a statement holds the method, or the handle through a cursor; the handle of his is closed
        # when it is collected.
        if hasattr(self, "_idle") and (getrefcount(self.execute), getrefcount(self.raw)) == self._idle:
            self.raw.close()


class Local(threading.local):
    """What one thread holds: its connection, absent until first used."""

    connection: Connection


class Connections:
    """The connections of one store. `local.connection` is the quick way, `here()` the one that opens."""

    def __init__(self, path: Path, *, durability: Durability, timeout: float, log_pages: int) -> None:
        self._path, self._durability, self._timeout, self._log_pages = path, durability, timeout, log_pages
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False
        self._registering = threading.Lock()
        self.writing = threading.RLock()
        self.local = Local()
        _alive.add(self)

    def here(self) -> Connection:
        """This thread's connection, opened when need be. Raises `BackendClosed`, or a `BackendError`."""
        connection = getattr(self.local, "connection", None)
        if connection is None or self._closed:
            if self._closed:
                raise BackendClosed(f"the SQLite store {self._path} was closed")
            try:
                connection = Connection(self._path, self._durability, self._timeout, self._log_pages)
            except sqlite3.Error as error:
                raise ours(error, self._path) from error
            with self._registering:
                if self._closed:
                    raise BackendClosed(f"the SQLite store {self._path} was closed")
                self._all.add(connection)
                self.local.connection = connection
        return connection

    def close(self) -> None:
        """Let go of the connections of every thread: those in use close when their calls are done."""
        self._closed = True
        with self._registering:
            self.local = Local()
            self._all = weakref.WeakSet()

    def forget_after_fork(self) -> None:
        """Start anew in a child process. The parent's handles are never closed here: SQLite would drop its locks and
        might remove its log, so one reference to each is kept beyond the life of the interpreter."""
        for connection in list(self._all):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection.raw))
        self._all = weakref.WeakSet()
        self._registering = threading.Lock()
        self.writing = threading.RLock()
        self.local = Local()


_alive: weakref.WeakSet[Connections] = weakref.WeakSet()


def _in_the_child() -> None:
    for connections in list(_alive):
        connections.forget_after_fork()


os.register_at_fork(after_in_child=_in_the_child)

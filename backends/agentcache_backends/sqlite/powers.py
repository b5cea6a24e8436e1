"""The further powers of the SQLite backend: transactions, the log, leases, counters."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import urandom
from pathlib import Path
from typing import Any

from agentcache_backends.sqlite.connections import Connection, Connections
from agentcache_backends.sqlite.files import ValueFiles
from agentcache_backends.sqlite.schema import ours
from agentcache_core.backend import Event, Grant, Put, Version
from agentcache_core.errors import BackendUnavailable

_ACQUIRE = (
    "INSERT INTO lease (name, token, fence, until) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE "
    "SET token = ?2, fence = max(fence + 1, ?3), until = ?4 WHERE until <= ?5 RETURNING fence"
)
_EXTEND = "UPDATE lease SET until = ? WHERE name = ? AND token = ? AND fence = ? AND until > ? RETURNING 1"
_FORGOTTEN_AFTER = 86_400.0
_TIDY_EVERY = 256


class Powers:
    """What the store can do beyond its verbs; `SqliteBackend` is built on it."""

    path: Path
    _identity: bytes
    _now: Callable[[], float]
    _timeout: float
    _log_length: int
    _connections: Connections
    _files: ValueFiles
    _appended = 0
    _acquired = 0

    def _read(self, sql: str, arguments: Sequence[Any]) -> list[Any]:
        raise NotImplementedError

    def _write(self, sql: str, arguments: Any) -> list[Any]:
        raise NotImplementedError

    def _prepared(self, put: Put) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A transaction that takes the write lock at once; rolled back when the block raises."""
        connection, writing = self._connections.here(), self._connections.writing
        if not writing.acquire(timeout=self._timeout):
            raise BackendUnavailable(f"SQLite store {self.path}: another thread wrote longer than the timeout")
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise ours(error, self.path) from error
        finally:
            try:
                if connection.raw.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.ProgrammingError:
                pass  # closed meanwhile by another thread, which rolled back as well
            finally:
                writing.release()

    def append(self, topic: bytes, event: bytes) -> bytes:
        ((position,),) = self._write("INSERT INTO log (topic, event) VALUES (?, ?) RETURNING position", (topic, event))
        self._appended += 1
        if self._appended % _TIDY_EVERY == 0 or self._log_length < _TIDY_EVERY:
            oldest = "SELECT position FROM log WHERE topic = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2"
            self._write(
                f"DELETE FROM log WHERE topic = ?1 AND position <= ({oldest})",  # noqa: S608 - a constant
                (topic, self._log_length),
            )
        return self._position(position)

    def read(self, topic: bytes, after: bytes) -> list[Event] | None:
        if after and (len(after) != 16 or after[:8] != self._identity):
            return None
        since = int.from_bytes(after[8:], "big")
        sql = "SELECT position, event FROM log WHERE topic = ? AND position >= ? ORDER BY position"
        rows = self._read(sql, (topic, since))
        if after:
            if not rows or rows[0][0] != since:
                return None
            del rows[0]
        return [Event(self._position(position), event) for position, event in rows]

    def tail(self, topic: bytes) -> bytes:
        ((newest,),) = self._read("SELECT max(position) FROM log WHERE topic = ?", (topic,))
        return b"" if newest is None else self._position(newest)

    def _position(self, number: int) -> bytes:
        # The store's identity is part of it: a database that was removed and created anew counts from 1 again.
        return self._identity + number.to_bytes(8, "big")

    def acquire(self, lease: bytes, seconds: float) -> Grant | None:
        now, token = self._now(), urandom(8)
        self._acquired += 1
        if self._acquired % _TIDY_EVERY == 0:
            self._write("DELETE FROM lease WHERE until < ?", (now - _FORGOTTEN_AFTER,))
        # A first fence taken from the clock stays above those of leases that were forgotten.
        rows = self._write(_ACQUIRE, (lease, token, int(now * 1_000_000), now + seconds, now))
        return Grant(token, rows[0][0]) if rows else None

    def renew(self, lease: bytes, grant: Grant, seconds: float) -> bool:
        now = self._now()
        return bool(self._write(_EXTEND, (now + seconds, lease, grant.token, grant.fence, now)))

    def release(self, lease: bytes, grant: Grant) -> bool:
        now = self._now()
        return bool(self._write(_EXTEND, (now, lease, grant.token, grant.fence, now)))

    def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, *, expires_at: float | None = None
    ) -> Version | None:
        sql, values = self._prepared(Put(name, data, expires_at))
        version: Version | None = None
        replaced = None
        try:
            with self._transaction() as connection:
                held = "SELECT 1 FROM lease WHERE name = ? AND token = ? AND fence = ?"
                if connection.execute(held, (lease, grant.token, grant.fence)).fetchall():
                    ((replaced,),) = connection.execute(sql, values).fetchall()
                    version = values["version"]
        except BaseException:
            version = None
            raise
        finally:
            unneeded = replaced if version is not None else values["file"]
            if unneeded:
                self._files.remove(unneeded)
        return version

    def add(self, name: bytes, amount: int) -> int:
        sql = (
            "INSERT INTO counter (name, amount) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET amount = amount + excluded.amount RETURNING amount"
        )
        ((total,),) = self._write(sql, (name, amount))
        return int(total)

"""The verbs of the SQLite backend, each one statement where that is atomic enough."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from os import urandom
from pathlib import Path
from typing import Any, Final

from agentcache_backends.sqlite.bound import Bound
from agentcache_backends.sqlite.connections import Connection, Connections, Durability
from agentcache_backends.sqlite.files import ValueFiles
from agentcache_backends.sqlite.powers import Powers
from agentcache_backends.sqlite.schema import ours, prepare
from agentcache_core.backend import Capabilities, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendFull, BackendUnavailable
from agentcache_core.model import MISSING, Missing

_GET = "SELECT data, version, expires_at, file FROM stored WHERE name = ?"
_GET_TWO = f"SELECT 0, {_GET[7:]} UNION ALL SELECT 1, {_GET[7:]}"
_INSERT = (
    "INSERT INTO stored (name, version, expires_at, modified_at, size, weight, file, data) "
    "VALUES (:name, :version, :expires_at, :now, :size, :weight, :file, :data) "
)
_SET = (
    "SET version = :version, expires_at = :expires_at, modified_at = :now, size = :size, weight = :weight, "
    "replaced = file, file = :file, data = :data "
)
_PUT = f"{_INSERT} ON CONFLICT (name) DO UPDATE {_SET} RETURNING replaced"
_PUT_IF_ABSENT = f"{_INSERT} ON CONFLICT (name) DO UPDATE {_SET} WHERE stored.expires_at <= :now RETURNING replaced"
_PUT_IF_VERSION = (
    f"UPDATE stored {_SET} WHERE name = :name AND version = :if_version "
    "AND (expires_at IS NULL OR expires_at > :now) RETURNING replaced"
)
_DELETE = "DELETE FROM stored WHERE name = ? RETURNING expires_at, file"
_DELETE_VERSION = "DELETE FROM stored WHERE name = ? AND version = ? RETURNING expires_at, file"
_SCAN = (
    "SELECT name, size, modified_at, expires_at, version FROM stored WHERE name > ? AND name >= ? AND {bound} "
    "AND (expires_at IS NULL OR expires_at > ?) ORDER BY name LIMIT 256"
)
_SCAN_BELOW, _SCAN_ALL = _SCAN.format(bound="name < ?"), _SCAN.format(bound="? IS NULL")
_TOUCH = (
    "UPDATE stored SET expires_at = CASE WHEN ?1 IS NULL OR expires_at IS NULL THEN NULL ELSE max(expires_at, ?1) END, "
    "weight = weight + max(0, ?2 - modified_at), modified_at = ?2, version = ?3 "
    "WHERE name = ?4 AND (expires_at IS NULL OR expires_at > ?2)"
)
_MOST_NAMES: Final = 16_384
_new = tuple.__new__  # a Stored made from its parts, at a third of the cost of calling it


class SqliteBackend(Powers):
    """A durable, shared backend in one SQLite file. Opening raises when the file is not ours to use.

    Reads never wait for writers. `timeout` is how long, in seconds, a write may wait for other writers before it
    raises `BackendUnavailable`. Files, the database and its log have mode 0600.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        durability: Durability = "normal",
        max_bytes: int | None = None,
        max_inline: int = 64 * 1024,
        timeout: float = 0.25,
        log_length: int = 10_000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.path = Path(path).absolute()
        self.capabilities = Capabilities(
            durable=True, shared=True, bounded=max_bytes is not None, max_bytes=max_bytes, native_deadline=True
        )
        self._now = clock.now
        self._max_inline = max_inline
        self._timeout = timeout
        self._log_length = log_length
        self._identity = prepare(self.path, timeout)
        log_pages = 4000 if max_bytes is None else min(4000, max(64, max_bytes // 4096 // 4))
        self._connections = Connections(self.path, durability=durability, timeout=timeout, log_pages=log_pages)
        self._files = ValueFiles(self.path.with_name(f"{self.path.name}-files"), sync=durability == "full")
        self._bound = Bound(max_bytes, self._files, clock)
        self._bound.enforce(self._connections.here())

    def get(self, name: bytes) -> Stored | Missing:
        while True:
            try:
                row = self._connections.local.connection.execute(_GET, (name,)).fetchone()
            except (AttributeError, sqlite3.Error) as error:
                row = self._slowly(error, _GET, (name,))
            if row is None:
                return MISSING
            data, version, expires_at, file = row
            if expires_at is not None and expires_at <= self._now():
                return MISSING
            if file is not None and (data := self._files.read(file)) is None:
                if self._is_lost(name, file):
                    return MISSING
                continue  # overwritten meanwhile: its file went with it
            return _new(Stored, (data, version))

    def _slowly(self, error: Exception, sql: str, arguments: tuple[Any, ...]) -> Any:
        """Ask again where this thread had no connection yet; otherwise raise what happened, as ours."""
        if isinstance(error, sqlite3.Error):
            raise ours(error, self.path) from error
        try:
            return self._connections.here().execute(sql, arguments).fetchone()
        except sqlite3.Error as again:
            raise ours(again, self.path) from again

    def _is_lost(self, name: bytes, file: str) -> bool:
        """Whether a row names a file that is not there (someone removed it); such a row is deleted."""
        gone = self._write("DELETE FROM stored WHERE name = ? AND file = ? RETURNING 1", (name, file))
        return bool(gone)

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
        sql, values = self._prepared(Put(name, data, expires_at, if_absent, if_version, weight))
        version: Version | None = None
        try:
            rows = self._write(sql, values)
            version = values["version"] if rows else None
        finally:
            if version is None and values["file"]:
                self._files.remove(values["file"])
        if rows and rows[0][0]:
            self._files.remove(rows[0][0])
        if self._bound.max_bytes is not None:
            self._bound.wrote(self._connections.here(), len(data))
        return version

    def _prepared(self, put: Put) -> tuple[str, dict[str, Any]]:
        """The statement that performs one put, and its values; a large value's file is written here."""
        size = len(put.data)
        if self._bound.max_bytes is not None and size > self._bound.max_bytes // 2:
            raise BackendFull(f"a value of {size} bytes does not fit a store of max_bytes={self._bound.max_bytes}")
        version = urandom(8)
        file = version.hex() if size > self._max_inline else None
        if file is not None:
            self._files.write(file, put.data)
        values = {
            "name": put.name,
            "version": version,
            "expires_at": put.expires_at,
            "now": self._now(),
            "size": size,
            "weight": put.weight,
            "file": file,
            "data": put.data if file is None else None,
            "if_version": put.if_version,
        }
        sql = _PUT if not put.if_absent and put.if_version is None else _PUT_IF_ABSENT
        return sql if put.if_version is None else _PUT_IF_VERSION, values

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        if if_version is None:
            rows = self._write(_DELETE, (name,))
        else:
            rows = self._write(_DELETE_VERSION, (name, if_version))
        if not rows:
            return False
        ((expires_at, file),) = rows
        if file:
            self._files.remove(file)
        return expires_at is None or expires_at > self._now()

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        beyond = _successor(prefix)
        sql = _SCAN_ALL if beyond is None else _SCAN_BELOW
        while True:
            page = self._read(sql, (after, prefix, beyond, self._now()))
            for row in page:
                yield _new(Stat, row)
            if len(page) < 256:
                return
            after = page[-1][0]

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        """Many names in one statement, so that all answers are of one moment."""
        if len(names) == 2:  # the pair that every hit of the engine asks for
            rows = self._read(_GET_TWO, (names[0], names[1]))
            found: list[Stored | Missing] = [MISSING, MISSING]
            for index, *row in rows:
                found[index] = self._stored(names[index], *row)
            return found
        by_name: dict[bytes, Stored | Missing] = {}
        for start in range(0, len(names), _MOST_NAMES):
            some = names[start : start + _MOST_NAMES]
            for name, *row in self._read(_many(len(some)), (*some, *[None] * (_padded(len(some)) - len(some)))):
                by_name[name] = self._stored(name, *row)
        return [by_name.get(name, MISSING) for name in names]

    def _stored(
        self, name: bytes, data: bytes, version: Version, expires_at: float | None, file: str | None
    ) -> Stored | Missing:
        if expires_at is not None and expires_at <= self._now():
            return MISSING
        if file is None:
            return _new(Stored, (data, version))
        read = self._files.read(file)
        return self.get(name) if read is None else _new(Stored, (read, version))

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        """Many puts in one transaction."""
        prepared: list[tuple[str, dict[str, Any]]] = []
        versions: list[Version | None] = []
        unneeded: list[str | None] = []
        try:
            prepared += map(self._prepared, puts)
            with self._transaction() as connection:
                for sql, values in prepared:
                    rows = connection.execute(sql, values).fetchall()
                    versions.append(values["version"] if rows else None)
                    unneeded.append(rows[0][0] if rows else values["file"])
        except BaseException:
            unneeded = [values["file"] for _, values in prepared]
            raise
        finally:
            for file in filter(None, unneeded):
                self._files.remove(file)
        if self._bound.max_bytes is not None:
            self._bound.wrote(self._connections.here(), sum(len(put.data) for put in puts))
        return versions

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        """Many deletes in one transaction."""
        answers, files, now = [], [], self._now()
        with self._transaction() as connection:
            for name in names:
                row = connection.execute(_DELETE, (name,)).fetchall()
                answers.append(bool(row) and (row[0][0] is None or row[0][0] > now))
                files += [file for _, file in row if file]
        for file in files:
            self._files.remove(file)
        return answers

    def touch(self, name: bytes, expires_at: float | None) -> bool:
        return self.touch_many([name], [expires_at])[0]

    def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        """Many touches in one transaction. A weight is a time: what is touched weighs as if it were written now."""
        now, pairs = self._now(), zip(names, expires_at, strict=True)
        with self._transaction() as connection:
            return [connection.execute(_TOUCH, (until, now, urandom(8), name)).rowcount == 1 for name, until in pairs]

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        sql = "SELECT substr(data, ?2 + 1, ?3), expires_at, file FROM stored WHERE name = ?1"
        while rows := self._read(sql, (name, offset, size)):
            ((data, expires_at, file),) = rows
            if expires_at is not None and expires_at <= self._now():
                return MISSING
            part: bytes | None = data if file is None else self._files.read(file, offset, size)
            if part is not None:
                return part
            if self._is_lost(name, file):
                return MISSING
        return MISSING

    def close(self) -> None:
        self._connections.close()

    def sweep(self, *, older_than: float = 3600.0) -> int:
        """Reclaim what expired, and files that no row names and that are older than `older_than` seconds (left by a
        crash). Answers how many values and files went."""
        connection = self._connections.here()
        removed = self._bound.drop_expired(connection, most=1_000_000)
        oldest = self._now() - older_than
        for name, modified_at in self._files.names():
            if modified_at < oldest and not self._read("SELECT 1 FROM stored WHERE file = ?", (name,)):
                self._files.remove(name)
                removed += 1
        return removed

    def _read(self, sql: str, arguments: Sequence[Any]) -> list[Any]:
        try:
            return self._connections.here().execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise ours(error, self.path) from error

    def _write(self, sql: str, arguments: Any) -> list[Any]:
        """One statement that writes. Threads queue here, since SQLite's own waiting sleeps in steps."""
        writing = self._connections.writing
        connection: Connection = self._connections.here()
        if not writing.acquire(timeout=self._timeout):
            raise BackendUnavailable(f"SQLite store {self.path}: another thread wrote longer than the timeout")
        try:
            return connection.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise ours(error, self.path) from error
        finally:
            writing.release()


def _successor(prefix: bytes) -> bytes | None:
    """The least bytes above everything that starts with `prefix`; None when there is no such bound."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def _padded(count: int) -> int:
    return count if count <= 8 else 1 << (count - 1).bit_length()


def _many(count: int) -> str:
    """One statement for `count` names, padded so that few different ones are ever prepared."""
    marks = ",".join("?" * _padded(count))
    return f"SELECT name, data, version, expires_at, file FROM stored WHERE name IN ({marks})"  # noqa: S608 - only marks

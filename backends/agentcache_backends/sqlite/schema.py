"""The tables of the SQLite backend, and what is checked before a file is taken for ours."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from agentcache_core.errors import (
    BackendClosed,
    BackendError,
    BackendFull,
    BackendReadOnly,
    BackendUnavailable,
    ConfigurationError,
    ForeignStore,
)

APPLICATION_ID: Final = 0x41474348  # "AGCH"
FORMAT: Final = 1
_MAGIC = b"SQLite format 3\x00"

# `data` comes last, so that reading the columns before it touches no overflow page. `file` names the file of a large
# value; `replaced` is the file of the value that this row's last write replaced, told by RETURNING.
_TABLES = """
CREATE TABLE stored (
    name BLOB PRIMARY KEY, version BLOB NOT NULL, expires_at REAL, modified_at REAL NOT NULL, size INTEGER NOT NULL,
    weight REAL, file TEXT, replaced TEXT, data BLOB
) STRICT;
CREATE INDEX stored_expiry ON stored (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX stored_file ON stored (file, size) WHERE file IS NOT NULL;
CREATE TABLE log (position INTEGER PRIMARY KEY AUTOINCREMENT, topic BLOB NOT NULL, event BLOB NOT NULL) STRICT;
CREATE INDEX log_topic ON log (topic, position);
CREATE TABLE lease (name BLOB PRIMARY KEY, token BLOB NOT NULL, fence INTEGER NOT NULL, until REAL NOT NULL) STRICT;
CREATE TABLE counter (name BLOB PRIMARY KEY, amount INTEGER NOT NULL) STRICT;
CREATE TABLE identity (id BLOB NOT NULL) STRICT;
"""


def prepare(path: Path, timeout: float) -> bytes:
    """Make sure that `path` is a database of ours, creating it where nothing is; answers the store's identity.

    Raises `ForeignStore` for anything else at that path, `BackendReadOnly`, `BackendFull` or `ConfigurationError`;
    what it refuses is left untouched.
    """
    if sqlite3.sqlite_version_info < (3, 37):
        raise ConfigurationError(f"sqlite:// needs SQLite 3.37 or newer, this Python has {sqlite3.sqlite_version}")
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"the folder {path.parent} of the SQLite store does not exist; create it first "
            "(sqlite:///cache.db is relative, an absolute path has four slashes: sqlite:////var/cache.db)"
        )
    fd = _open_file(path)
    try:
        _check_header(path, os.pread(fd, 100, 0))
        if os.fstat(fd).st_mode & 0o077:
            os.fchmod(fd, 0o600)
    except PermissionError as error:
        raise BackendReadOnly(f"{path} belongs to someone else, its permissions cannot be set to 0600") from error
    finally:
        os.close(fd)
    try:
        connection = sqlite3.connect(path, timeout=max(timeout, 5.0), isolation_level=None)
        try:
            return _initialise(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ours(error, path) from error


def _open_file(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ForeignStore(f"{path} is a symbolic link, which is never followed; name its target") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise BackendReadOnly(f"{path} cannot be opened for writing ({os.strerror(error.errno)})") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BackendFull(f"no room to create {path}") from error
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise ForeignStore(f"{path} is not a regular file") from error
        raise BackendUnavailable(f"{path} cannot be opened ({os.strerror(error.errno or 0)})") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ForeignStore(f"{path} is not a regular file")
    return fd


def _check_header(path: Path, header: bytes) -> None:
    if not header or Path(f"{path}-journal").exists():
        return  # new, or someone is just creating it: decided below, under SQLite's own lock
    if not header.startswith(_MAGIC):
        raise ForeignStore(f"{path} is not an SQLite database; nothing was written, choose another path")
    _check_marks(path, int.from_bytes(header[68:72], "big"), int.from_bytes(header[60:64], "big"))


def _check_marks(path: Path, application: int, version: int) -> None:
    if application != APPLICATION_ID:
        raise ForeignStore(f"{path} is a database of another application; nothing was written, choose another path")
    if version > FORMAT:
        raise ForeignStore(
            f"{path} has format {version}, newer than the {FORMAT} this version knows; nothing was written, "
            "upgrade agentcache or choose another path"
        )


def _initialise(connection: sqlite3.Connection, path: Path) -> bytes:
    """Create the tables unless they are there. The rollback journal guards this, so that application and version
    stand in the file's header before the write-ahead log is ever used."""
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        connection.execute("BEGIN EXCLUSIVE")
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            for statement in _TABLES.strip().split(";\n"):
                connection.execute(statement)
            connection.execute("INSERT INTO identity VALUES (randomblob(8))")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    _check_marks(path, application, connection.execute("PRAGMA user_version").fetchone()[0])
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise BackendUnavailable(f"{path} lies on a file system without shared memory, which SQLite's WAL mode needs")
    identity: bytes = connection.execute("SELECT id FROM identity").fetchone()[0]
    return identity


_BY_CODE: dict[int, tuple[type[BackendError], str]] = {
    sqlite3.SQLITE_BUSY: (BackendUnavailable, "another writer held it longer than the timeout"),
    sqlite3.SQLITE_LOCKED: (BackendUnavailable, "it is locked"),
    sqlite3.SQLITE_FULL: (BackendFull, "no room is left"),
    sqlite3.SQLITE_READONLY: (BackendReadOnly, "it cannot be written"),
    sqlite3.SQLITE_PERM: (BackendReadOnly, "it cannot be written"),
    sqlite3.SQLITE_AUTH: (BackendReadOnly, "it cannot be written"),
    sqlite3.SQLITE_NOTADB: (ForeignStore, "it is not an SQLite database"),
    sqlite3.SQLITE_CORRUPT: (BackendUnavailable, "the database is damaged; move it away and a new one is created"),
    sqlite3.SQLITE_CANTOPEN: (BackendUnavailable, "it cannot be opened"),
    sqlite3.SQLITE_IOERR: (BackendUnavailable, "reading or writing the file failed"),
}


def ours(error: sqlite3.Error, path: Path) -> BackendError:
    """An exception of sqlite3 in the words of the seam."""
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        return BackendClosed(f"the SQLite store {path} was closed")
    code = getattr(error, "sqlite_errorcode", None)
    kind, reason = _BY_CODE.get((code or 0) & 0xFF, (BackendUnavailable, str(error)))
    return kind(f"SQLite store {path}: {reason}")

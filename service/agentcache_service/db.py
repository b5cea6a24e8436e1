"""The database: an engine for SQLite or PostgreSQL, with one way to read and one way to write."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

_SQLITE: dict[str, Any] = {"timeout": 30, "check_same_thread": False}


def normalise_url(url: str) -> str:
    """The URL with the driver we install: `postgresql://` becomes `postgresql+psycopg://`."""
    for short in ("postgresql://", "postgres://"):
        if url.startswith(short):
            return "postgresql+psycopg://" + url.removeprefix(short)
    return url


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read (0600), or take others' rights from one that is there. SQLite
    gives its write-ahead log and its journal the rights of the file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


class Database:
    """Transactions over one engine.

    `write()` opens a transaction that may change rows (`BEGIN IMMEDIATE` on SQLite: a deferred transaction that reads
    and then writes fails at once with SQLITE_BUSY, whatever the busy timeout), commits when the block ends and rolls
    back when it raises. `read()` opens one that may not. Safe to use from several threads; a session is not.
    """

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        self.url = normalise_url(url)
        parsed = make_url(self.url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        # an error's text must not carry what was written: addresses, password hashes, tokens
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 10, "hide_parameters": True}
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError("the service needs a database file: sqlite:////path/to/service.db")
            make_private(Path(parsed.database))
            options["connect_args"] = _SQLITE
        else:
            options["pool_pre_ping"] = True
        self.engine = create_engine(self.url, **options)
        if self.is_sqlite:
            _use_explicit_transactions(self.engine)
        self._quick = self.engine.execution_options(agentcache_single_statement=True)
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        self._read = sessionmaker(
            self.engine.execution_options(agentcache_reads_only=True), expire_on_commit=False, autoflush=False
        )

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end of the block."""
        with self._write() as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for looking only; nothing it does is kept. Rows read stay usable after the block."""
        with self._read() as session:  # closing rolls back without expiring what was read
            yield session

    @contextmanager
    def quick(self) -> Iterator[Connection]:
        """A connection for one single reading statement, without a transaction around it."""
        with self._quick.connect() as connection:
            yield connection

    def connect(self) -> Any:
        """A new connection of the driver itself, in autocommit and of nobody's pool: the caller closes it."""
        dialect = self.engine.dialect
        arguments, options = dialect.create_connect_args(self.engine.url)
        if self.is_sqlite:
            opened: Any = sqlite3.connect  # the driver's own arguments, as SQLAlchemy words them
            return opened(*arguments, **{**options, **_SQLITE}, isolation_level=None)
        return dialect.connect(*arguments, **options, autocommit=True)

    def ping(self) -> None:
        """Ask the database for one row; raises what the driver raises when it cannot answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Return every connection."""
        self.engine.dispose()


def _use_explicit_transactions(engine: Engine) -> None:
    """Take BEGIN away from sqlite3, which would start transactions late and deferred."""

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "busy_timeout=30000",
            "secure_delete=ON",  # what is deleted is overwritten: an erased person's row must not lie in free pages
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("agentcache_single_statement", False):
            return  # SQLite makes a single statement atomic by itself
        reads_only = options.get("agentcache_reads_only", False)
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

"""Every row of a database as lines of text, and back: on SQLite and PostgreSQL alike, and from one to the other.

One file a table, `<table>.jsonl`: the first line names the columns, every other is one row. Texts, numbers, truth
values and null are JSON's own; a moment is `{"t": "2026-11-26T12:00:00"}` (UTC), bytes are `{"b": "<base64>"}`; a JSON
column is the text the database keeps. Tables are read from the database itself: a dump needs no code that knows them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, MetaData, Table, Text, TypeDecorator, cast, event, func, insert, select, text
from sqlalchemy.sql import ColumnElement

from agentcache_service import schema
from agentcache_service.db import Database

_BATCH = 500
_VERSIONS = "alembic_version"
_PLANTED = "jobs"
"""A service that was started once has jobs of its own; nothing else stands in a database that nobody used."""


class NotEmpty(Exception):
    """The database holds rows already; `table` has some."""

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self.table = table


class _JsonText(TypeDecorator[str]):
    """A JSON column as the text it is kept as: what is null and what is the JSON value null stays apart."""

    impl = Text
    cache_ok = True

    def __init__(self, *, typed: bool) -> None:
        super().__init__()
        self.typed = typed  # PostgreSQL has a type of its own; SQLite keeps the text

    def bind_expression(self, bindvalue: Any) -> ColumnElement[Any]:
        return cast(bindvalue, JSON) if self.typed else bindvalue

    def column_expression(self, column: Any) -> ColumnElement[Any]:
        return cast(column, Text) if self.typed else column


def _tables(connection: Connection) -> list[Table]:
    """The tables as they are in this database, those that others refer to first."""
    metadata = MetaData()
    typed = connection.dialect.name == "postgresql"

    @event.listens_for(metadata, "column_reflect")
    def _as_text(_inspector: Any, _table: Any, column: Any) -> None:
        if isinstance(column["type"], JSON):
            column["type"] = _JsonText(typed=typed)

    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != _VERSIONS]


def dump(database: Database, folder: Path) -> tuple[list[str], list[Path]]:
    """Write every table into a folder, all as of one moment, while others go on writing.

    Answers the schema's revisions and the files.
    """
    options: dict[str, Any] = {"agentcache_reads_only": True}
    if not database.is_sqlite:
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    files = []
    with database.engine.execution_options(**options).connect() as connection:
        revisions = schema.revisions(connection)
        for table in _tables(connection):
            files.append(folder / f"{table.name}.jsonl")
            with files[-1].open("w", encoding="utf-8") as out:
                out.writelines(_lines(connection, table))
    return revisions, files


def _lines(connection: Connection, table: Table) -> Iterator[str]:
    yield json.dumps([column.name for column in table.columns]) + "\n"
    query = select(table).order_by(*table.primary_key.columns)
    for row in connection.execution_options(yield_per=_BATCH).execute(query):
        yield json.dumps([_written(value) for value in row], ensure_ascii=False) + "\n"


def _written(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"t": value.isoformat()}
    if isinstance(value, bytes | memoryview):
        return {"b": base64.b64encode(value).decode()}
    return value


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return datetime.fromisoformat(value["t"]) if "t" in value else base64.b64decode(value["b"])


def load(database: Database, folder: Path, revisions: Iterable[str]) -> int:
    """Put what `dump` wrote into an empty database and bring its schema to the newest revision; how many rows.

    Raises `NotEmpty` where rows are, and Alembic's `CommandError` for revisions that this version does not know.
    """
    for revision in revisions:
        schema.upgrade(database, revision)
    count = 0
    with database.engine.begin() as connection:
        tables = _tables(connection)
        for table in tables:
            if table.name != _PLANTED and connection.execute(select(table).limit(1)).first() is not None:
                raise NotEmpty(table.name)
        for table in tables:
            if table.name == _PLANTED:
                connection.execute(table.delete())
            path = folder / f"{table.name}.jsonl"
            if path.exists():
                count += _fill(connection, table, path)
    schema.upgrade(database)
    return count


def _fill(connection: Connection, table: Table, path: Path) -> int:
    count = 0
    with path.open(encoding="utf-8") as lines:
        names = json.loads(next(lines))
        batch: list[dict[str, Any]] = []
        for line in lines:
            batch.append({name: _read(value) for name, value in zip(names, json.loads(line), strict=True)})
            if len(batch) == _BATCH:
                count += _write(connection, table, batch)
        count += _write(connection, table, batch)
    if connection.dialect.name == "postgresql":
        _go_on_counting(connection, table)
    return count


def _write(connection: Connection, table: Table, batch: list[dict[str, Any]]) -> int:
    written = len(batch)
    if batch:
        connection.execute(insert(table), batch)
        batch.clear()
    return written


def _go_on_counting(connection: Connection, table: Table) -> None:
    """Let PostgreSQL's own numbers begin after the highest that was loaded."""
    for column in table.primary_key.columns:
        names = {"table": f'"{table.name}"', "column": column.name}
        sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), names)
        if sequence is not None:
            highest = connection.scalar(select(func.max(column)))
            begun = {"sequence": sequence, "value": highest or 1, "used": highest is not None}
            connection.execute(text("SELECT setval(:sequence, :value, :used)"), begun)

"""One reading statement, prepared once and run without SQLAlchemy's execution around it.

For the look-up that every call of the cache API begins with: through SQLAlchemy it costs ten times what the database
needs for it. Rows come as the driver gives them; `parsed` turns one into what the columns' types say, so that a caller
who has seen the same row before need not parse it again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Select

from agentcache_service.db import Database

MOST_CONNECTIONS = 10


class QuickRead:
    """A SELECT of at most one row, by named parameters. Safe for threads; keeps connections of its own, at most
    `MOST_CONNECTIONS`, each in autocommit: every call sees what was committed before it."""

    def __init__(self, database: Database, statement: Select[Any]) -> None:
        dialect = database.engine.dialect
        compiled = statement.compile(dialect=dialect)
        self._database = database
        self._sql = str(compiled)
        self._order = compiled.positiontup
        self._processors: list[Callable[[Any], Any] | None] = [
            column.type.dialect_impl(dialect).result_processor(dialect, None) for column in statement.selected_columns
        ]
        self._free: deque[Any] = deque()
        self._turns = threading.Semaphore(MOST_CONNECTIONS)
        self._errors = dialect.loaded_dbapi.OperationalError

    def one(self, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """The raw row, or None; raises the driver's error where the database does not answer."""
        given: Any = parameters if self._order is None else [parameters[name] for name in self._order]
        with self._turns:
            try:
                return self._ask(given)
            except self._errors:
                self.close()  # the server was restarted, perhaps: no old connection is worth another try
                return self._ask(given)

    def _ask(self, given: Any) -> tuple[Any, ...] | None:
        connection = self._free.pop() if self._free else self._database.connect()
        try:
            row: tuple[Any, ...] | None = connection.execute(self._sql, given).fetchone()
        except BaseException:
            connection.close()
            raise
        self._free.append(connection)
        return row

    def parsed(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """The values of a raw row as the types of its columns."""
        return tuple(
            value if process is None else process(value) for value, process in zip(row, self._processors, strict=True)
        )

    def close(self) -> None:
        """Return the connections that are not in use."""
        while self._free:
            self._free.pop().close()

"""The answers of OpenAI batches, kept on disk until the lines that ask for them are read.

A batch's output has another order than its input and only the `custom_id` in common, so one of the two has to be looked
things up in. It is the output, in a temporary SQLite file: memory stays bounded however large the batch.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from agentcache_adapters.cli.lines import BadLine, Line
from agentcache_core.model import MISSING

_EVERY = 1_000


class BatchAnswers:
    """Answers by `custom_id`, in a database of its own at `path`. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;"
            "CREATE TABLE answers (id TEXT PRIMARY KEY, response TEXT, file TEXT, line INTEGER, "
            "asked INTEGER DEFAULT 0)"
        )
        self._count = 0

    def __enter__(self) -> BatchAnswers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def __len__(self) -> int:
        return self._count

    def add(self, custom_id: str, response: Any, line: Line) -> None:
        """Keep one answer: the `response` object of an output line, None for a request that failed."""
        self._database.execute(
            "INSERT OR REPLACE INTO answers (id, response, file, line) VALUES (?, ?, ?, ?)",
            (custom_id, json.dumps(response), line.file, line.number),
        )
        self._count += 1

    def take(self, custom_id: str) -> Any:
        """The answer to one request, MISSING where there is none."""
        found = self._database.execute("SELECT response FROM answers WHERE id = ?", (custom_id,)).fetchone()
        if found is None:
            return MISSING
        self._database.execute("UPDATE answers SET asked = 1 WHERE id = ?", (custom_id,))
        return json.loads(found[0])

    def __contains__(self, custom_id: object) -> bool:
        found = self._database.execute("SELECT 1 FROM answers WHERE id = ?", (str(custom_id),)).fetchone()
        return found is not None

    def unasked(self) -> Iterator[BadLine]:
        """The answers that no line asked for."""
        rows = self._database.execute("SELECT file, line, id FROM answers WHERE NOT asked ORDER BY file, line")
        for file, line, custom_id in rows:
            yield BadLine(file, line, f"answers custom_id {custom_id!r}, for which no file given has the request")


def collect_answers(lines: Iterable[Line | BadLine], answers: BatchAnswers) -> int:
    """Keep all answers among `lines` if the first line that can be read is one: else it is no output file. How many."""
    count = 0
    for line in lines:
        record = None if isinstance(line, BadLine) else _parsed(line.content)
        if record is None:
            continue
        if is_answer(record):
            assert isinstance(line, Line)
            answers.add(str(record["custom_id"]), None if record.get("error") else record.get("response"), line)
            count += 1
        elif not count:
            break
    return count


def is_answer(record: Any) -> bool:
    """Whether this is a line of a batch's output or error file."""
    return isinstance(record, dict) and "custom_id" in record and not ({"body", "request"} & record.keys())


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None

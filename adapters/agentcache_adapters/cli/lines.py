"""A log file as its lines: plain or gzip, one at a time, never more than one line in memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

MAX_LINE = 256 << 20
"""Bytes a line may have; a longer one is told as a bad line and skipped without being kept."""

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be used: where it stands, and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log that is not blank, with its number from 1."""

    file: str
    number: int
    content: bytes

    def bad(self, reason: str) -> BadLine:
        """This line, told as unusable."""
        return BadLine(self.file, self.number, reason)


def read_lines(path: Path, progress: Callable[[int], None] | None = None) -> Iterator[Line | BadLine]:
    """The lines of a file, gzip found by its first bytes. `progress` hears how many bytes of the file were read since.

    A compressed file that breaks off or is damaged ends with a `BadLine`. Raises OSError when it cannot be opened.
    """
    with path.open("rb") as raw:
        compressed = raw.peek(2)[:2] == _GZIP
        lines = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if compressed else raw
        number = 0
        told = 0
        try:
            while content := lines.readline(MAX_LINE + 1):
                number += 1
                if len(content) > MAX_LINE and not content.endswith(b"\n"):
                    _skip_rest(lines)
                    yield BadLine(str(path), number, f"longer than {MAX_LINE >> 20} MiB")
                elif content.strip():
                    yield Line(str(path), number, content)
                if progress is not None:
                    at = raw.tell()
                    progress(at - told)
                    told = at
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield BadLine(str(path), number + 1, f"the compressed file cannot be read beyond this line: {error}")


def _skip_rest(lines: IO[bytes]) -> None:
    while (content := lines.readline(MAX_LINE)) and not content.endswith(b"\n"):
        pass

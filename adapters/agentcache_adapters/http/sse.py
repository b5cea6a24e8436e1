"""Server-sent events, cut out of a byte stream that may be split anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched block: `raw` holds its bytes including the blank line, `data` is empty for comments."""

    raw: bytes
    name: str
    data: str


class EventParser:
    """An incremental reader of `text/event-stream` (WHATWG HTML, section 9.2.6).

    The concatenation of all `raw` fields and of `rest` equals the bytes fed, wherever they were cut.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._line_start = 0
        self._name = ""
        self._data: list[str] = []
        self._at_start = True

    def feed(self, chunk: bytes) -> list[Event]:
        """The events completed by `chunk`, in order."""
        self._buffer += chunk
        events: list[Event] = []
        begin = 0
        for end in _LINE_END.finditer(self._buffer, self._line_start):
            # A carriage return at the very end may be half of a CR LF: wait for the next byte.
            if end.group() == b"\r" and end.end() == len(self._buffer):
                break
            line = bytes(self._buffer[self._line_start : end.start()])
            self._line_start = end.end()
            if self._at_start:
                line = line.removeprefix(_BOM)
                self._at_start = False
            if line:
                self._field(line)
                continue
            events.append(Event(bytes(self._buffer[begin : end.end()]), self._name, "\n".join(self._data)))
            begin, self._name, self._data = end.end(), "", []
        if begin:
            del self._buffer[:begin]
            self._line_start -= begin
        return events

    @property
    def rest(self) -> bytes:
        """Bytes of a block that has not ended yet."""
        return bytes(self._buffer)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
        elif name == b"event":
            self._name = text

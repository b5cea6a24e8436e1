"""The nouns of one exchange, free of any client library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

Headers = tuple[tuple[str, str], ...]


def lowered(pairs: Iterable[tuple[bytes | str, bytes | str]]) -> Headers:
    """Header pairs as text with lower-case names, in their order, repeated ones kept."""
    return tuple((_text(name).lower(), _text(value)) for name, value in pairs)


def raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The pairs as they go over the wire, for client libraries that would take text for ASCII."""
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One outgoing request: method in upper case, absolute URL, lower-case header names, whole body.

    `patience` is how many seconds its sender would wait for the answer to begin, None for ever.
    """

    method: str
    url: str
    headers: Headers
    body: bytes
    patience: float | None = None

    def header(self, name: str) -> str:
        """The first value of header `name`, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")

    def with_body(self, body: bytes) -> HttpCall:
        """The same call with its body, which is read only when it matters."""
        return HttpCall(self.method, self.url, self.headers, body, self.patience)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        return urlsplit(self.url).path


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers of an answer, before its body."""

    status: int
    headers: Headers

    def header(self, name: str) -> str:
        """The first value of header `name`, or an empty string."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def media_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()

"""Requests that say by their type which kind they are, so that kinds never collide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool: everything counts, `user` and the like included, for in a tool's arguments they are meaning.

    `actor` is on whose behalf the tool acts, where its answer depends on that. `version` is the tool's own, raised when
    its answers change. The arguments named in `secret` count, but are never shown by `explain`, `diff` or an error.
    """

    name: str
    arguments: Any = field(default_factory=dict)
    actor: str | None = None
    version: str = ""
    secret: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request: method, URL, the headers that select the answer, and the body, as they are sent.

    Header names are folded to lower case, as HTTP says; nothing else is. `credential` separates the answers of
    different accounts; it counts, and is never shown nor stored.
    """

    method: str
    url: str
    headers: Mapping[str, str] | tuple[tuple[str, str], ...] = ()
    body: Any = b""
    credential: str | bytes | None = field(default=None, repr=False)

    def sorted_headers(self) -> list[tuple[str, str]]:
        """(name in lower case, value), by name; values of a repeated name keep their order."""
        pairs = self.headers.items() if isinstance(self.headers, Mapping) else self.headers
        return sorted(((name.lower(), value) for name, value in pairs), key=lambda pair: pair[0])


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One call of a Python function, by qualified name and version. Types count exactly: `(1, 2)` is not `[1, 2]`."""

    name: str
    version: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """One request for embeddings; `input` is a text or a list of them, `parameters` whatever else is sent."""

    model: str
    input: Any
    provider: str = "generic"
    parameters: Mapping[str, Any] = field(default_factory=dict)


MARKED = (ToolCall, HttpRequest, FunctionCall, EmbeddingRequest)

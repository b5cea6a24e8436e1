"""What a finished answer turned out to be: worth storing or not, and what it used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from agentcache_adapters.http.sse import Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer may be stored. `reason` is empty when it may, else it says in words why not.

    `usage` is the provider's own report of what it counted.
    """

    reason: str = ""
    model: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def storable(self) -> bool:
        return not self.reason


class StreamTracker(Protocol):
    """Follows the events of one stream and knows when it has ended well."""

    @property
    def terminal(self) -> bool:
        """Whether the event that ends this stream has passed."""
        ...

    def feed(self, event: Event) -> None: ...

    def verdict(self) -> Verdict: ...


def parsed(content: str | bytes | bytearray) -> Any:
    """The value of a JSON text; `ValueError` for anything else. Quick for what is common, exact for what is rare."""
    try:
        return orjson.loads(content)
    except ValueError:
        return json.loads(content)  # integers beyond 64 bits, NaN


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""

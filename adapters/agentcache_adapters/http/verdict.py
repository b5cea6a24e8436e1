"""What a finished answer turned out to be: worth storing or not, and what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from agentcache_adapters.http.sse import Event


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider billed them. `input_tokens` holds the cached ones too."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer may be stored. `reason` is empty when it may, else it says in words why not."""

    reason: str = ""
    model: str = ""
    usage: Usage = Usage()

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


def count(usage: object, *path: str) -> int:
    """A token count at `path` of a provider's usage record, 0 where it is missing or not a count."""
    for name in path:
        usage = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(usage, bool) or not isinstance(usage, int | float) or not math.isfinite(usage):
        return 0
    return max(0, int(usage))


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """`value` if it is a JSON array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""

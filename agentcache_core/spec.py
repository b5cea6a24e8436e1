"""What a user says of one tier: where it is, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.errors import ConfigurationError
from agentcache_core.policy.freshness import Duration, seconds_of
from agentcache_core.units import parse_size
from agentcache_core.urls import shown_url


@dataclass(frozen=True, slots=True)
class Tier:
    """One level of storage and its limits, hottest first in `Cache([...])`.

    url_or_backend: where. max_value, min_value: bytes ("64KiB" or a number) of payload that this tier takes; max_age:
    it keeps nothing longer than this ("7d" or seconds). Both hold for what is written, copied here by a read and moved
    here by `maintain()`. What the authority (a single tier is one) does not take is not stored at all: an answer larger
    than its max_value is a `not_stored` event, and it can have no min_value; its max_age is the longest ttl there is.
    write: "through" writes at once, "back" later, "around" never (the tier fills by promotion). promote: whether
    answers found in colder tiers are copied here once they have earned it (`policy/worth.py`). `memory://` takes none
    of these: its URL bounds it.
    """

    url_or_backend: str | Backend | AsyncBackend
    max_value: int | str | None = None
    min_value: int | str | None = None
    max_age: Duration | None = None
    write: Literal["through", "back", "around"] = "through"
    promote: bool = True

    def __post_init__(self) -> None:
        if self.write not in ("through", "back", "around"):
            raise ConfigurationError(f"Tier.write must be 'through', 'back' or 'around', got {self.write!r}")
        bytes_of(self.max_value, "Tier.max_value")
        bytes_of(self.min_value, "Tier.min_value")
        if self.max_age is not None:
            seconds_of(self.max_age, name="Tier.max_age")

    def __repr__(self) -> str:
        """The tier as it was written, without the credentials of its URL."""
        source = self.url_or_backend
        shown = [repr(shown_url(source)) if isinstance(source, str) else f"<{type(source).__name__}>"]
        shown += [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        ]
        return f"Tier({', '.join(shown)})"


def bytes_of(size: int | str | None, name: str) -> int | None:
    """A size in bytes from a number or text like "64KiB"; `ConfigurationError` naming `name` when it is neither."""
    if size is None:
        return None
    if isinstance(size, str):
        return parse_size(size, name)
    if type(size) is not int or size < 0:
        raise ConfigurationError(f"{name} must be a number of bytes of at least 0 or text like '64KiB', got {size!r}")
    return size

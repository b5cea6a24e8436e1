"""How long an answer may be trusted: durations, lifetimes, and the verdict fresh / stale / gone.

The terms are those of HTTP caching (RFC 9111 freshness, RFC 5861 stale-while-revalidate and stale-if-error).
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from datetime import timedelta

from agentcache_core.errors import ConfigurationError
from agentcache_core.model import Freshness

Duration = float | int | str | timedelta
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", re.ASCII)
MAX_SECONDS = 100 * 366 * 86400.0


def seconds_of(duration: Duration, *, name: str = "ttl") -> float:
    """A duration in seconds: a number, a `timedelta`, or text such as "90s", "10m", "1h30m", "2w".

    Raises `ConfigurationError` naming `name` for anything else, for negative and for non-finite durations.
    """
    if isinstance(duration, str):
        seconds = _seconds_of_text(duration, name)
    elif isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise ConfigurationError(f"{name} must be seconds, a timedelta or text like '90s', got {duration!r}")
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigurationError(f"{name} must be a finite number of seconds of at least 0, got {duration!r}")
    return min(seconds, MAX_SECONDS)


def _seconds_of_text(text: str, name: str) -> float:
    total, position = 0.0, 0
    while position < len(text.rstrip()):
        part = _PART.match(text, position)
        if part is None:
            break
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    else:
        if position:
            return total
    raise ConfigurationError(
        f"{name}={text!r} is not a duration; write a number and a unit ({', '.join(_UNITS)}), as in '90s' or '1h30m'"
    )


@dataclass(frozen=True, slots=True)
class Lifetime:
    """What a caller asked for, in seconds: None means for ever. `jitter` is a share of the ttl, 0 to 1, by which it
    is shortened at random so that entries written together do not expire together; `sliding` renews it at each hit;
    `eager` is the last share of the ttl in which a hit triggers a refresh ahead of expiry."""

    ttl: float | None = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    jitter: float = 0.0
    sliding: bool = False
    eager: float = 0.0

    def __post_init__(self) -> None:
        for name in ("jitter", "eager"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0.0 <= share < 1.0:
                raise ConfigurationError(f"{name} is a share of the ttl from 0 to below 1, got {share!r}")

    def stale_at(self, now: float, *, seed: float | None = None) -> float | None:
        """When an answer stored at `now` stops being fresh; None = never. `seed` in [0, 1) draws the jitter."""
        if self.ttl is None:
            return None
        draw = random.random() if seed is None else seed  # noqa: S311 - spreads load, guards no secret
        return now + self.ttl * (1.0 - self.jitter * draw)

    def gone_at(self, stale_at: float | None) -> float | None:
        """When an answer that goes stale at `stale_at` must no longer be kept at all; None = never."""
        if stale_at is None:
            return None
        return stale_at + max(self.stale_while_revalidate, self.stale_if_error)


FOREVER = Lifetime()


def lifetime(
    ttl: Duration | None,
    *,
    stale_while_revalidate: Duration = 0.0,
    stale_if_error: Duration = 0.0,
    jitter: float = 0.0,
    sliding: bool = False,
    eager: float = 0.0,
) -> Lifetime:
    """The `Lifetime` a caller's words mean; raises `ConfigurationError` for a malformed one."""
    return Lifetime(
        None if ttl is None else seconds_of(ttl),
        seconds_of(stale_while_revalidate, name="stale_while_revalidate") if stale_while_revalidate else 0.0,
        seconds_of(stale_if_error, name="stale_if_error") if stale_if_error else 0.0,
        jitter,
        sliding,
        eager,
    )


def freshness(stale_at: float | None, expires_at: float | None, now: float) -> Freshness:
    """The verdict at `now` on an entry that goes stale at `stale_at` and is gone at `expires_at` (None = never)."""
    if expires_at is not None and now >= expires_at:
        return Freshness.GONE
    if stale_at is not None and now >= stale_at:
        return Freshness.STALE
    return Freshness.FRESH


def wants_eager_refresh(created_at: float, stale_at: float | None, *, eager: float, now: float) -> bool:
    """Whether a fresh entry is within the last share `eager` of its ttl, so that a hit should refresh it ahead."""
    if stale_at is None or eager <= 0.0:
        return False
    return now >= stale_at - eager * (stale_at - created_at)

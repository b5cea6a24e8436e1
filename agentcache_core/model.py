"""The nouns of the engine: values that rooms hand to each other."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

T = TypeVar("T")


class Missing(enum.Enum):
    """The type of `MISSING`: absence, as opposed to a cached `None`. Falsy; one object through copy and pickle."""

    MISSING = "MISSING"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING


class Freshness(enum.Enum):
    """How far an entry may still be trusted: fresh (serve), stale (serve only where allowed), gone (never serve)."""

    FRESH = "fresh"
    STALE = "stale"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one computation cost: money in millionths of a US dollar, tokens in counts, time in seconds."""

    usd_micros: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("usd_micros", "input_tokens", "cached_input_tokens", "output_tokens"):
            amount = getattr(self, name)
            if type(amount) is not int or amount < 0:
                raise ValueError(f"Cost.{name} must be an integer of at least 0, got {amount!r}")
        if not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(f"Cost.seconds must be a finite number of at least 0, got {self.seconds!r}")

    def __bool__(self) -> bool:
        return bool(
            self.usd_micros or self.input_tokens or self.cached_input_tokens or self.output_tokens or self.seconds
        )

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.usd_micros + other.usd_micros,
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.output_tokens + other.output_tokens,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What one caller asks of one call. It can narrow what a view does, never widen it.

    no_cache: do not answer from the cache, but store. no_store: do not store. max_age: seconds; do not answer with
    anything older. only_if_cached: never compute (`NotCached`). semantic: False forbids near answers, and that what is
    stored becomes one. refresh: compute and overwrite. sample: index of an independent sample of the same request, part
    of its key.
    """

    no_cache: bool = False
    no_store: bool = False
    max_age: float | None = None
    only_if_cached: bool = False
    semantic: bool | None = None
    refresh: bool = False
    sample: int = 0

    def __post_init__(self) -> None:
        if type(self.sample) is not int or self.sample < 0:
            raise ValueError(f"CacheControl.sample must be an integer of at least 0, got {self.sample!r}")
        if self.max_age is not None and not self.max_age >= 0:
            raise ValueError(f"CacheControl.max_age must be at least 0 seconds, got {self.max_age!r}")


DEFAULT_CONTROL: Final = CacheControl()


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a semantic answer was given or refused: the deciding step, a reason, each guard's verdict, and the lower
    bound of being right where the policy knows one."""

    step: str
    reason: str
    guards: Mapping[str, str] = field(default_factory=dict)
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer from the cache. `age` is seconds since it was stored; `saved` what the avoided computation cost;
    `similarity` and `decision` are set for semantic hits only; `tier` names where it was found; `content_type` is what
    the answer was stored with."""

    value: Any
    how: Literal["exact", "semantic"] = "exact"
    similarity: float | None = None
    age: float = 0.0
    freshness: Freshness = Freshness.FRESH
    tier: str = ""
    saved: Cost = field(default_factory=Cost)
    decision: Decision | None = None
    tags: tuple[str, ...] = ()
    ttl: float | None = None
    content_type: str | None = None
    _report: Any = field(default=None, repr=False, compare=False)

    def report(self, *, correct: bool) -> None:
        """Say whether this answer was right. A wrong semantic answer is never given for that pair again."""
        if self._report is not None:
            self._report(correct)


@dataclass(frozen=True, slots=True)
class Asset:
    """What was stored by `put_asset`: the keyed digest (32 bytes) and size in bytes of the content. `deduplicated`:
    all of it was stored already. `stored` is False where the store did not take it."""

    key: Any
    digest: bytes
    size: int
    content_type: str | None = None
    deduplicated: bool = False
    stored: bool = True


@dataclass(frozen=True, slots=True)
class Computed:
    """A computed answer with what its computation knows about it: whether to store it, its cost, further tags.

    An adapter returns `Computed(value, store=False, reason="truncated")` from its computation; the caller gets `value`.
    """

    value: Any
    store: bool = True
    reason: str = ""
    cost: Cost | None = None
    tags: tuple[str, ...] = ()

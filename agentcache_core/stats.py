"""Figures of a cache: counters that cost next to nothing on a hit, and the report made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentcache_core.model import Cost


class Counters:
    """The raw counts of one namespace in this process. Plain additions: exact under the interpreter lock."""

    __slots__ = (
        "bypasses", "bytes_served", "bytes_stored", "errors", "hits", "invalidations", "joined", "misses", "not_stored",
        "reasons", "refreshes", "saved", "semantic_hits", "stale_hits", "stores",
    )  # fmt: skip

    def __init__(self) -> None:
        self.hits = 0
        self.semantic_hits = 0
        self.stale_hits = 0
        self.misses = 0
        self.stores = 0
        self.not_stored = 0
        self.joined = 0
        self.refreshes = 0
        self.bypasses = 0
        self.errors = 0
        self.invalidations = 0
        self.bytes_stored = 0
        self.bytes_served = 0
        self.saved = Cost()
        self.reasons: dict[str, int] = {}

    def because(self, reason: str) -> None:
        """Count a reason for a bypass or for not storing."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class TierStats:
    """One tier: how many entries and bytes it holds (None where that would need a scan), and how it is doing."""

    name: str
    entries: int | None
    size_bytes: int | None
    hits: int
    errors: int
    evictions: int
    available: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot. Counts are of this process since the cache was opened; `saved` adds up the costs of avoided calls."""

    tenant: str
    namespace: str
    hits: int
    misses: int
    stale_hits: int
    semantic_hits: int
    stores: int
    not_stored: int
    joined: int
    refreshes: int
    bypasses: int
    errors: int
    invalidations: int
    bytes_stored: int
    bytes_served: int
    saved: Cost
    authority: str
    tiers: tuple[TierStats, ...] = ()
    reasons: dict[str, int] = field(default_factory=dict)
    further: dict[str, Any] = field(default_factory=dict)

    @property
    def hit_rate(self) -> float | None:
        """Share of look-ups that were answered, 0 to 1; None before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


def snapshot(
    counters: Counters, *, tenant: str, namespace: str, authority: str, tiers: tuple[TierStats, ...], **further: Any
) -> Stats:
    """The report of one namespace."""
    return Stats(
        tenant,
        namespace,
        counters.hits,
        counters.misses,
        counters.stale_hits,
        counters.semantic_hits,
        counters.stores,
        counters.not_stored,
        counters.joined,
        counters.refreshes,
        counters.bypasses,
        counters.errors,
        counters.invalidations,
        counters.bytes_stored,
        counters.bytes_served,
        counters.saved,
        authority,
        tiers,
        dict(counters.reasons),
        further,
    )

"""Figures of a cache: counters that cost next to nothing on a hit, and the report made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from agentcache_core.ledger import Avoided, Counts, Latency
from agentcache_core.model import Cost
from agentcache_core.savings import Savings, savings_of


class Counters:
    """The raw counts of one namespace in this process. Plain additions: exact under the interpreter lock."""

    __slots__ = (
        "avoided", "blob_bytes_logical", "blob_bytes_stored", "bypasses", "bytes_served", "bytes_stored", "computing",
        "errors", "hits", "invalidations", "joined", "looking", "misses", "not_stored", "reasons", "refreshes",
        "semantic_hits", "stale_hits", "stores",
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
        self.blob_bytes_logical = 0
        self.blob_bytes_stored = 0
        self.avoided = Avoided()
        self.looking = Latency()
        self.computing = Latency()
        self.reasons: dict[str, int] = {}

    def plain(self) -> Counts:
        """All counts as nested mappings of integers, which add up over processes (`agentcache_core.ledger`)."""
        counts: Counts = {name: getattr(self, name) for name in _COUNTED}
        counts["reasons"] = dict(self.reasons)
        counts["avoided"] = self.avoided.plain()
        counts["looking"] = self.looking.plain()
        counts["computing"] = self.computing.plain()
        return counts

    def blob_placed(self, size: int, *, existed: bool) -> None:
        """Count a payload of `size` bytes that was stored as a blob, or found to be there already."""
        self.blob_bytes_logical += size
        if not existed:
            self.blob_bytes_stored += size

    def because(self, reason: str) -> None:
        """Count a reason for a bypass or for not storing."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


_COUNTED = tuple(name for name in Counters.__slots__ if name not in ("avoided", "looking", "computing", "reasons"))


@dataclass(frozen=True, slots=True)
class Dedup:
    """What storing equal content once saved: bytes asked to be stored as blobs, bytes that had to be."""

    logical: int
    stored: int

    @property
    def ratio(self) -> float:
        """Logical through stored bytes; 1.0 when nothing was saved, or nothing stored yet."""
        return self.logical / self.stored if self.stored else 1.0


@dataclass(frozen=True, slots=True)
class TierStats:
    """One tier: how many entries and bytes it holds (None where that would need a scan), and how it is doing.

    `available` says whether its last request went well. `breaker` is "open" while it is given a rest after failures in
    a row (nothing is asked of it, but for a try now and then), else "closed".
    """

    name: str
    entries: int | None
    size_bytes: int | None
    hits: int
    errors: int
    evictions: int
    available: bool
    breaker: Literal["closed", "open"] = "closed"


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot. Counts are of this process since the cache was opened; `saved` adds up the costs of avoided calls,
    `savings` tells them apart by model and tag. `cache.savings()` adds up all processes and restarts."""

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
    savings: Savings
    authority: str
    tiers: tuple[TierStats, ...] = ()
    dedup: Dedup = Dedup(0, 0)
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
    savings = savings_of(namespace, counters.plain())
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
        savings.total.cost,
        savings,
        authority,
        tiers,
        Dedup(counters.blob_bytes_logical, counters.blob_bytes_stored),
        dict(counters.reasons),
        further,
    )

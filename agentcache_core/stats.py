"""Figures of a cache: counters that cost next to nothing on a hit, and the report made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from agentcache_core.ledger import Avoided, Counts, Latency
from agentcache_core.model import Cost
from agentcache_core.savings import Savings, savings_of


class Counters:
    """The raw counts of one namespace in this process. Plain additions: exact under the interpreter lock."""

    __slots__ = (
        "avoided", "blob_bytes_logical", "blob_bytes_stored", "bypasses", "bytes_served", "bytes_stored", "computing",
        "errors", "hits", "invalidations", "joined", "looking", "misses", "not_stored", "on_tiers", "reasons",
        "refreshes", "semantic_hits", "stale_hits", "stores",
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
        self.on_tiers: dict[str, list[int]] = {}

    def on_tier(self, name: str) -> list[int]:
        """The hits and the errors on one stored tier."""
        return self.on_tiers.get(name) or self.on_tiers.setdefault(name, [0, 0])

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


_NESTED = ("avoided", "looking", "computing", "reasons", "on_tiers")
_COUNTED = tuple(name for name in Counters.__slots__ if name not in _NESTED)


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

    A view of one tenant is told of what is its own: its entries in memory, its hits and errors; of what all tenants
    have in common, such as bytes and evictions, nothing (None).
    """

    name: str
    entries: int | None
    size_bytes: int | None
    hits: int
    errors: int
    evictions: int | None
    available: bool
    breaker: Literal["closed", "open"] = "closed"


def tier_stats(near: Any, stored: Iterable[Any], spaces: Iterable[Any], *, tenant: str | None) -> tuple[TierStats, ...]:
    """How the tiers of a cache are doing: all there is to tell (None), or what concerns one tenant.

    `near` is the memory tier or None, `stored` the others, `spaces` what this process has met of every tenant.
    """
    if tenant is None:
        memory = (
            [] if near is None else [TierStats(near.name, near.entries, near.size_bytes, 0, 0, near.evictions, True)]
        )
        told = (TierStats(t.name, None, None, t.hits, t.errors, 0, t.available, _breaker(t)) for t in stored)
        return (*memory, *told)
    mine = [space for space in spaces if space.tenant == tenant]
    listed = []
    if near is not None:
        entries = sum(len(home) for space in mine for _, home in near.homes(tenant, space.namespace))
        listed.append(TierStats(near.name, entries, None, 0, 0, None, True))
    for tier in stored:
        counts = [space.counters.on_tier(tier.name) for space in mine]
        hits, errors = (sum(count[at] for count in counts) for at in (0, 1))
        listed.append(TierStats(tier.name, None, None, hits, errors, None, tier.available, _breaker(tier)))
    return tuple(listed)


def _breaker(tier: Any) -> Literal["closed", "open"]:
    return "open" if tier.circuit.is_open else "closed"


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

"""The report of what a cache saved: by namespace, by tag and by model, with the formula behind the money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from agentcache_core.ledger import cost_in, percentile
from agentcache_core.model import Cost


@dataclass(frozen=True, slots=True)
class Saving:
    """What a number of hits avoided: the sum of what their answers had cost when they were computed."""

    hits: int = 0
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long something took, in seconds, each rounded up to at most 19 % more than it was."""

    count: int
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Savings:
    """One namespace, or a sum of them.

    `by_model` is keyed `provider/model`, `by_tag` by tag; a hit with two tags counts under both, so tags do not add up
    to the total. `unpriced` are models that used tokens and have no price: they count as no money. `looking` is the
    time look-ups took that left the process's memory, `computing` the time the answers took that were not there.
    """

    namespace: str
    hits: int
    misses: int
    bypasses: int
    reasons: Mapping[str, int]
    total: Saving
    by_model: Mapping[str, Saving]
    by_tag: Mapping[str, Saving]
    unpriced: tuple[str, ...]
    looking: Percentiles | None
    computing: Percentiles | None

    @property
    def hit_rate(self) -> float | None:
        """Share of look-ups that were answered, 0 to 1; None before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """All namespaces of a tenant since the first record of them, over every process and restart."""

    tenant: str
    namespaces: tuple[Savings, ...]
    total: Savings
    formula: str
    prices_as_of: str

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)


def savings_of(namespace: str, plain: Mapping[str, Any]) -> Savings:
    """The report of one ledger in its plain form (`Counters.plain`, or a sum of several)."""
    avoided = plain.get("avoided", {})
    by_model = _named(avoided.get("by_model", {}))
    return Savings(
        namespace,
        plain.get("hits", 0),
        plain.get("misses", 0),
        plain.get("bypasses", 0),
        dict(plain.get("reasons", {})),
        _saving(avoided.get("total", {})),
        by_model,
        _named(avoided.get("by_tag", {})),
        tuple(sorted(name for name, saving in by_model.items() if _unpriced(name, saving))),
        _percentiles(plain.get("looking", {})),
        _percentiles(plain.get("computing", {})),
    )


def _saving(tally: Mapping[str, Any]) -> Saving:
    return Saving(tally.get("hits", 0), cost_in(tally))


def _named(tallies: Mapping[str, Any]) -> dict[str, Saving]:
    """The largest savings first."""
    found = {name: _saving(tally) for name, tally in tallies.items()}
    return dict(sorted(found.items(), key=lambda row: (-row[1].cost.usd_micros, -row[1].hits, row[0])))


def _unpriced(name: str, saving: Saving) -> bool:
    if saving.cost.usd_micros or not (saving.cost.input_tokens or saving.cost.output_tokens):
        return False
    from agentcache_core.pricing import book_in_force

    provider, _, model = name.partition("/")
    return book_in_force().price(provider, model) is None


def _percentiles(histogram: Mapping[str, Any]) -> Percentiles | None:
    count = sum(histogram.values())
    if not count:
        return None
    p50, p90, p99 = (percentile(histogram, share) or 0.0 for share in (0.5, 0.9, 0.99))
    return Percentiles(count, p50, p90, p99)

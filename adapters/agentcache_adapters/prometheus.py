"""Prometheus: a cache's figures as metrics: `exporter = PrometheusExporter(cache)`.

A collector, asked when Prometheus scrapes: nothing is added to a hit. Figures are those of this process.

| metric | labels |
|---|---|
| `agentcache_lookups_total` | namespace, outcome: hit, miss, bypass |
| `agentcache_not_answered_total` | namespace, reason (bypassed or not stored) |
| `agentcache_stores_total`, `…_errors_total`, `…_joined_total`, `…_invalidations_total` | namespace |
| `agentcache_served_bytes_total`, `agentcache_stored_bytes_total` | namespace |
| `agentcache_saved_usd_total`, `agentcache_saved_seconds_total`, `agentcache_saved_tokens_total` | namespace, model |
| `agentcache_lookup_seconds`, `agentcache_compute_seconds` | namespace; quantiles 0.5, 0.9, 0.99 |
| `agentcache_tier_entries`, `agentcache_tier_bytes`, `agentcache_tier_available` | tier |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from agentcache_core import AsyncCache, Cache
from agentcache_core.savings import Percentiles, Saving
from agentcache_core.stats import Stats

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
except ImportError as error:
    raise ImportError("this adapter needs prometheus-client: pip install 'agentcache[prometheus]'") from error

_OTHER = "(other)"
_COUNTERS = {
    "stores": "answers stored",
    "errors": "failures of storage, none of which reached a caller",
    "joined": "callers that waited for another's computation",
    "invalidations": "invalidations asked for",
}


class PrometheusExporter:
    """A collector of the figures of one cache and of the further `views` of it that are named.

    At most `max_names` reasons and models are told apart, the rest counted as `(other)`. `close()` takes it out of
    the registry.
    """

    def __init__(
        self,
        cache: Cache | AsyncCache,
        *,
        views: Sequence[Cache | AsyncCache] = (),
        registry: CollectorRegistry = REGISTRY,
        max_names: int = 50,
    ) -> None:
        self._views = (cache, *views)
        self._registry = registry
        self._max_names = max_names
        registry.register(self)

    def close(self) -> None:
        """End the export."""
        self._registry.unregister(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand now."""
        stats = [view.stats() for view in self._views]
        yield self._lookups(stats)
        yield self._reasons(stats)
        for name, text in _COUNTERS.items():
            yield _counter(f"agentcache_{name}", text, ((one.namespace, getattr(one, name)) for one in stats))
        for kind in ("served", "stored"):
            values = ((one.namespace, getattr(one, f"bytes_{kind}")) for one in stats)
            yield _counter(f"agentcache_{kind}_bytes", f"bytes of answers {kind}", values)
        yield from self._saved(stats)
        for name, field, text in (
            ("lookup", "looking", "time of look-ups that left the process's memory"),
            ("compute", "computing", "time that computing missed answers took"),
        ):
            yield _quantiles(f"agentcache_{name}_seconds", text, ((one.namespace, one.savings, field) for one in stats))
        yield from _tiers(stats[0])

    def _lookups(self, stats: Iterable[Stats]) -> Metric:
        family = CounterMetricFamily("agentcache_lookups", "requests by what became of them", labels=_LOOKUP_LABELS)
        for one in stats:
            for outcome, count in (("hit", one.hits), ("miss", one.misses), ("bypass", one.bypasses)):
                family.add_metric([one.namespace, outcome], count)
        return family

    def _reasons(self, stats: Iterable[Stats]) -> Metric:
        labels = ["namespace", "reason"]
        family = CounterMetricFamily(
            "agentcache_not_answered", "requests bypassed or not stored, by reason", labels=labels
        )
        for one in stats:
            for reason, count in self._bounded(one.reasons.items()):
                family.add_metric([one.namespace, reason], count)
        return family

    def _saved(self, stats: Sequence[Stats]) -> Iterator[Metric]:
        units: tuple[tuple[str, str, Callable[[Saving], float]], ...] = (
            ("usd", "dollars that hits did not cost, at list prices", lambda s: s.cost.usd_micros / 1e6),
            ("seconds", "seconds that hits did not take", lambda s: s.cost.seconds),
            ("tokens", "tokens that hits did not use", lambda s: s.cost.input_tokens + s.cost.output_tokens),
        )
        for unit, text, amount in units:
            family = CounterMetricFamily(f"agentcache_saved_{unit}", text, labels=["namespace", "model"])
            for one in stats:
                named = ((model, amount(saving)) for model, saving in one.savings.by_model.items())
                for model, value in self._bounded(named):
                    family.add_metric([one.namespace, model], value)
                family.add_metric([one.namespace, ""], max(0.0, amount(one.savings.total) - _sum(one, amount)))
            yield family

    def _bounded(self, named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        listed = sorted(named, key=lambda pair: -pair[1])
        yield from listed[: self._max_names]
        if len(listed) > self._max_names:
            yield _OTHER, sum(value for _, value in listed[self._max_names :])


_LOOKUP_LABELS = ["namespace", "outcome"]


def _sum(one: Stats, amount: Any) -> float:
    return float(sum(amount(saving) for saving in one.savings.by_model.values()))


def _counter(name: str, text: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["namespace"])
    for namespace, value in values:
        family.add_metric([namespace], value)
    return family


def _quantiles(name: str, text: str, values: Iterable[tuple[str, Any, str]]) -> Metric:
    family = SummaryMetricFamily(name, text, labels=["namespace"])
    for namespace, savings, field in values:
        told: Percentiles | None = getattr(savings, field)
        if told is None:
            continue
        add: Any = family.add_sample  # the library gives it no types
        for quantile, seconds in (("0.5", told.p50), ("0.9", told.p90), ("0.99", told.p99)):
            add(name, {"namespace": namespace, "quantile": quantile}, seconds)
        add(f"{name}_count", {"namespace": namespace}, told.count)
    return family


def _tiers(one: Stats) -> Iterator[Metric]:
    entries = GaugeMetricFamily("agentcache_tier_entries", "entries in a tier, where it knows", labels=["tier"])
    size = GaugeMetricFamily("agentcache_tier_bytes", "bytes in a tier, where it knows", labels=["tier"])
    available = GaugeMetricFamily("agentcache_tier_available", "1 while a tier answers", labels=["tier"])
    for tier in one.tiers:
        if tier.entries is not None:
            entries.add_metric([tier.name], tier.entries)
        if tier.size_bytes is not None:
            size.add_metric([tier.name], tier.size_bytes)
        available.add_metric([tier.name], float(tier.available))
    yield from (entries, size, available)

"""The Prometheus exporter: what a scrape reads is what `stats()` says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from agentcache_adapters.prometheus import PrometheusExporter
from agentcache_core import Cache, Computed, Cost


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(f"sqlite:///{tmp_path / 'agent.db'}", namespace="desk") as cache:
        for _ in range(3):
            cache.get_or_compute(
                {"provider": "openai", "model": "gpt-5", "messages": []},
                lambda: Computed("x", cost=Cost(2_000_000, 100, 0, 10, 3.0)),
                meta={"provider": "openai", "model": "gpt-5"},
            )
        cache.bypassed("server-side state")
        yield cache


def test_a_scrape_tells_what_stats_tells(cache: Cache) -> None:
    registry = CollectorRegistry()
    exporter = PrometheusExporter(cache, views=[cache.namespace("other")], registry=registry)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"namespace": "desk", **labels})

    assert value("agentcache_lookups_total", outcome="hit") == 2
    assert value("agentcache_lookups_total", outcome="miss") == 1
    assert value("agentcache_lookups_total", outcome="bypass") == 1
    assert value("agentcache_not_answered_total", reason="server-side state") == 1
    assert value("agentcache_stores_total") == 1
    assert value("agentcache_saved_usd_total", model="openai/gpt-5") == 4.0
    assert value("agentcache_saved_seconds_total", model="openai/gpt-5") == 6.0
    assert value("agentcache_saved_tokens_total", model="openai/gpt-5") == 220
    assert value("agentcache_compute_seconds_count") == 1
    assert (value("agentcache_lookup_seconds", quantile="0.5") or 0) > 0
    assert registry.get_sample_value("agentcache_lookups_total", {"namespace": "other", "outcome": "hit"}) == 0
    assert b"agentcache_tier_available" in generate_latest(registry)
    exporter.close()
    assert generate_latest(registry) == b""


def test_many_reasons_are_bounded(cache: Cache) -> None:
    registry = CollectorRegistry()
    PrometheusExporter(cache, registry=registry, max_names=3)
    for n in range(10):
        cache.bypassed(f"reason {n}")
    names = [
        sample.labels["reason"]
        for metric in registry.collect()
        if metric.name == "agentcache_not_answered"
        for sample in metric.samples
    ]
    assert len(names) == 4
    assert "(other)" in names

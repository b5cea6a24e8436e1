"""The OpenTelemetry listener: metrics and span events, with nothing secret in them."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentcache_adapters.opentelemetry import instrument
from agentcache_core import Cache, Computed, Cost

REQUEST = {"provider": "openai", "model": "gpt-5", "messages": [{"role": "user", "content": "a private question"}]}


def ask(cache: Cache) -> None:
    cache.get_or_compute(
        REQUEST,
        lambda: Computed("a private answer", cost=Cost(1_500_000, 100, 0, 10, 2.0)),
        meta={"provider": "openai", "model": "gpt-5"},
        tags=["customer:ada"],
    )


def points(reader: InMemoryMetricReader) -> dict[tuple[str, str], Any]:
    """Metric name and outcome or token type -> (value, attributes)."""
    found = {}
    told = reader.get_metrics_data()
    assert told is not None
    for metric in told.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            attributes = dict(point.attributes)
            which = attributes.get("agentcache.outcome") or attributes.get("gen_ai.token.type") or ""
            found[metric.name, which] = (point.value, attributes)
    return found


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


def test_hits_misses_and_savings_become_metrics(reader: InMemoryMetricReader) -> None:
    provider = MeterProvider([reader])
    with Cache(namespace="desk") as cache:
        listening = instrument(cache, meter_provider=provider)
        for _ in range(3):
            ask(cache)
        cache.bypassed("server-side state", kind="http")
        listening.close()
        ask(cache)
    found = points(reader)
    assert found["agentcache.lookups", "hit"][0] == 2
    assert found["agentcache.lookups", "miss"][0] == 1
    assert found["agentcache.lookups", "bypass"][0] == 1
    assert found["agentcache.saved.cost", ""][0] == 3.0
    assert found["agentcache.saved.duration", ""][0] == 4.0
    assert found["agentcache.saved.tokens", "input"][0] == 200
    attributes = found["agentcache.lookups", "hit"][1]
    assert attributes["gen_ai.request.model"] == "gpt-5"
    assert attributes["gen_ai.provider.name"] == "openai"
    assert attributes["agentcache.namespace"] == "desk"
    provider.shutdown()


def test_what_happened_is_told_on_the_current_span(reader: InMemoryMetricReader) -> None:
    exporter = InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    provider = MeterProvider([reader])
    with Cache() as cache:
        instrument(cache, meter_provider=provider)
        with traces.get_tracer("test").start_as_current_span("a run"):
            ask(cache)
            ask(cache)
    (span,) = exporter.get_finished_spans()
    events = {event.name: dict(event.attributes or {}) for event in span.events}
    assert set(events) == {"agentcache.miss", "agentcache.hit"}
    assert events["agentcache.hit"]["gen_ai.usage.input_tokens"] == 100
    assert events["agentcache.hit"]["agentcache.saved.usd"] == 1.5
    told = repr(events)
    for private in ("question", "answer", "ada"):
        assert private not in told
    provider.shutdown()

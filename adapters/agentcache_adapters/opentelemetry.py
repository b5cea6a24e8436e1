"""OpenTelemetry: what a cache does, as metrics and as events of the current span: `instrument(cache)`.

Attributes follow the generative-AI conventions where they have a word for it (`gen_ai.provider.name`,
`gen_ai.request.model`, `gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`); others are named `agentcache.…`.
No request, answer, key, tag or tenant leaves the process.

Listening costs hits their short cut (some microseconds each): what is measured at every hit cannot be free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentcache_core import AsyncCache, Cache, Cost
from agentcache_core.events import Event

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError("this adapter needs OpenTelemetry: pip install 'agentcache[opentelemetry]'") from error

SCOPE = "agentcache"
_OUTCOMES = {"hit": "hit", "miss": "miss", "bypass": "bypass", "joined": "joined"}
_TOLD_ON_SPANS = frozenset(
    {
        "hit",
        "miss",
        "bypass",
        "joined",
        "not_stored",
        "stale_served",
        "semantic",
        "backend_error",
        "corrupt",
        "unstorable",
    }
)


class Instrumentation:
    """A listener of one cache that feeds OpenTelemetry. `close()` ends it."""

    def __init__(self, cache: Cache | AsyncCache, *, meter: metrics.Meter, spans: bool) -> None:
        self._spans = spans
        self._lookups = meter.create_counter("agentcache.lookups", "{lookup}", "Requests by what became of them")
        self._stores = meter.create_counter("agentcache.stores", "{answer}", "Answers stored")
        self._trouble = meter.create_counter("agentcache.trouble", "{event}", "Trouble with storage, told and survived")
        self._saved_usd = meter.create_counter("agentcache.saved.cost", "{USD}", "Dollars that hits did not cost")
        self._saved_seconds = meter.create_counter("agentcache.saved.duration", "s", "Seconds that hits did not take")
        self._saved_tokens = meter.create_counter("agentcache.saved.tokens", "{token}", "Tokens that hits did not use")
        self._unsubscribe: Callable[[], None] = cache.events.subscribe(self._on)

    def close(self) -> None:
        """End the instrumentation."""
        self._unsubscribe()

    def _on(self, event: Event) -> None:
        attributes = _attributes(event)
        outcome = _OUTCOMES.get(event.name)
        if outcome is not None:
            self._lookups.add(1, {**attributes, "agentcache.outcome": outcome})
        elif event.name == "store":
            self._stores.add(1, attributes)
        elif event.name in ("backend_error", "corrupt", "pending", "gap", "dropped"):
            self._trouble.add(1, {**attributes, "agentcache.event": event.name})
        cost = event.detail.get("cost")
        if event.name == "hit" and isinstance(cost, Cost):
            self._save(cost, attributes)
        if self._spans and event.name in _TOLD_ON_SPANS:
            self._tell_span(event, attributes, cost)

    def _save(self, cost: Cost, attributes: Mapping[str, Any]) -> None:
        self._saved_usd.add(cost.usd_micros / 1e6, attributes)
        self._saved_seconds.add(cost.seconds, attributes)
        self._saved_tokens.add(cost.input_tokens, {**attributes, "gen_ai.token.type": "input"})
        self._saved_tokens.add(cost.output_tokens, {**attributes, "gen_ai.token.type": "output"})

    def _tell_span(self, event: Event, attributes: dict[str, Any], cost: object) -> None:
        span = trace.get_current_span()
        if not span.is_recording():
            return
        told = dict(attributes)
        if event.reason:
            told["agentcache.reason"] = event.reason
        if isinstance(cost, Cost):
            told["gen_ai.usage.input_tokens"] = cost.input_tokens
            told["gen_ai.usage.output_tokens"] = cost.output_tokens
            told["agentcache.saved.usd"] = cost.usd_micros / 1e6
            told["agentcache.saved.seconds"] = cost.seconds
        span.add_event(f"agentcache.{event.name}", told)


def instrument(
    cache: Cache | AsyncCache,
    *,
    meter_provider: metrics.MeterProvider | None = None,
    spans: bool = True,
) -> Instrumentation:
    """Feed OpenTelemetry with what `cache` and its views do: metrics, and with `spans` events of the current span."""
    return Instrumentation(cache, meter=metrics.get_meter(SCOPE, meter_provider=meter_provider), spans=spans)


def _attributes(event: Event) -> dict[str, Any]:
    attributes: dict[str, Any] = {"agentcache.namespace": event.namespace, "agentcache.kind": event.kind}
    if event.tier:
        attributes["agentcache.tier"] = event.tier
    for name, attribute in (("provider", "gen_ai.provider.name"), ("model", "gen_ai.request.model")):
        value = event.detail.get(name)
        if isinstance(value, str):
            attributes[attribute] = value
    return attributes

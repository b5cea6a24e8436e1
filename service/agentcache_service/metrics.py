"""Prometheus figures of one process. Labels are route templates and outcomes, never keys, users or addresses."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The figures and their registry; each app has its own, so two apps in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "agentcache_http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "agentcache_http_seconds", "Time to answer.", ["method", "route"], buckets=_BUCKETS, registry=self.registry
        )
        self.cache = Counter(
            "agentcache_cache_calls", "Cache API calls.", ["operation", "outcome"], registry=self.registry
        )
        self.jobs = Counter("agentcache_jobs", "Background jobs done.", ["kind", "outcome"], registry=self.registry)
        self.queued = Gauge("agentcache_jobs_queued", "Background jobs waiting.", registry=self.registry)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

"""Prometheus figures. Labels are route templates and outcomes, never keys, users or addresses.

One server process keeps them in memory. Several (`serve` with workers) keep them in files of a folder of their own,
named by `PROMETHEUS_MULTIPROC_DIR`, so that whichever process is scraped answers for all of them, the ones that died
included. Each machine is scraped by itself.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder; read by prometheus_client when it is imported."""
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Others are counted together: a caller must not be able to make up labels."""
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
        self.queued = Gauge(
            "agentcache_jobs_queued",
            "Background jobs that are due.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )

        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._called: dict[tuple[str, str], Counter] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer and the time it took."""
        method = method if method in _METHODS else "OTHER"
        found = self._answered.get((method, route, status))
        if found is None:  # looking labels up takes longer than counting, so what they lead to is kept
            found = self.requests.labels(method, route, str(status)), self.seconds.labels(method, route)
            self._answered[method, route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def called(self, operation: str, outcome: str) -> None:
        """Count one call of the cache API."""
        found = self._called.get((operation, outcome))
        if found is None:
            found = self._called[operation, outcome] = self.cache.labels(operation, outcome)
        found.inc()

    def render(self) -> bytes:
        """The text exposition format: of this process, or of all that share its folder."""
        if not os.environ.get(SHARED_FOLDER):
            return generate_latest(self.registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]  # prometheus_client leaves it unannotated
        return generate_latest(everybody)

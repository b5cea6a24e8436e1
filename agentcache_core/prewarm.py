"""Prewarming: asking a list of requests ahead of time, so that those who ask later find the answers stored.

Requests that are stored already are left alone, so a run that was stopped goes on where it ended when it is started
again. One failure is reported and does not stop the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentcache_core.errors import ConfigurationError
from agentcache_core.model import Computed, Cost
from agentcache_core.runtime import ASYNC, BLOCKING, drive, spread, spread_async

Outcome = Literal["computed", "already", "not_stored", "failed"]
MAX_FAILURES = 100


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that could not be prewarmed: its position among the requests, from 0, and what went wrong."""

    position: int
    error: str


@dataclass(frozen=True, slots=True)
class PrewarmReport:
    """What a prewarming run did. `not_stored` counts answers that were computed and refused (see the events);
    `failures` lists the first `MAX_FAILURES` of the failed; `cost` adds up what was computed, where it is known."""

    total: int = 0
    computed: int = 0
    already: int = 0
    not_stored: int = 0
    failed: int = 0
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    failures: tuple[Failure, ...] = ()

    def after(self, outcome: Outcome, cost: Cost | None, failure: Failure | None) -> PrewarmReport:
        """The report with one more request in it."""
        counted = {"total": self.total + 1, outcome: getattr(self, outcome) + 1}
        more = self.failures
        if failure is not None and len(more) < MAX_FAILURES:
            more = (*more, failure)
        return replace(self, **counted, cost=self.cost + (cost or Cost()), failures=more)


class Pace:
    """At most `rate` starts a second, evenly spaced: `delay(now)` takes the next start and answers the seconds to wait
    for it. `now` is monotonic seconds; None is no limit."""

    def __init__(self, rate: float | None) -> None:
        if rate is not None and not rate > 0:
            raise ConfigurationError(f"rate is a number of requests a second above 0, got {rate!r}")
        self._interval = None if rate is None else 1.0 / rate
        self._next = float("-inf")
        self._lock = threading.Lock()

    def delay(self, now: float) -> float:
        if self._interval is None:
            return 0.0
        with self._lock:
            start = max(now, self._next)
            self._next = start + self._interval
        return start - now


Progress = Callable[[PrewarmReport], object]


class Prewarming:
    """One run over a cache, of whichever face: counts outcomes from any thread and tells progress."""

    def __init__(self, *, concurrency: int, rate: float | None, progress: Progress | None) -> None:
        if type(concurrency) is not int or concurrency < 1:
            raise ConfigurationError(f"concurrency is a number of requests at once of at least 1, got {concurrency!r}")
        self.concurrency = concurrency
        self.pace = Pace(rate)
        self.report = PrewarmReport()
        self._progress = progress
        self._lock = threading.Lock()

    def done(self, outcome: Outcome, *, cost: Cost | None = None, failure: Failure | None = None) -> None:
        """Count one request."""
        with self._lock:
            self.report = report = self.report.after(outcome, cost, failure)
        if self._progress is not None:
            self._progress(report)

    def failed(self, position: int, error: Exception) -> None:
        """Count one request that raised."""
        self.done("failed", failure=Failure(position, f"{type(error).__name__}: {error}"))

    def settled(self, ran: list[Any], stored: bool) -> None:
        """Count one request that was answered: `ran` holds what the computation gave, if it ran at all."""
        if not ran:
            self.done("already")
            return
        answer = ran[0]
        cost = answer.cost if isinstance(answer, Computed) else None
        self.done("computed" if stored else "not_stored", cost=cost)

    def finished(self, seconds: float) -> PrewarmReport:
        """The report of the whole run."""
        return replace(self.report, seconds=seconds)


def prewarm(
    cache: Any,
    requests: Iterable[Any],
    compute: Callable[[Any], Any],
    *,
    concurrency: int,
    rate: float | None,
    progress: Progress | None,
    options: dict[str, Any],
) -> PrewarmReport:
    """Prewarm a blocking cache; see `Cache.prewarm`."""
    run = Prewarming(concurrency=concurrency, rate=rate, progress=progress)
    monotonic = cache.clock.monotonic
    began = monotonic()

    def one(item: tuple[int, Any]) -> None:
        position, request = item
        try:
            if cache.lookup(request) is not None:
                run.settled([], stored=True)
                return
            drive(BLOCKING.sleep(run.pace.delay(monotonic())))
            ran: list[Any] = []
            cache.get_or_compute(request, lambda: _kept(ran, compute(request)), **options)
            run.settled(ran, stored=not ran or cache.lookup(request) is not None)
        except Exception as error:  # noqa: BLE001 - one failure is reported and does not stop the rest
            run.failed(position, error)

    spread(enumerate(requests), one, concurrency=concurrency)
    return run.finished(monotonic() - began)


async def prewarm_async(
    cache: Any,
    requests: Iterable[Any],
    compute: Callable[[Any], Any],
    *,
    concurrency: int,
    rate: float | None,
    progress: Progress | None,
    options: dict[str, Any],
) -> PrewarmReport:
    """Prewarm an async cache; see `Cache.prewarm`."""
    run = Prewarming(concurrency=concurrency, rate=rate, progress=progress)
    monotonic = cache.clock.monotonic
    began = monotonic()

    async def one(item: tuple[int, Any]) -> None:
        position, request = item
        try:
            if await cache.lookup(request) is not None:
                run.settled([], stored=True)
                return
            await ASYNC.sleep(run.pace.delay(monotonic()))
            ran: list[Any] = []

            async def computed() -> Any:
                return _kept(ran, await ASYNC.call(lambda: compute(request)))

            await cache.get_or_compute(request, computed, **options)
            run.settled(ran, stored=not ran or await cache.lookup(request) is not None)
        except Exception as error:  # noqa: BLE001 - one failure is reported and does not stop the rest
            run.failed(position, error)

    await spread_async(enumerate(requests), one, concurrency=concurrency)
    return run.finished(monotonic() - began)


def _kept(ran: list[Any], answer: Any) -> Any:
    ran.append(answer)
    return answer

"""What does an agent feel when its shared store is stopped, killed, frozen, full, refused, cut off or emptied?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agentcache_core import MISSING, Cache
from agentcache_core.clock import ManualClock
from agentcache_core.policy.breaker import LONGEST_REST
from agentcache_core.testing.servers import RedisServer, S3Server
from benchmarks.harness import Report, Row, Settings
from benchmarks.load._faults import S3Proxy, SlowlyLoading, cutting_proxy

DEADLINE = 0.25
UNHURRIED = 1.0  # of the small run, which asks whether calls fail and stores recover, on however busy a machine
_deadline = [DEADLINE]
CALLS = 12
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault as the agent felt it. Latencies in seconds, beyond the computation itself."""

    fault: str
    calls: int
    failed: int
    slowest: float
    rest: float
    recovered: bool


def suffer(fault: str, url: str, begin: Callable[[], object], end: Callable[[], object]) -> Outcome:
    """Ask a cache on `url` before, during and after a fault. The breaker's rest is passed over by the clock."""
    clock = ManualClock()
    failed, latencies = 0, []
    with Cache(url, clock=clock, deadline=_deadline[0], maintenance="manual") as cache:
        _warm(cache, clock)
        begin()
        try:
            for number in range(CALLS):
                before = time.perf_counter()
                try:
                    answer = cache.get_or_compute("known" if number % 2 else f"new{number}", lambda: "before")
                    failed += answer != "before"
                except Exception:  # noqa: BLE001 - exactly this is counted
                    failed += 1
                latencies.append(time.perf_counter() - before)
        finally:
            end()
        clock.advance(LONGEST_REST)
        recovered = False
        for _ in range(50):
            if cache.set("after", fault) and cache.get("after") == fault and cache.get("outdated") is MISSING:
                recovered = True
                break
            clock.advance(LONGEST_REST)
            time.sleep(0.1)
    latencies.sort()
    return Outcome(fault, CALLS, failed, latencies[-1], latencies[len(latencies) // 2], recovered)


def _warm(cache: Cache, clock: ManualClock) -> None:
    """Store what the agent will know, and invalidate something; a first connection may outlast a deadline."""
    for _ in range(20):
        stored = cache.set("known", "before", tags=["t"]) and cache.set("outdated", "x", tags=["old"])
        cache.invalidate(tag="old")
        if stored and cache.get("known") == "before" and not cache.stats().further["pending_invalidations"]:
            return
        clock.advance(LONGEST_REST)


def redis_faults() -> Iterator[Outcome]:
    """Everything a Redis can do to its clients, on servers of this run's own."""
    with RedisServer() as server:
        yield suffer("Redis stopped", server.url, lambda: server.ask("SHUTDOWN", "NOSAVE"), server.start)
    with RedisServer() as server:
        yield suffer("Redis killed", server.url, server.kill, server.start)
        yield suffer("Redis frozen", server.url, server.freeze, server.thaw)
        yield suffer(
            "Redis out of memory",
            server.url,
            lambda: server.ask("CONFIG", "SET", "maxmemory", "1"),
            lambda: server.ask("CONFIG", "SET", "maxmemory", "0"),
        )
        yield suffer(
            "Redis read-only",
            server.url,
            lambda: server.ask("REPLICAOF", "127.0.0.1", "1"),
            lambda: server.ask("REPLICAOF", "NO", "ONE"),
        )
        yield suffer("Redis emptied (FLUSHALL)", server.url, lambda: server.ask("FLUSHALL"), lambda: None)

        with RedisServer("--requirepass", "right") as locked:
            yield suffer(
                "Redis wrong password", f"redis://:wrong@127.0.0.1:{locked.port}/0", lambda: None, lambda: None
            )
        cut: list[int | None] = [None]
        with cutting_proxy(server.port, lambda: cut[0]) as port:
            yield suffer(
                "Redis cut in mid-reply",
                f"redis://127.0.0.1:{port}/0",
                lambda: cut.__setitem__(0, 3),
                lambda: cut.__setitem__(0, None),
            )
    with SlowlyLoading() as server:
        yield suffer("Redis loading", server.url, server.load_slowly, server.load_quickly)


def s3_faults() -> Iterator[Outcome]:
    """Everything an S3 endpoint can do, through a proxy that does it."""
    with S3Server() as server:
        proxy = S3Proxy(server)
        url = server.url.replace(server.endpoint, proxy.endpoint)

        def mode(to: str | int) -> Callable[[], None]:
            return lambda: setattr(proxy, "mode", to)

        try:
            yield suffer("S3 answers 500", url, mode(500), mode(""))
            yield suffer("S3 answers 503", url, mode(503), mode(""))
            yield suffer("S3 refuses the credentials", url, mode(403), mode(""))
            yield suffer("S3 cuts answers short", url, mode("cut"), mode(""))

            def let_go() -> None:
                proxy.mode = ""
                proxy.go.set()

            yield suffer("S3 hangs", url, mode("hang"), let_go)
        finally:
            proxy.close()


def run(settings: Settings) -> Report:
    _deadline[0] = UNHURRIED if settings.small else DEADLINE
    outcomes = [*redis_faults(), *s3_faults()]
    if not settings.small:
        PAGE.write_text(page(outcomes), encoding="utf-8")
    rows = tuple(
        Row(
            outcome.fault,
            outcome.slowest * 1000,
            outcome.slowest / DEADLINE,
            f"{outcome.failed} of {outcome.calls} calls failed, median {outcome.rest * 1000:.2f} ms, "
            + ("recovered" if outcome.recovered else "did not recover"),
        )
        for outcome in outcomes
    )
    failed = sum(outcome.failed for outcome in outcomes)
    never = [outcome.fault for outcome in outcomes if not outcome.recovered]
    return Report(__doc__ or "", "ms", rows, extra={"failed calls": failed, "not recovered": never})


def page(outcomes: list[Outcome]) -> str:
    """`docs/reliability.md`."""
    lines = [
        "# What happens when the shared store fails",
        "",
        "A cache may fail, the agent may not. Each row is a real Redis or S3 endpoint (moto) made to misbehave while",
        f"an agent asks {CALLS} times, half of it known, half new. Latency is what a call took beyond its computation;",
        f"the deadline was {DEADLINE * 1000:.0f} ms for each request to the store. After three failures in a row the",
        "store is given a rest, so that the median call costs next to nothing; it is tried again by itself.",
        "",
        "| fault | failed calls | slowest call, deadlines | median call, ms | recovers without restart |",
        "|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {o.fault} | {o.failed} of {o.calls} | {o.slowest / DEADLINE:.1f} | {o.rest * 1000:.2f} "
        f"| {'yes' if o.recovered else 'no'} |"
        for o in outcomes
    )
    lines += [
        "",
        "A call that misses makes several requests to the store (look, lease, stamp, write), each with a deadline of",
        "its own until the breaker opens; that is why the slowest call may take more than one. A wrong password is no",
        "fault that passes: that row never recovers, and says so in every event.",
        "",
        "Written by `python -m benchmarks load faults`.",
        "",
    ]
    return "\n".join(lines)

"""What does an agent feel when its shared store is stopped, killed, frozen, full, refused, cut off or emptied?"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentcache_core import MISSING, AsyncCache, Cache
from agentcache_core.clock import ManualClock
from agentcache_core.policy.breaker import LONGEST_REST
from agentcache_core.runtime import Face, drive
from agentcache_core.testing.servers import RedisServer, S3Server
from benchmarks.harness import Report, Row, Settings
from benchmarks.load._faults import OtherProcess, RedisProxy, S3Proxy, SlowlyLoading, set_password

DEADLINE = 0.25
UNHURRIED = 1.0  # of the small run, which asks whether calls fail and stores recover, on however busy a machine
CALLS, FEWER_CALLS = 12, 6
PATIENCE = 60.0  # seconds of waiting for a store that is well again; a machine at work takes its time
FACES: tuple[Face, ...] = ("blocking", "async")
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
Act = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault as the agent felt it on one face. Latencies in seconds, beyond the computation itself; `slowest` also
    in deadlines. `failed` counts calls that raised, and what was invalidated and came back."""

    fault: str
    face: Face
    calls: int
    failed: int
    slowest: float
    deadlines: float
    median: float
    recovered: bool


@dataclass(frozen=True, slots=True)
class Ordeal:
    """What is done to a store, and how the agent that uses it is watched. `also` must hold once it has recovered."""

    fault: str
    url: str
    begin: Act
    end: Act
    also: Callable[[], bool] = lambda: True


def suffer(ordeal: Ordeal, *, face: Face, deadline: float, calls: int) -> Outcome:
    """Ask a cache before, during and after a fault. The breaker's rest is passed over by the clock."""
    clock = ManualClock()
    kind: Any = Cache if face == "blocking" else AsyncCache
    place = f"{ordeal.fault}, {face}"  # of its own, so that what is stored to begin with replaces nothing
    cache = kind(ordeal.url, namespace=place, clock=clock, deadline=deadline, maintenance="manual")
    body = _suffered(cache, clock, ordeal, face, deadline, calls)
    return drive(body) if face == "blocking" else asyncio.run(body)


async def _suffered(cache: Any, clock: ManualClock, ordeal: Ordeal, face: Face, deadline: float, calls: int) -> Outcome:
    failed, latencies = 0, []
    await _warm(cache, clock)
    ordeal.begin()
    try:
        for number in range(calls):
            key = "known" if number % 2 else f"new {number} {face}"
            before = time.perf_counter()
            try:
                failed += await _told(cache.get_or_compute(key, lambda: "before")) != "before"
            except Exception:  # noqa: BLE001 - exactly this is counted
                failed += 1
            latencies.append(time.perf_counter() - before)
            failed += await _told(cache.get("outdated")) is not MISSING
    finally:
        ordeal.end()
    until = time.monotonic() + PATIENCE
    recovered, turns = False, 0
    while not recovered and time.monotonic() < until:
        clock.advance(LONGEST_REST)
        recovered, turns = await _works(cache, f"after {turns} {face}", ordeal), turns + 1
        await _pause(face)
    await _told(cache.close())
    latencies.sort()
    median = latencies[len(latencies) // 2]
    slowest = latencies[-1]
    return Outcome(ordeal.fault, face, calls, failed, slowest, slowest / deadline, median, recovered)


async def _told(answer: Any) -> Any:
    """What a call of either face came to."""
    return await answer if inspect.isawaitable(answer) else answer


async def _pause(face: Face) -> None:
    await asyncio.sleep(0.05) if face == "async" else time.sleep(0.05)


async def _warm(cache: Any, clock: ManualClock) -> None:
    """Store what the agent will know, and invalidate something; a first connection may outlast a deadline."""
    for _ in range(20):
        known = await _told(cache.set("known", "before", tags=["t"]))
        outdated = await _told(cache.set("outdated", "x", tags=["old"]))
        await _told(cache.invalidate(tag="old"))
        found = await _told(cache.get("known")) == "before"
        if known and outdated and found and not cache.stats().further["pending_invalidations"]:
            return
        clock.advance(LONGEST_REST)


async def _works(cache: Any, key: str, ordeal: Ordeal) -> bool:
    """Whether the store is used again, and nothing that was invalidated has come back. Under a new key: to overwrite
    takes six requests, more than one deadline on a slow store."""
    stored = await _told(cache.set(key, "after")) and await _told(cache.get(key)) == "after"
    return bool(stored) and await _told(cache.get("outdated")) is MISSING and ordeal.also()


def redis_ordeals() -> Iterator[Ordeal]:
    """Everything a Redis can do to its clients, on servers of this run's own."""
    with RedisServer() as server:
        yield Ordeal("Redis stopped", server.url, lambda: _shut_down(server), server.start)
    with RedisServer() as server:
        yield Ordeal("Redis killed", server.url, server.kill, server.start)
        yield Ordeal("Redis frozen", server.url, server.freeze, server.thaw)
        yield Ordeal(
            "Redis out of memory",
            server.url,
            lambda: server.ask("CONFIG", "SET", "maxmemory", "1"),
            lambda: server.ask("CONFIG", "SET", "maxmemory", "0"),
        )
        yield Ordeal(
            "Redis read-only",
            server.url,
            lambda: server.ask("REPLICAOF", "127.0.0.1", "1"),
            lambda: server.ask("REPLICAOF", "NO", "ONE"),
        )
        yield Ordeal("Redis emptied (FLUSHALL)", server.url, lambda: server.ask("FLUSHALL"), lambda: None)
        with OtherProcess(server.url) as other:
            yield Ordeal(
                "Redis emptied (FLUSHALL), two processes",
                server.url,
                lambda: _flush_beside(other, server),
                lambda: None,
                also=other.has_forgotten,
            )
        with RedisProxy(server.port) as proxy:
            yield Ordeal("Redis cut in mid-reply", proxy.url, lambda: proxy.to("cut"), lambda: proxy.to(""))
            yield Ordeal("Redis drips, a byte per 100 ms", proxy.url, lambda: proxy.to("drip"), lambda: proxy.to(""))
    with RedisServer("--requirepass", "right") as locked:
        url = f"redis://:right@127.0.0.1:{locked.port}/0"
        yield Ordeal(
            "Redis wrong password, then put right",
            url,
            lambda: set_password(locked.port, "right", "other"),
            lambda: set_password(locked.port, "other", "right"),
        )
    with SlowlyLoading() as server:
        yield Ordeal("Redis loading", server.url, server.load_slowly, server.load_quickly)


def _flush_beside(other: OtherProcess, server: RedisServer) -> None:
    other.remember_what_is_invalidated()
    server.ask("FLUSHALL")


def _shut_down(server: RedisServer) -> None:
    server.ask("SHUTDOWN", "NOSAVE")
    server.kill()  # it is gone already: to know of its end


def s3_ordeals() -> Iterator[Ordeal]:
    """Everything an S3 endpoint can do, through a proxy that does it."""
    with S3Server() as server, S3Proxy(server) as proxy:
        url = server.url.replace(server.endpoint, proxy.endpoint)
        modes: dict[str, str | int] = {
            "S3 answers 500": 500,
            "S3 answers 503": 503,
            "S3 refuses the credentials, then takes them": 403,
            "S3 cuts answers short": "cut",
            "S3 hangs": "hang",
        }
        for fault, mode in modes.items():
            yield Ordeal(fault, url, lambda mode=mode: proxy.to(mode), lambda: proxy.to(""))  # type: ignore[misc]  # mypy infers no type for the bound default


def run(settings: Settings) -> Report:
    deadline, calls = (UNHURRIED, FEWER_CALLS) if settings.small else (DEADLINE, CALLS)
    outcomes = [
        suffer(ordeal, face=face, deadline=deadline, calls=calls)
        for ordeals in (redis_ordeals(), s3_ordeals())
        for ordeal in ordeals
        for face in FACES
    ]
    if not settings.small:
        PAGE.write_text(page(outcomes), encoding="utf-8")
    rows = tuple(
        Row(
            f"{outcome.fault}, {outcome.face}",
            outcome.slowest * 1000,
            outcome.deadlines,
            f"{outcome.failed} of {outcome.calls} calls failed, median {outcome.median * 1000:.2f} ms, "
            + ("recovered" if outcome.recovered else "did not recover"),
        )
        for outcome in outcomes
    )
    failed = sum(outcome.failed for outcome in outcomes)
    never = [f"{outcome.fault}, {outcome.face}" for outcome in outcomes if not outcome.recovered]
    return Report(__doc__ or "", "ms", rows, extra={"failed calls": failed, "not recovered": never})


def page(outcomes: list[Outcome]) -> str:
    """`docs/reliability.md`."""
    lines = [
        "# What happens when the shared store fails",
        "",
        "A cache may fail, the agent may not. Each row is a real Redis or S3 endpoint (moto) made to misbehave while",
        f"an agent asks {CALLS} times, half of it known, half new: once through `Cache`, once through `AsyncCache`.",
        "*Failed* counts calls that raised and answers that were invalidated before and came back. *Slowest* is what",
        f"the slowest call took beyond its computation, as a multiple of the deadline ({DEADLINE * 1000:.0f} ms);",
        "*median* the same for the median call, in milliseconds. *Recovers* says whether the store was used again",
        "once it was well, without a restart.",
        "",
        "| fault | failed, blocking / asyncio | slowest, deadlines | median, ms | recovers |",
        "|---|---|---|---|---|",
    ]
    for one, other in zip(outcomes[::2], outcomes[1::2], strict=True):
        yes = [{True: "yes", False: "no"}[each.recovered] for each in (one, other)]
        lines.append(
            f"| {one.fault} | {one.failed} of {one.calls} / {other.failed} of {other.calls} "
            f"| {one.deadlines:.2f} / {other.deadlines:.2f} | {one.median * 1000:.2f} / {other.median * 1000:.2f} "
            f"| {' / '.join(yes)} |"
        )
    lines += [
        "",
        "A call that misses makes several requests to the store (look, lease, stamp, write). All of them together may",
        "take one deadline; what is over it is the machine's own work and its other load. After three failures in a",
        "row the store is given a rest, so that the median call costs next to nothing; it is tried again by itself.",
        "",
        "An emptied Redis has forgotten what was invalidated as well. No entry from before is served again, by no",
        "process: what is gone is the lineage that every older answer names. With two processes, the second one had",
        "the answer that the first invalidated in its memory.",
        "",
        "Written by `python -m benchmarks load faults`.",
        "",
    ]
    return "\n".join(lines)

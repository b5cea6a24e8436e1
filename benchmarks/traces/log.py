"""What do the model calls of a log, yours with --log, cost through a cache, on any backend with --backend?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from agentcache_core import MISSING, Cache
from agentcache_core.errors import AgentCacheError
from benchmarks.harness import Report, Row, Settings
from benchmarks.micro._requests import Floor
from benchmarks.workload import Json, calls_of_log, chat_request, chat_response, data_folder

TRAJECTORIES = "agent_trajectories_airline.jsonl.gz"


def calls(settings: Settings) -> tuple[list[tuple[Json, Any]], str]:
    """The (request, answer) pairs, and where they come from."""
    limit = 20 if settings.small else 2000
    if settings.log:
        return calls_of_log(settings.log, limit=limit), settings.log
    folder = data_folder()
    if folder is not None and (folder / TRAJECTORIES).is_file():
        return calls_of_log(str(folder / TRAJECTORIES), limit=limit), TRAJECTORIES
    return [({**chat_request(), "seed": n}, chat_response()) for n in range(limit)], "made up: one request, many seeds"


def run(settings: Settings) -> Report:
    pairs, source = calls(settings)
    left_out: dict[str, str] = {}
    with Cache(settings.url or "memory://", namespace="benchmark", background=False, maintenance="manual") as cache:
        # A backend that holds an earlier run's answers would make the first pass warm.
        cache.invalidate(namespace="benchmark")
        kept: list[tuple[Json, Any]] = []
        stores: list[float] = []
        repeats = 0
        for request, answer in pairs:
            try:
                repeats += cache.get(request) is not MISSING
                stores.append(_timed(cache.set, request, answer))
                kept.append((request, answer))
            except AgentCacheError as error:
                left_out[f"call {len(kept) + len(left_out) + 1}"] = str(error)
        if not kept:
            raise SystemExit(f"no call of {source} can be cached: {next(iter(left_out.values()))}")
        hits: list[float] = []
        floors: list[float] = []
        served = 0
        for _ in range(1 if settings.small else 3):
            served = 0
            for request, answer in kept:
                floors.append(_timed(Floor(request, answer).hit))
                hits.append(_timed(cache.get, request))
                served += cache.get(request) is not MISSING
        cache.invalidate(namespace="benchmark")
    floor, hit, store = (statistics.median(values) for values in (floors, hits, stores))
    rows = (
        Row("orjson sorted + blake3 + dict + orjson.loads", floor, 1.0),
        Row("hit", hit, hit / floor),
        Row("store", store, store / floor),
    )
    extra = {
        "log": source,
        "backend": settings.url.partition("://")[0] + "://" if settings.url else "memory://",
        "calls": len(kept),
        "repeats_in_the_first_pass": repeats,
        "served_in_the_second": served,
    }
    return Report(__doc__ or "", "ns", rows, (), left_out, extra)


def _timed(call: Callable[..., Any], *arguments: Any) -> float:
    started = time.perf_counter_ns()
    call(*arguments)
    return float(time.perf_counter_ns() - started)

"""What does a miss add before the model is called, and what does storing its answer add afterwards?"""

from __future__ import annotations

import itertools
import time
from typing import Any

from agentcache_core import Cache
from benchmarks.harness import Goal, Report, Settings, nanoseconds_per_call, rows_against
from benchmarks.workload import calls_of_log, chat_request, chat_response


def run(settings: Settings) -> Report:
    request, response = calls_of_log(settings.log, limit=1)[0] if settings.log else (chat_request(), chat_response())
    turn = itertools.count()
    before: list[int] = []
    whole: list[int] = []
    with Cache(settings.url or "memory://", background=False, maintenance="manual") as cache:
        cache.set(request, response)

        def miss() -> Any:
            asked = {**request, "seed": next(turn)}
            started = time.perf_counter_ns()

            def model() -> Any:
                before.append(time.perf_counter_ns() - started)
                return response

            answer = cache.get_or_compute(asked, model)
            whole.append(time.perf_counter_ns() - started)
            return answer

        hits = nanoseconds_per_call({"hit": lambda: cache.get(request), "miss": miss}, settings, loops=500)
    before.sort()
    whole.sort()
    values = {
        "hit": hits["hit"],
        "miss, before the model is called": float(before[len(before) // 2]),
        "miss, in all": float(whole[len(whole) // 2]),
    }
    goals = (Goal("miss, before the model is called", "hit", 3.0),)
    return Report(__doc__ or "", "ns", rows_against(values, "hit"), goals)

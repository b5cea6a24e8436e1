"""What does a hit on a real chat request cost: key, lookup and decoding, with every guard on?"""

from __future__ import annotations

from agentcache_core import Cache
from benchmarks.harness import Goal, Report, Settings, nanoseconds_per_call, rows_against
from benchmarks.micro._requests import Floor, langchain_hit, litellm_hit
from benchmarks.workload import calls_of_log, chat_request, chat_response

FLOOR = "orjson sorted + blake3 + dict + orjson.loads"


def run(settings: Settings) -> Report:
    request, response = calls_of_log(settings.log, limit=1)[0] if settings.log else (chat_request(), chat_response())
    left_out: dict[str, str] = {}
    with Cache(settings.url or "memory://", background=False, maintenance="manual") as cache:
        cache.set(request, response)
        contenders = {FLOOR: Floor(request, response).hit, "agentcache get": lambda: cache.get(request)}
        for name, peer in (("litellm get_cache", litellm_hit), ("langchain invoke", langchain_hit)):
            try:
                contenders[name] = peer(request, response)
            except ImportError as error:
                left_out[name] = f"not installed: {error.name}"
        values = nanoseconds_per_call(contenders, settings, loops=1000)
    return Report(
        __doc__ or "",
        "ns",
        rows_against(values, FLOOR),
        (
            Goal("agentcache get", FLOOR, 2.0, 1.5),
            Goal("litellm get_cache", "agentcache get", 5.0, at_least=True),
            Goal("langchain invoke", "agentcache get", 25.0, at_least=True),
        ),
        left_out,
    )

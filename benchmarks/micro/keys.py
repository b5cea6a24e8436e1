"""What does the exact key of a real chat request cost, beside the hash of its bytes and the keys of others?"""

from __future__ import annotations

import hashlib
import json
import logging

import orjson
from blake3 import blake3

from agentcache_core.keys import KeyBuilder
from benchmarks.harness import Goal, Report, Settings, nanoseconds_per_call, rows_against
from benchmarks.workload import calls_of_log, chat_request

FLOOR = "orjson sorted + blake3"


def run(settings: Settings) -> Report:
    request = calls_of_log(settings.log, limit=1)[0][0] if settings.log else chat_request()
    ready = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    builder = KeyBuilder()
    left_out: dict[str, str] = {}
    contenders = {
        "blake3 of ready bytes": lambda: blake3(ready).digest(),
        FLOOR: lambda: blake3(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).digest(),
        "json sorted + sha256": lambda: hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest(),
        "agentcache key": lambda: builder.key(request).digest,
    }
    try:
        logging.getLogger("LiteLLM").setLevel(logging.ERROR)
        from litellm.caching.caching import Cache as LiteLLMCache
        from litellm.types.caching import LiteLLMCacheType

        litellm = LiteLLMCache(type=LiteLLMCacheType.LOCAL)
        contenders["litellm get_cache_key"] = lambda: litellm.get_cache_key(**request)
    except ImportError as error:
        left_out["litellm get_cache_key"] = f"not installed: {error.name}"
    values = nanoseconds_per_call(contenders, settings, loops=1000)
    return Report(
        __doc__ or "",
        "ns",
        rows_against(values, FLOOR),
        (Goal("agentcache key", FLOOR, 2.0, 1.5),),
        left_out,
        {"request_bytes": len(ready)},
    )

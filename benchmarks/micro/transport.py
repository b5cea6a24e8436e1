"""What does a model call cost through the caching transport: a hit, and what a miss adds to the bare client?"""

from __future__ import annotations

import itertools
import json
from typing import Any

from agentcache_core import Cache
from benchmarks.harness import Goal, Report, Settings, nanoseconds_per_call, rows_against
from benchmarks.workload import chat_request, chat_response

URL = "https://api.example/v1/chat/completions"
BARE = "bare client (no network)"


def run(settings: Settings) -> Report:
    try:
        import httpx2

        from agentcache_adapters.http.httpx2 import CacheTransport
    except ImportError as error:
        return Report(__doc__ or "", "ns", (), left_out={"everything": f"not installed: {error.name}"})
    body = json.dumps(chat_response()).encode()
    headers = {"content-type": "application/json"}

    def provider(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=headers, content=body)

    request, turn = chat_request(), itertools.count()
    asked = json.dumps(request).encode()
    sent = {"content-type": "application/json", "authorization": "Bearer sk-benchmark"}

    with Cache(settings.url or "memory://", background=False, maintenance="manual") as cache:
        bare = httpx2.Client(transport=httpx2.MockTransport(provider))
        caching = httpx2.Client(transport=CacheTransport(cache, httpx2.MockTransport(provider)))

        def miss() -> Any:
            return caching.post(URL, content=json.dumps({**request, "seed": next(turn)}).encode(), headers=sent)

        def bare_call() -> Any:
            return bare.post(URL, content=json.dumps({**request, "seed": next(turn)}).encode(), headers=sent)

        with bare, caching:
            values = nanoseconds_per_call(
                {
                    BARE: bare_call,
                    "a miss through the transport": miss,
                    "a hit through the transport": lambda: caching.post(URL, content=asked, headers=sent),
                },
                settings,
                loops=200,
            )
    values["added by a miss"] = max(0.0, values["a miss through the transport"] - values[BARE])
    return Report(
        __doc__ or "",
        "ns",
        rows_against(values, BARE),
        (Goal("a hit through the transport", BARE, 2.0, 1.5), Goal("added by a miss", BARE, 2.0)),
        extra={"request_bytes": len(asked), "answer_bytes": len(body)},
    )

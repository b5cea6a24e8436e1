"""What does one turn of a long conversation cost on a hit, at 10, 50 and 200 turns?"""

from __future__ import annotations

import json
from typing import Any

from agentcache_core import Cache
from benchmarks.harness import Goal, Report, Row, Settings, nanoseconds_per_call
from benchmarks.micro._requests import Floor
from benchmarks.workload import chat_request, chat_response, reservation

TURNS = (10, 50, 200)


def conversation(turns: int) -> dict[str, Any]:
    """A request of `turns` turns, each a tool call and its result; ids repeat nowhere."""
    request = chat_request()
    messages = request["messages"][:2]
    for turn in range(turns):
        function = {"name": "get_reservation_details", "arguments": json.dumps({"reservation_id": f"R{turn:05d}"})}
        call = {"id": f"call_{turn}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        result = json.dumps({**reservation(), "reservation_id": f"R{turn:05d}"})
        messages.append({"role": "tool", "tool_call_id": f"call_{turn}", "content": result})
    return {**request, "messages": messages}


def run(settings: Settings) -> Report:
    rows: list[Row] = []
    goals: list[Goal] = []
    with Cache(settings.url or "memory://", background=False, maintenance="manual") as cache:
        for turns in TURNS:
            request, response = conversation(turns), chat_response()
            cache.set(request, response)
            floor = f"{turns} turns: orjson sorted + blake3 + dict"
            contenders = {floor: Floor(request, response).hit, f"{turns} turns: agentcache get": _get(cache, request)}
            values = nanoseconds_per_call(contenders, settings, loops=4000 // turns)
            rows += [Row(name, value, value / values[floor]) for name, value in values.items()]
            goals.append(Goal(f"{turns} turns: agentcache get", floor, 2.5))
    return Report(__doc__ or "", "ns", tuple(rows), tuple(goals))


def _get(cache: Cache, request: dict[str, Any]) -> Any:
    return lambda: cache.get(request)

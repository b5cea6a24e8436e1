"""The requests and answers that benchmarks use: of the size and shape agents send, or the user's own log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Json = dict[str, Any]
PARAGRAPH = (
    "You help travellers of an airline to book, change and cancel flights. Ask for the user id before anything else. "
    "Name every change and its price and wait for a clear yes before you make it. Never invent a flight, a price or a "
    "rule; look it up with the tools, one call at a time, and say so when something is not possible. "
)


def data_folder() -> Path | None:
    """The folder of measured data: AGENTCACHE_BENCH_DATA, else `../shared/data` beside the repository, if it exists."""
    named = os.environ.get("AGENTCACHE_BENCH_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def chat_request() -> Json:
    """A chat request of 3.5 to 4 KB: five messages, one a tool call with `content: null`, three tools, one float."""
    call = {"name": "get_reservation_details", "arguments": '{"reservation_id": "JG7FMM"}'}
    return {
        "model": "gpt-5",
        "temperature": 0.7,
        "max_completion_tokens": 1024,
        "messages": [
            {"role": "system", "content": PARAGRAPH * 6},
            {"role": "user", "content": "Hello, I would like to change my flight from Orlando to Charlotte, please."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": json.dumps(reservation())},
            {"role": "user", "content": "Yes, that one. What would it cost to leave a day later, in the same cabin?"},
        ],
        "tools": [tool(name) for name in ("get_reservation_details", "search_direct_flight", "calculate")],
    }


def reservation() -> Json:
    """What a reservation tool answers."""
    return {
        "reservation_id": "JG7FMM",
        "user_id": "omar_davis_3817",
        "origin": "MCO",
        "destination": "CLT",
        "cabin": "economy",
        "flights": [{"flight_number": "HAT028", "date": "2024-05-21", "price": 305}],
        "created_at": "2024-05-11T05:04:00",
    }


def tool(name: str) -> Json:
    """The description of one tool, as models are sent it."""
    arguments = {field: {"type": "string", "description": f"The {field} that is meant"} for field in ("id", "date")}
    schema = {"type": "object", "properties": arguments, "required": ["id"]}
    return {"type": "function", "function": {"name": name, "description": f"Do {name}.", "parameters": schema}}


def chat_response() -> Json:
    """The answer to `chat_request`, about 1 KB."""
    text = "Leaving a day later in the same cabin costs 37 dollars more. " + PARAGRAPH * 2
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-5",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 930, "completion_tokens": 80, "total_tokens": 1010},
    }


def calls_of_log(path: str, *, limit: int = 10_000) -> list[tuple[Json, Any]]:
    """The model calls (request, recorded response) of a log in any shape that `agentcache replay` reads; the response
    is that of `chat_response` where none was recorded. Raises SystemExit, saying why, when there is none."""
    from agentcache_adapters.cli.lines import read_lines
    from agentcache_adapters.cli.logs import ModelCall, read_records
    from agentcache_core import MISSING

    found: list[tuple[Json, Any]] = []
    bad: list[str] = []
    try:
        for record in read_records(read_lines(Path(path))):
            if isinstance(record, ModelCall) and isinstance(record.request, dict):
                found.append((record.request, chat_response() if record.response is MISSING else record.response))
            elif not isinstance(record, ModelCall) and hasattr(record, "reason"):
                bad.append(str(record))
            if len(found) == limit:
                break
    except OSError as error:
        raise SystemExit(f"the log {path} cannot be read: {error.strerror}") from error
    if not found:
        raise SystemExit(f"no model call in {path}" + (f"; the first bad line is {bad[0]}" if bad else ""))
    return found

"""The agent: it asks its model, runs the tools the model asks for, and goes on until the model answers in words.

It knows nothing of a cache: it is given two functions, one to ask the model and one to call a tool.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from support_desk.world import TOOLS, ToolTimeout

Json = dict[str, Any]
AskModel = Callable[[Json], Json]
CallTool = Callable[[str, Json], str]

INSTRUCTIONS = (
    "You are the returns desk of a bookshop. Find the customer and the order, check the policy on returns, and open a "
    "return only if the policy allows it. Make one tool call at a time. Answer in one or two sentences."
)


class ModelBusy(Exception):
    """The provider refused for now."""


def run_task(task: str, ask_model: AskModel, call_tool: CallTool, *, attempts: int = 3) -> str:
    """Carry one task to its end; when a tool fails, the whole task is tried again from its beginning."""
    for attempt in range(1, attempts + 1):
        try:
            return _converse(task, ask_model, call_tool)
        except ToolTimeout:
            if attempt == attempts:
                raise
    raise AssertionError("attempts must be at least 1")


def _converse(task: str, ask_model: AskModel, call_tool: CallTool, *, turns: int = 12) -> str:
    messages: list[Json] = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": task}]
    for _ in range(turns):
        request = {"model": "gpt-5-mini", "messages": messages, "tools": TOOLS, "temperature": 0}
        message = ask_model(request)["choices"][0]["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            return str(message["content"])
        for call in message["tool_calls"]:
            result = call_tool(call["function"]["name"], json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    raise RuntimeError(f"no answer after {turns} turns")


def post_json(url: str, body: Json, *, patience: int = 5, pause_seconds: float = 0.2) -> Json:
    """POST `body` and answer the JSON that comes back; a busy server is asked again, with growing pauses."""
    for attempt in range(patience):
        try:
            return _post_once(url, body)
        except ModelBusy:
            if attempt == patience - 1:
                raise
            time.sleep(pause_seconds * 2**attempt)
    raise AssertionError("patience must be at least 1")


def _post_once(url: str, body: Json) -> Json:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", parts.path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        payload = json.loads(response.read())
    finally:
        connection.close()
    if response.status == 503:
        raise ModelBusy(payload["error"]["message"])
    if response.status != 200:
        raise RuntimeError(f"the model server answered {response.status}: {payload['error']['message']}")
    return dict(payload)

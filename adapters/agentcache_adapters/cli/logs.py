"""Request logs as a stream of model calls and tool calls, whatever their shape.

Three shapes are known, told apart line by line:

- `{"request" or "body": …, "response": …}`: one model call;
- a line of an OpenAI batch: `{"custom_id", "body"}` asks, and `{"custom_id", "response": {"body"}}`, in whatever file
  and order, answers;
- `{"traj" or "messages": […]}`: a conversation. Every assistant turn is one model call whose request is everything
  before it, and its tool calls are calls of tools; results belong to calls by position, since ids repeat.

Everything is read once and forgotten, so a log of any size needs the memory of its longest line. What cannot be used
becomes a `BadLine` among the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from agentcache_adapters.cli.batches import BatchAnswers, is_answer
from agentcache_adapters.cli.lines import BadLine, Line
from agentcache_core.keys import EmbeddingRequest, ToolCall
from agentcache_core.model import MISSING

UNKNOWN_MODEL = "unknown"


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One recorded call of a model. `response` is MISSING where none was recorded; `failed` where it was an error."""

    request: Any
    response: Any
    file: str
    line: int
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One recorded call of a tool, with the arguments parsed. `result` is MISSING where none was recorded."""

    call: ToolCall
    result: Any
    file: str
    line: int


Record = ModelCall | ToolUse | BadLine


def read_records(
    lines: Iterable[Line | BadLine], *, model: str | None = None, answers: BatchAnswers | None = None
) -> Iterator[Record]:
    """The calls in a log's lines. `model` names the model where the log does not; `answers` are those of batches."""
    for line in lines:
        if isinstance(line, BadLine):
            yield line
            continue
        try:
            record = json.loads(line.content)
        except UnicodeDecodeError as error:
            yield line.bad(f"not UTF-8 text: {error.reason}")
        except json.JSONDecodeError as error:
            yield line.bad(f"not JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:
            yield line.bad(f"not JSON that can be read: {error}")
        else:
            yield from _records(record, line, model, answers)


def _records(record: Any, line: Line, model: str | None, answers: BatchAnswers | None) -> Iterator[Record]:
    if not isinstance(record, dict):
        yield line.bad(f"a JSON {type(record).__name__}, not an object")
        return
    request = record.get("request", record.get("body"))
    if request is not None:
        yield from _exchange(record, request, line, model, answers)
    elif "traj" in record or "messages" in record:
        yield from _conversation(record, line, model)
    elif is_answer(record):
        if answers is None or record["custom_id"] not in answers:  # else it was read before, for the line that asks
            yield line.bad("the answer of a batch in a file that does not begin with one")
    else:
        yield line.bad("neither a request with its response, nor a line of a batch, nor a conversation")


def _exchange(
    record: dict[str, Any], request: Any, line: Line, model: str | None, answers: BatchAnswers | None
) -> Iterator[Record]:
    if not isinstance(request, (dict, str)):
        yield line.bad(f"the request is a JSON {type(request).__name__}, not an object or a string")
        return
    custom_id = record.get("custom_id")
    response = record.get("response", MISSING)
    if isinstance(custom_id, str) and isinstance(request, dict):
        request = _of_batch(request, record.get("url"))
        if response is MISSING and answers is not None:
            response = answers.take(custom_id)
        failed, response = _outcome(response)
    else:
        failed = isinstance(record.get("error"), (dict, str))
    if isinstance(request, dict) and "model" not in request and ("messages" in request or "input" in request):
        request = {**request, "model": model or UNKNOWN_MODEL}
    yield ModelCall(request, response, line.file, line.number, failed)
    if not failed:
        for name, arguments in calls_in_response(response):
            yield ToolUse(ToolCall(name, arguments), MISSING, line.file, line.number)


def _of_batch(body: dict[str, Any], url: Any) -> Any:
    if isinstance(url, str) and url.endswith("/embeddings") and isinstance(body.get("model"), str):
        rest = {name: value for name, value in body.items() if name not in ("model", "input")}
        return EmbeddingRequest(body["model"], body.get("input"), "openai", rest)
    return {"provider": "openai", **body}


def _outcome(response: Any) -> tuple[bool, Any]:
    """What a batch says of one request: whether it failed, and the body of the answer."""
    if response is MISSING or response is None:
        return response is None, MISSING
    if not isinstance(response, dict) or "body" not in response:
        return False, response
    return response.get("status_code", 200) != 200, response["body"]


def _conversation(record: dict[str, Any], line: Line, model: str | None) -> Iterator[Record]:
    messages = record["traj"] if "traj" in record else record["messages"]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        yield line.bad("a conversation is a list of messages, each an object")
        return
    common = {name: value for name in ("provider", "tools", "system") if (value := record.get(name)) is not None}
    named = record.get("model")
    common["model"] = named if isinstance(named, str) else model or UNKNOWN_MODEL
    for at, message in enumerate(messages):
        if message.get("role") == "assistant":
            yield ModelCall({**common, "messages": messages[:at]}, message, line.file, line.number)
            results = _results_after(messages, at)
            for (name, arguments), result in zip(calls_in_message(message), results, strict=False):
                yield ToolUse(ToolCall(name, arguments), result, line.file, line.number)


def _results_after(messages: list[dict[str, Any]], at: int) -> Iterator[Any]:
    """The results that follow an assistant's turn, in order, then MISSING for ever."""
    for message in messages[at + 1 :]:
        parts = message.get("content")
        if message.get("role") in ("tool", "function"):
            yield parts
        elif message.get("role") == "user" and isinstance(parts, list):
            yield from (part.get("content") for part in parts if _has_type(part, "tool_result"))
        if message.get("role") in ("assistant", "system"):
            break
    while True:
        yield MISSING


def calls_in_message(message: dict[str, Any]) -> list[tuple[str, Any]]:
    """The tool calls of one assistant message (OpenAI or Anthropic), as names and parsed arguments."""
    found = [_openai_call(call.get("function")) for call in _objects(message.get("tool_calls"))]
    found.append(_openai_call(message.get("function_call")))
    parts = _objects(message.get("content"))
    found += [_named(part.get("name"), part.get("input")) for part in parts if _has_type(part, "tool_use")]
    return [call for call in found if call is not None]


def calls_in_response(response: Any) -> list[tuple[str, Any]]:
    """The tool calls of one response body: OpenAI chat, OpenAI Responses or Anthropic; none in anything else."""
    if not isinstance(response, dict):
        return []
    found = calls_in_message(response)
    for choice in _objects(response.get("choices")):
        message = choice.get("message")
        found += calls_in_message(message) if isinstance(message, dict) else []
    outputs = [_openai_call(item) for item in _objects(response.get("output")) if _has_type(item, "function_call")]
    return found + [call for call in outputs if call is not None]


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _has_type(item: Any, kind: str) -> bool:
    return isinstance(item, dict) and item.get("type") == kind


def _openai_call(function: Any) -> tuple[str, Any] | None:
    return _named(function.get("name"), _parsed(function.get("arguments"))) if isinstance(function, dict) else None


def _named(name: Any, arguments: Any) -> tuple[str, Any] | None:
    return (name, {} if arguments is None else arguments) if isinstance(name, str) else None


def _parsed(arguments: Any) -> Any:
    """Arguments as the model wrote them, parsed; the text itself where it is not JSON."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments

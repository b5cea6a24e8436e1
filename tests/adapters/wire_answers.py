"""The answers of the local provider, in the shapes the real ones send."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole body, or the events of a stream."""

    body: Any = None
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    events: list[bytes] | None = None


def answer_for(number: int, method: str, path: str, body: bytes) -> Answer:
    """What the provider says to one call; `number` makes every answer different."""
    path = path.partition("?")[0]
    if path.startswith("/files/"):
        return Answer(f"bytes of {path} {number}".encode(), content_type="image/png")
    if "/versions/" in path:
        return _version(path)
    request = json.loads(body) if body.startswith(b"{") else {}
    for ending, answer in _ANSWERS.items():
        if path.endswith(ending):
            return answer(number, request)
    return Answer({"path": path, "method": method, "number": number})


def _last_text(messages: list[dict[str, Any]]) -> str:
    content = messages[-1].get("content") if messages else ""
    if isinstance(content, list):
        return " ".join(part.get("text") or f"<{part['type']}>" for part in content)
    return str(content)


def _events(payloads: Iterable[Any], *, named: bool = False) -> list[bytes]:
    lines = []
    for payload in payloads:
        name = f"event: {payload['type']}\n" if named else ""
        lines.append(f"{name}data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n".encode())
    return lines


def _chat_message(number: int, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
    if request.get("tools") and request["messages"][-1]["role"] == "user":
        function = {"name": request["tools"][0]["function"]["name"], "arguments": json.dumps({"q": number})}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}, "tool_calls"
    text = f"answer {number} to {_last_text(request['messages'])}"
    if request.get("response_format", {}).get("type") in ("json_object", "json_schema"):
        text = json.dumps({"answer": text})
    return {"role": "assistant", "content": text, "refusal": None}, "stop"


def _chat_usage(request: dict[str, Any]) -> dict[str, Any]:
    reasoning = 20 if request.get("reasoning_effort") else 0
    return {
        "prompt_tokens": 11,
        "completion_tokens": 7 + reasoning,
        "total_tokens": 18 + reasoning,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    }


def _chat(number: int, request: dict[str, Any]) -> Answer:
    message, finish = _chat_message(number, request)
    base = {"id": f"chatcmpl-{number}", "created": 1700000000 + number, "model": request["model"] + "-2026-01-01"}
    if not request.get("stream"):
        choices = [
            {"index": i, "message": message, "finish_reason": finish, "logprobs": None}
            for i in range(request.get("n", 1))
        ]
        return Answer(base | {"object": "chat.completion", "choices": choices, "usage": _chat_usage(request)})
    chunk = base | {"object": "chat.completion.chunk"}

    def delta(fields: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return chunk | {"choices": [{"index": 0, "delta": fields, "finish_reason": reason, "logprobs": None}]}

    payloads: list[Any] = [delta({"role": "assistant", "content": "" if message["content"] else None})]
    for call in message.get("tool_calls", []):
        payloads.append(
            delta({"tool_calls": [{"index": 0, **call, "function": {**call["function"], "arguments": ""}}]})
        )
        for piece in _pieces(call["function"]["arguments"]):
            payloads.append(delta({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    payloads += [delta({"content": piece}) for piece in _pieces(message["content"] or "")]
    payloads.append(delta({}, finish))
    if request.get("stream_options", {}).get("include_usage"):
        payloads.append(chunk | {"choices": [], "usage": _chat_usage(request)})
    return Answer(events=_events([*payloads, "[DONE]"]))


def _pieces(text: str) -> list[str]:
    return [text[i : i + 5] for i in range(0, len(text), 5)]


def _responses(number: int, request: dict[str, Any]) -> Answer:
    asked = request["input"] if isinstance(request["input"], str) else _last_text(request["input"])
    text = f"answer {number} to {asked}"
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    output: list[dict[str, Any]] = [message]
    if request.get("reasoning"):
        output.insert(0, {"id": f"rs_{number}", "type": "reasoning", "summary": []})
    if request.get("tools"):
        output[-1] = {
            "id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}", "status": "completed",
            "name": request["tools"][0]["name"], "arguments": json.dumps({"q": number}),
        }  # fmt: skip
    usage = {
        "input_tokens": 11, "output_tokens": 7, "total_tokens": 18,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 3},
    }  # fmt: skip
    response = {
        "id": f"resp_{number}", "object": "response", "created_at": 1700000000 + number, "status": "completed",
        "model": request["model"], "output": output, "usage": usage, "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
        "tools": request.get("tools", []), "top_p": 1.0,
    }  # fmt: skip
    if not request.get("stream"):
        return Answer(response)
    unfinished = message | {"status": "in_progress", "content": []}
    started = response | {"status": "in_progress", "output": [], "usage": None}
    at = {"item_id": f"msg_{number}", "output_index": 0, "content_index": 0}
    payloads: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": unfinished},
        {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in _pieces(text)),
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": response},
    ]
    return Answer(events=_events([p | {"sequence_number": i} for i, p in enumerate(payloads)], named=True))


def _embeddings(number: int, request: dict[str, Any]) -> Answer:
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    rows = []
    for index, text in enumerate(texts):
        vector = [float(number), float(len(str(text))), float(index)]
        encoded: Any = vector
        if request.get("encoding_format") == "base64":
            encoded = base64.b64encode(struct.pack("<3f", *vector)).decode()
        rows.append({"object": "embedding", "index": index, "embedding": encoded})
    usage = {"prompt_tokens": 3 * len(texts), "total_tokens": 3 * len(texts)}
    return Answer({"object": "list", "data": rows, "model": request["model"], "usage": usage})


def _message_content(number: int, request: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    if request.get("tools") and isinstance(request["messages"][-1]["content"], str):
        use = {"type": "tool_use", "id": f"toolu_{number}", "name": request["tools"][0]["name"], "input": {"q": number}}
        return [use], "tool_use"
    blocks: list[dict[str, Any]] = [{"type": "text", "text": f"answer {number} to {_last_text(request['messages'])}"}]
    if request.get("thinking", {}).get("type") == "enabled":
        blocks.insert(0, {"type": "thinking", "thinking": "let me see", "signature": f"sig{number}"})
    return blocks, "end_turn"


def _block_events(index: int, block: dict[str, Any]) -> Iterable[dict[str, Any]]:
    empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}[
        block["type"]
    ]
    yield {"type": "content_block_start", "index": index, "content_block": block | empty}
    if block["type"] == "text":
        deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
    elif block["type"] == "thinking":
        deltas = [
            {"type": "thinking_delta", "thinking": block["thinking"]},
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    else:
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _pieces(json.dumps(block["input"]))]
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _messages(number: int, request: dict[str, Any]) -> Answer:
    content, stop = _message_content(number, request)
    usage = {
        "input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 1,
    }  # fmt: skip
    message = {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": request["model"], "content": content,
        "stop_reason": stop, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    if not request.get("stream"):
        return Answer(message)
    payloads: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": message | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}},
        },
        {"type": "ping"},
    ]
    for index, block in enumerate(content):
        payloads += _block_events(index, block)
    payloads.append(
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 7}}
    )
    payloads.append({"type": "message_stop"})
    return Answer(events=_events(payloads, named=True))


def _version(path: str) -> Answer:
    """A version of a Replicate model; the one called `talks` yields its output piece by piece."""
    name = path.rpartition("/")[2]
    output: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    if name == "talks":
        output["x-cog-array-type"] = "iterator"
    schema = {"components": {"schemas": {"Output": output}}}
    return Answer({"id": name, "created_at": "2026-01-01T00:00:00Z", "cog_version": "0.9", "openapi_schema": schema})


def _prediction(number: int, request: dict[str, Any]) -> Answer:
    """A Replicate prediction that has run already. Its input says how it ends and what comes out."""
    asked, version = request["input"], request.get("version", "official")
    outputs: dict[str, Any] = {
        "talks": ["answer ", str(number), " to ", str(asked.get("prompt"))],
        "draws": [f"https://replicate.delivery/files/{number}-{i}.png" for i in range(2)],
        "official": {"image": f"https://replicate.delivery/files/{number}.png", "seed": number},
    }
    status = asked.get("status", "succeeded")
    prediction = {
        "id": f"p{number}",
        "model": "owner/name",
        "version": version,
        "status": status,
        "input": asked,
        "output": outputs.get(version, {"number": number}),
        "error": "it failed" if status == "failed" else None,
        "logs": "",
        "metrics": {},
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": None,
        "completed_at": None,
        "urls": {"get": f"/v1/predictions/p{number}", "cancel": ""},
    }
    return Answer(prediction, status=201)


_ANSWERS = {
    "/predictions": _prediction,
    "/chat/completions": _chat,
    "/responses": _responses,
    "/embeddings": _embeddings,
    "/messages": _messages,
}

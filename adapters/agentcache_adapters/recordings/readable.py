"""Values and requests as JSON that people can read, and back, equal in type and value.

What JSON has is written as it is. The rest is an object with one key that begins with `$`: `$tuple` (its items),
`$bytes` (base64), `$map` (pairs, for a mapping with such a key of its own), `$packed` (base64 of the codec's bytes, for
everything else). A recorded HTTP answer shows its body: `json`, the `events` of a stream, `text`, or `base64`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from typing import Any, Final

from agentcache_adapters.http.recording import Recording, from_value, to_value
from agentcache_core.codec.serialize import dumps, loads
from agentcache_core.keys import EmbeddingRequest, FunctionCall, HttpRequest, ToolCall

_TYPED: Final = {kind.__name__: kind for kind in (EmbeddingRequest, FunctionCall, HttpRequest, ToolCall)}


def readable(value: Any) -> Any:
    """A storable value as JSON; `UnstorableValue` for what the codec cannot keep either."""
    match value:
        case None | bool() | str() | int():
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            return [readable(item) for item in value]
        case tuple() if type(value) is tuple:
            return {"$tuple": [readable(item) for item in value]}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case dict() if all(isinstance(name, str) for name in value):
            if any(name.startswith("$") for name in value):
                return {"$map": [[name, readable(item)] for name, item in value.items()]}
            return {name: readable(item) for name, item in value.items()}
    return {"$packed": base64.b64encode(dumps(value)).decode()}


def value_of(shown: Any) -> Any:
    """The inverse of `readable`. `ValueError` for what it does not write."""
    if isinstance(shown, list):
        return [value_of(item) for item in shown]
    if not isinstance(shown, dict):
        return shown
    match shown:
        case {"$tuple": list(items), **rest} if not rest:
            return tuple(value_of(item) for item in items)
        case {"$bytes": str(text), **rest} if not rest:
            return base64.b64decode(text, validate=True)
        case {"$packed": str(text), **rest} if not rest:
            return loads(base64.b64decode(text, validate=True))
        case {"$map": list(pairs), **rest} if not rest:
            return {name: value_of(item) for name, item in pairs}
    if any(name.startswith("$") for name in shown):
        raise ValueError(f"unknown form {sorted(shown)}")
    return {name: value_of(item) for name, item in shown.items()}


def readable_request(request: Any) -> Any:
    """A request as JSON; the typed kinds say which they are."""
    name = type(request).__name__
    if name in _TYPED:
        fields = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
        return {"$request": name, **{key: readable(item) for key, item in fields.items()}}
    return readable(dict(request) if isinstance(request, dict) else request)


def request_of(shown: Any) -> Any:
    """The inverse of `readable_request`."""
    if isinstance(shown, dict) and shown.get("$request") in _TYPED:
        fields = {name: value_of(item) for name, item in shown.items() if name != "$request"}
        return _TYPED[shown["$request"]](**fields)
    return value_of(shown)


def readable_answer(value: Any) -> Any:
    """A stored answer as JSON: a recorded HTTP answer opened up, anything else as `readable` writes it."""
    recording = from_value(value)
    if recording is None:
        return {"value": readable(value)}
    shown: dict[str, Any] = {"status": recording.status, "headers": [list(pair) for pair in recording.headers]}
    if recording.streamed:
        events = _events(recording)
        if events is not None:
            return {"http": {**shown, "events": events, "delays": list(recording.delays)}}
        return {"value": readable(value)}
    return {"http": {**shown, **_body(recording.body)}}


def _events(recording: Recording) -> list[str] | None:
    try:
        return [part.decode() for _, part in recording.parts()]
    except UnicodeDecodeError:
        return None


def _body(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}
    try:
        parsed = json.loads(text)
    except ValueError:
        return {"text": text}
    # The same JSON in other spacing is the same answer; numbers that JSON would not give back are kept as text.
    return {"json": parsed} if json.loads(json.dumps(parsed)) == parsed and isinstance(parsed, dict) else {"text": text}


def answer_of(shown: Any) -> Any:
    """The inverse of `readable_answer`; `ValueError` for what it does not write."""
    match shown:
        case {"value": value}:
            return value_of(value)
        case {"http": {"status": int(status), "headers": list(pairs)} as http}:
            headers = tuple((str(name), str(text)) for name, text in pairs)
            if "events" in http:
                parts = [str(event).encode() for event in http["events"]]
                ends, at = [], 0
                for part in parts:
                    at += len(part)
                    ends.append(at)
                delays = tuple(int(delay) for delay in http["delays"])
                return to_value(Recording(status, headers, b"".join(parts), tuple(ends), delays))
            return to_value(Recording(status, headers, _body_of(http)))
    raise ValueError("an answer is an object with `value` or `http`")


def _body_of(http: dict[str, Any]) -> bytes:
    match http:
        case {"json": parsed}:
            return json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode()
        case {"text": str(text)}:
            return text.encode()
        case {"base64": str(text)}:
            return base64.b64decode(text, validate=True)
    raise ValueError("an HTTP answer has `json`, `text`, `base64` or `events`")

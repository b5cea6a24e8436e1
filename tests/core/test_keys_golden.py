"""Keys written by an earlier version: the vectors of `docs/keys.md`, and the scheme recomputed from its text alone.

Run as a script (`python tests/core/test_keys_golden.py`) this file writes the vectors anew. That is right only together
with a new `KEY_SCHEME`: any change here means that every stored answer is lost.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import struct
import uuid
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from blake3 import blake3

from agentcache_core.keys import (
    DENYLIST_VERSION,
    KEY_SCHEME,
    EmbeddingRequest,
    FunctionCall,
    HttpRequest,
    KeyBuilder,
    ToolCall,
)

GOLDEN = Path(__file__).parent / "golden" / "keys.json"

VIEWS: dict[str, dict[str, Any]] = {
    "root": {},
    "acme": {"tenant": "acme", "namespace": "storage", "secret": b"a secret of sixteen or more bytes"},
}


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float


# So that the class is called the same however this file is loaded.
Colour.__module__ = Point.__module__ = "golden"

JSON_REQUESTS: dict[str, Any] = {
    "text": "weather:berlin",
    "empty text": "",
    "text beyond ascii": "straße 😀",
    "generic": {"b": [1, 1.0, True, None, -1, 300, 2**63, -0.0], "a": {"é": "x", "z": 1.5e300}},
    "chat": {
        "provider": "openai",
        "model": "gpt-5",
        "temperature": 0.7,
        "user": "does not count",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "annotations": [],
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "x" * 1500},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    },
    "chat without a provider": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "anthropic": {
        "provider": "anthropic",
        "model": "claude",
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": None}}],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}]},
        ],
    },
    "responses": {
        "provider": "openai",
        "model": "gpt-5",
        "input": [
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "r"},
            {"type": "item_reference", "id": "msg_1"},
        ],
    },
    "input as a text": {"model": "m", "input": "hi"},
    "replicate": {"provider": "replicate", "model": "o/n", "input": {"prompt": "a cat", "seed": 1}},
    "long": {"model": "m", "messages": [{"role": "user", "content": "word " * 2000}] * 2},
}
PYTHON_REQUESTS: dict[str, Any] = {
    "bytes": b"\x00\xff",
    "tool": ToolCall("find", {"user": "ann", "n": 3}, actor="ann", version="2"),
    "http": HttpRequest("POST", "https://example.org/v1", {"Accept": "text/plain"}, b"body", "credential"),
    "function": FunctionCall("pkg.f", "1", (1, (2, 3), [4], {5: 6}, Point(1, 0.5), Colour.RED), {"k": {7, 8}}),
    "embedding": EmbeddingRequest("m", ["a", "b"], "openai", {"dimensions": 8, "user": "does not count"}),
    "lowered": {
        "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        "date": datetime.date(2026, 1, 2),
        "time": datetime.time(3, 4, 5),
        "timedelta": datetime.timedelta(days=-1, microseconds=1),
        "uuid": uuid.UUID(int=1),
        "decimal": decimal.Decimal("1.10"),
        "enum": Colour.RED,
        "dataclass": Point(1, 0.5),
        "set": {"a", "b"},
        "big": [2**64, -(2**63) - 1],
        "surrogate": "\ud800",
        "nan": [math.nan, math.inf],
        "bytes": b"ab",
        "long bytes": bytes(70_000),
    },
}


def vectors() -> list[dict[str, Any]]:
    found = []
    for name, request in (JSON_REQUESTS | PYTHON_REQUESTS).items():
        for view, arguments in VIEWS.items():
            for sample in (0, 3) if name == "chat" else (0,):
                digest = KeyBuilder(**arguments).digest_of(request, sample=sample).hex()
                vector = {"name": name, "view": view, "sample": sample, "digest": digest}
                found.append(vector | ({"request": request} if name in JSON_REQUESTS and view == "root" else {}))
    return found


def test_keys_are_what_they_were() -> None:
    golden = json.loads(GOLDEN.read_text())
    assert (golden["scheme"], golden["denylist_version"]) == (KEY_SCHEME, DENYLIST_VERSION)
    written = [{name: vector[name] for name in ("name", "view", "sample", "digest")} for vector in golden["vectors"]]
    now = [{name: vector[name] for name in ("name", "view", "sample", "digest")} for vector in vectors()]
    assert now == written


def test_the_requests_in_the_golden_file_give_their_keys_as_they_are_read() -> None:
    builder = KeyBuilder()
    found = [vector for vector in json.loads(GOLDEN.read_text())["vectors"] if "request" in vector]
    assert len(found) > len(JSON_REQUESTS) - 1
    for vector in found:
        assert builder.key(vector["request"], sample=vector["sample"]).digest.hex() == vector["digest"], vector["name"]


def from_the_text(fields: list[Any], *, tenant: str = "", namespace: str = "", secret: bytes = b"") -> str:
    """The scheme as `docs/keys.md` words it, for fields that are JSON values and extensions already."""

    def one(value: Any) -> bytes:
        return ormsgpack.packb(value, option=ormsgpack.OPT_SORT_KEYS)

    tenant_key = blake3(one(secret) + one(tenant), derive_key_context="agentcache exact keys v1: tenant key").digest()
    canonical = b"".join(map(one, [1, tenant, namespace, *fields]))
    size = len(canonical)
    if size > 16384:
        canonical += b"\xc1" * (-size % 16384)
    elif size > 1024:
        canonical += b"\xc1" * (2 ** math.ceil(math.log2(size)) - size)
    return blake3(canonical, key=tenant_key).hexdigest()


def ordinal(number: int) -> ormsgpack.Ext:
    return ormsgpack.Ext(13, struct.pack(">I", number))


CHAT: dict[str, Any] = JSON_REQUESTS["chat"]
LONG: dict[str, Any] = JSON_REQUESTS["long"]
WORDED = {
    "text": ["text", "generic", 0, "weather:berlin"],
    "generic": ["generic", "generic", 0, JSON_REQUESTS["generic"]],
    "chat": [
        "chat",
        "openai",
        0,
        "messages[]",
        {"model": "gpt-5", "temperature": 0.7},
        CHAT["tools"],
        None,
        CHAT["messages"][0],
        {
            "role": "assistant",
            "tool_calls": [{"id": ordinal(0), "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": ordinal(0), "content": "x" * 1500},
    ],
    "input as a text": ["chat", "generic", 0, "input", {"model": "m"}, None, None, "hi"],
    "long": ["chat", "generic", 0, "messages[]", {"model": "m"}, None, None, *LONG["messages"]],
    "bytes": ["text", "generic", 0, b"\x00\xff"],
    "tool": ["tool", "generic", 0, "find", "2", "ann", {"user": "ann", "n": 3}],
    "http": [
        "http",
        "generic",
        0,
        "POST",
        "https://example.org/v1",
        [["accept", "text/plain"]],
        "credential",
        b"body",
    ],
    "embedding": ["embedding", "openai", 0, "m", {"dimensions": 8}, ["a", "b"]],
}


@pytest.mark.parametrize("name", list(WORDED))
def test_the_scheme_recomputed_from_its_description_gives_the_same_keys(name: str) -> None:
    for view, arguments in VIEWS.items():
        golden = json.loads(GOLDEN.read_text())["vectors"]
        expected = next(v["digest"] for v in golden if (v["name"], v["view"], v["sample"]) == (name, view, 0))
        assert from_the_text(WORDED[name], **arguments) == expected


if __name__ == "__main__":
    GOLDEN.write_text(
        json.dumps({"scheme": KEY_SCHEME, "denylist_version": DENYLIST_VERSION, "vectors": vectors()}, indent=1) + "\n"
    )

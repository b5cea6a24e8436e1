"""The hard partition: everything of a request but its last user text, hashed, and that text.

Only entries of the same partition are ever compared. A request that cannot be split that way safely is not matched
semantically at all, and the reason says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from agentcache_core.keys import Key, KeyBuilder
from agentcache_core.model import CacheControl

SENTINEL: Final = "\x00agentcache: the last user text\x00"
"""Stands for the last user text when everything else is hashed. A request that holds it itself is not matched."""
_TEXT_PARTS: Final = frozenset(["text", "input_text"])
_FINISHED_BADLY: Final = frozenset(
    ["length", "max_tokens", "max_output_tokens", "content_filter", "refusal", "safety", "incomplete"]
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request is looked for: the 16-byte partition, and the text that is compared inside it."""

    partition: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Bypass:
    """Why a request is answered exactly or not at all."""

    reason: str


def place_of(keys: KeyBuilder, request: object, key: Key, control: CacheControl) -> Place | Bypass:
    """The partition and the text of a request, or why it has none. Costs one key, and embeds nothing."""
    if control.semantic is False:
        return Bypass("semantic=False")
    if key.sample:
        return Bypass("an independent sample was asked for")
    if key.kind == "text":
        if not isinstance(request, str):
            return Bypass("a key of bytes stays exact")
        return Place(_partition(keys, b"text"), request) if request.strip() else Bypass("empty text")
    if key.kind != "chat" or not isinstance(request, Mapping):
        return Bypass(f"requests of kind {key.kind!r} stay exact")
    return _place_of_chat(keys, request)


def _place_of_chat(keys: KeyBuilder, request: Mapping[str, Any]) -> Place | Bypass:
    shape = "messages" if "messages" in request else "input"
    conversation = request[shape]
    if request.get("attachments"):
        return Bypass("the request carries attachments, which the embedder cannot see")
    if isinstance(conversation, str):
        emptied: Any = SENTINEL
        text = conversation
    else:
        split = _split(conversation)
        if isinstance(split, Bypass):
            return split
        emptied, text = split
    if not text.strip():
        return Bypass("empty text")
    if SENTINEL in text:
        return Bypass("the text holds a reserved mark")
    rest = keys.key({**request, shape: emptied})
    return Place(_partition(keys, rest.digest), text)


def _partition(keys: KeyBuilder, what: bytes) -> bytes:
    hasher = blake3(derive_key_context="agentcache 1 semantic partition")
    for part in (keys.tenant.encode("utf-8", "surrogatepass"), keys.namespace.encode("utf-8", "surrogatepass"), what):
        hasher.update(len(part).to_bytes(8, "big") + part)
    return hasher.digest()[:16]


def _split(conversation: Any) -> tuple[list[Any], str] | Bypass:
    """The messages with the last user text replaced by the sentinel, and that text."""
    if not isinstance(conversation, list | tuple) or not conversation:
        return Bypass("no messages")
    if not all(isinstance(message, Mapping) for message in conversation):
        return Bypass("messages of a foreign shape")
    if any(_sees_more_than_text(message) for message in conversation):
        return Bypass("the request carries attachments, which the embedder cannot see")
    last = conversation[-1]
    if last.get("role") in ("tool", "function") or "output" in str(last.get("type", "")):
        return Bypass("the request ends in a tool result")
    if last.get("role") != "user":
        return Bypass("the last message is not the user's")
    content = last.get("content")
    if isinstance(content, str):
        return [*conversation[:-1], {**last, "content": SENTINEL}], content
    if not isinstance(content, list | tuple) or not content:
        return Bypass("the last message holds no text")
    if any(_kind(part) == "tool_result" for part in content):
        return Bypass("the request ends in a tool result")
    final = content[-1]
    text = final if isinstance(final, str) else final.get("text") if isinstance(final, Mapping) else None
    if not isinstance(text, str):
        return Bypass("the last message does not end in text")
    emptied = SENTINEL if isinstance(final, str) else {**final, "text": SENTINEL}
    return [*conversation[:-1], {**last, "content": [*content[:-1], emptied]}], text


def _kind(part: Any) -> str:
    if isinstance(part, str):
        return "text"
    return str(part.get("type", "text" if "text" in part else "")) if isinstance(part, Mapping) else ""


_PLAIN_PARTS: Final = _TEXT_PARTS | {"output_text", "refusal", "thinking", "redacted_thinking", "reasoning"}
_TOOL_PARTS: Final = frozenset(["tool_use", "tool_result", "server_tool_use"])


def _sees_more_than_text(message: Mapping[str, Any]) -> bool:
    """Whether a message carries an image, audio, a file or anything else that is no text."""
    kind = message.get("type")
    if isinstance(kind, str) and kind in ("input_image", "input_file", "input_audio", "item_reference"):
        return True
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return bool(message.get("images") or message.get("attachments") or message.get("audio"))
    for part in content:
        found = _kind(part)
        if found in _TOOL_PARTS:
            inner = part.get("content")
            if isinstance(inner, list | tuple) and any(_kind(piece) not in _PLAIN_PARTS for piece in inner):
                return True
        elif found not in _PLAIN_PARTS:
            return True
    return bool(message.get("images") or message.get("attachments") or message.get("audio"))


def unfit(value: Any) -> str | None:
    """Why an answer may not stand for other questions: a model's refusal, or an answer that was cut off."""
    if not isinstance(value, Mapping):
        return None
    for name in ("finish_reason", "stop_reason", "finishReason"):
        if str(value.get(name, "")).lower() in _FINISHED_BADLY:
            return f"{name} is {value[name]!r}"
    if value.get("status") in ("incomplete", "failed", "cancelled"):
        return f"status is {value['status']!r}"
    if value.get("refusal") or value.get("error"):
        return "the model refused" if value.get("refusal") else "the answer is an error"
    for name in ("choices", "output", "content", "candidates"):
        listed = value.get(name)
        if isinstance(listed, list | tuple):
            for item in listed:
                found = unfit(item)
                if found:
                    return found
                if isinstance(item, Mapping) and item.get("type") == "refusal":
                    return "the model refused"
    message = value.get("message")
    return unfit(message) if isinstance(message, Mapping) else None

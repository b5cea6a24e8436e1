"""LangChain's messages as the cache keys and stores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from agentcache_adapters.answers import provider_of, unfinished
from agentcache_core import Cost
from agentcache_core.pricing import cost_of

_ROLES = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "function",
}
_RECORDS = frozenset({"type", "id", "response_metadata", "usage_metadata", "example"})


def keyed_message(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A message's fields as they count in a key: provider-neutral role, no records of earlier answers, no defaults."""
    kind = str(fields.get("type", ""))
    role = fields.get("role") if kind in ("chat", "ChatMessageChunk") else _ROLES.get(kind, kind)
    message: dict[str, Any] = {"role": role}
    for name, value in fields.items():
        if name in _RECORDS or (name != "content" and value in (None, [], {}, "")):
            continue
        message[name] = value
    further = message.pop("additional_kwargs", None) or {}
    # The raw calls of the provider beside the parsed ones: the same calls with ids that are not renumbered.
    drop = {"tool_calls", "function_call"} if "tool_calls" in message else set()
    kept = {name: value for name, value in further.items() if name not in drop and value is not None}
    return message | ({"additional_kwargs": kept} if kept else {})


def message_problem(message: BaseMessage) -> str:
    """Why a model's message may not be stored, or an empty string."""
    if message.additional_kwargs.get("refusal"):
        return "the model refused"
    return unfinished(message.response_metadata)


def message_value(message: BaseMessage) -> dict[str, Any]:
    """A message as a value of plain types. Ids of runs are left out: a graph must be able to hold an answer twice."""
    value = message_to_dict(message)
    value["data"]["id"] = None
    return value


def message_from(value: dict[str, Any]) -> BaseMessage:
    """The message in a value."""
    return messages_from_dict([value])[0]


def generations_value(generations: Sequence[Generation]) -> list[dict[str, Any]]:
    """Generations as a value of plain types; `TypeError` for a class of generation this adapter does not know."""
    return [_generation_value(generation) for generation in generations]


def _generation_value(generation: Generation) -> dict[str, Any]:
    kind = type(generation).__name__
    if kind not in _GENERATIONS:
        raise TypeError(f"generations of type {kind} are not stored")
    value: dict[str, Any] = {"kind": kind, "generation_info": generation.generation_info}
    if isinstance(generation, ChatGeneration):
        return value | {"message": message_value(generation.message)}
    return value | {"text": str(generation.text)}


_GENERATIONS: dict[str, type[Generation]] = {
    kind.__name__: kind for kind in (Generation, GenerationChunk, ChatGeneration, ChatGenerationChunk)
}


def generations_from(value: Iterable[dict[str, Any]]) -> list[Generation]:
    """Fresh generations from a value; LangChain changes them afterwards, so they are never shared."""
    made: list[Generation] = []
    for stored in value:
        content = {"message": message_from(stored["message"])} if "message" in stored else {"text": stored["text"]}
        made.append(_GENERATIONS[stored["kind"]](generation_info=stored["generation_info"], **content))
    return made


def generations_problem(generations: Sequence[Generation]) -> str:
    """Why generations may not be stored, or an empty string."""
    if not generations:
        return "there is no answer"
    for generation in generations:
        problem = unfinished(generation.generation_info or {})
        if not problem and isinstance(generation, ChatGeneration):
            problem = message_problem(generation.message)
        if problem:
            return problem
    return ""


def cost_of_messages(messages: Iterable[BaseMessage], *, seconds: float = 0.0) -> Cost:
    """What the answers cost by the price book, from LangChain's usage metadata; no tokens where there is none."""
    total = Cost(seconds=seconds)
    for message in messages:
        usage = getattr(message, "usage_metadata", None)
        if not usage:
            continue
        about, details = message.response_metadata, usage.get("input_token_details") or {}
        report = {
            "prompt_tokens": usage.get("input_tokens", 0),
            "completion_tokens": usage.get("output_tokens", 0),
            "prompt_tokens_details": {"cached_tokens": details.get("cache_read") or 0},
        }
        model = str(about.get("model_name") or about.get("model") or "")
        total += cost_of(str(about.get("model_provider") or provider_of(model)), model, report)
    return total

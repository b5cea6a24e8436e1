"""What adapters above the wire can tell of an answer: whether it ended well, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentcache_core import Cost
from agentcache_core.pricing import cost_of

# Many providers, many words; an answer without any of them is taken to have ended well.
_UNFINISHED = frozenset(
    [
        "length", "max_tokens", "MAX_TOKENS", "content_filter", "SAFETY", "RECITATION", "refusal", "pause_turn",
        "model_context_window_exceeded", "incomplete", "failed", "cancelled", "error",
    ]
)  # fmt: skip


def unfinished(record: Mapping[str, Any]) -> str:
    """Why a record of one answer says that it did not end well, or an empty string."""
    for name in ("finish_reason", "stop_reason", "done_reason", "status"):
        reason = record.get(name)
        if isinstance(reason, str) and reason in _UNFINISHED:
            return f"{name} is {reason}"
    return ""


def raw_problem(raw: Any) -> str:
    """Why a provider's own answer, as a mapping, may not be stored; empty where nothing speaks against it."""
    if not isinstance(raw, Mapping):
        return ""
    choices = raw.get("choices")
    further = [choice for choice in choices if isinstance(choice, Mapping)] if isinstance(choices, list) else []
    for record in [raw, *further]:
        message = record.get("message")
        if isinstance(message, Mapping) and message.get("refusal"):
            return "the model refused"
        if reason := unfinished(record):
            return reason
    return ""


def raw_cost(raw: Any, *, seconds: float = 0.0) -> Cost:
    """What a provider's own answer, as a mapping, cost by the price book; no tokens where it does not report them."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("usage"), Mapping):
        return Cost(seconds=seconds)
    model = str(raw.get("model") or "")
    return cost_of(provider_of(model), model, raw["usage"], seconds=seconds)


def provider_of(model: str) -> str:
    """The provider a model's name belongs to, for the price book, where nothing else says."""
    return "anthropic" if model.startswith("claude") else "openai"

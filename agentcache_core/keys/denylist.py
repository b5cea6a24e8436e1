"""The deny-list: the few places of a model call that do not count in its key, each with the reason.

Everything else counts. The list is part of the key scheme: taking an entry away would let answers stored without that
field be served to requests that differ in it, so any change here needs a new `KEY_SCHEME`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

DENYLIST_VERSION: Final = 1

When = Literal["always", "null", "empty"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One place that does not count. `[*]` is any index, a final `*` any name.

    `when` narrows the rule to values that are null, or that are null or an empty list or mapping; `types` to mappings
    whose own `type` is one of these.
    """

    path: str
    reason: str
    when: When = "always"
    types: frozenset[str | None] | None = None

    def applies_to(self, value: object, inside: Mapping[Any, object]) -> bool:
        """Whether a value found at this rule's path, in the mapping `inside`, is left out."""
        if self.types is not None:
            kind = inside.get("type")
            if not (kind is None or isinstance(kind, str)) or kind not in self.types:
                return False
        if self.when == "always":
            return True
        return value is None or (self.when == "empty" and isinstance(value, (list, tuple, dict)) and not value)


_TRANSPORT = "how the call travels, not what is asked"
_BOOKKEEPING = "bookkeeping at the provider; the answer does not depend on it"
_PROMPT_CACHE = "a hint to the provider's own prompt cache; the answer does not depend on it"
_NOISE_HEADERS = ("Idempotency-Key", "idempotency-key", "X-Request-ID", "x-request-id", "traceparent", "tracestate")
_HEADERS = tuple(Rule(f"extra_headers.{name}", _TRANSPORT) for name in _NOISE_HEADERS)
_CLIENT = (
    Rule("timeout", _TRANSPORT),
    Rule("max_retries", _TRANSPORT),
    Rule("idempotency_key", _TRANSPORT),
    *_HEADERS,
)

PROVIDERS: Final[dict[str, tuple[Rule, ...]]] = {
    "openai": (
        *_CLIENT,
        Rule("user", _BOOKKEEPING),
        Rule("metadata", _BOOKKEEPING),
        Rule("safety_identifier", _BOOKKEEPING),
        Rule("service_tier", "how fast and at what price, not what is answered"),
        Rule("prompt_cache_key", _PROMPT_CACHE),
        Rule("prompt_cache_retention", _PROMPT_CACHE),
    ),
    "anthropic": (
        *_CLIENT,
        Rule("metadata", _BOOKKEEPING),
        Rule("service_tier", "how fast and at what price, not what is answered"),
        Rule("cache_control", _PROMPT_CACHE),
        Rule("system[*].cache_control", _PROMPT_CACHE),
        Rule("tools[*].cache_control", _PROMPT_CACHE),
    ),
    "replicate": (
        *_CLIENT,
        Rule("webhook", _TRANSPORT),
        Rule("webhook_events_filter", _TRANSPORT),
        Rule("wait", _TRANSPORT),
    ),
}
"""Rules for the parameters of a model call, by the request's `provider`. Any other provider: everything counts."""

ID_IS_NOISE: Final = frozenset(
    {
        None,
        "message",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "ai",
        "human",
        "system",
        "tool",
    }
)
"""Values of a message's `type` (None: it has none) for which its `id` does not count. Everywhere else
(`item_reference`, `reasoning`, `image_generation_call` …) the id names something kept at the provider, and counts."""

_ECHO = "the provider's record of an earlier answer, passed back; not part of what the model reads"
_UNSET = "a field an SDK object has but nobody set; absent in the same message as plain JSON"

MESSAGES: Final[tuple[Rule, ...]] = (
    Rule("messages[*].*", _UNSET, "null"),
    Rule("messages[*].id", _ECHO, types=ID_IS_NOISE),
    Rule("messages[*].object", _ECHO),
    Rule("messages[*].created", _ECHO),
    Rule("messages[*].created_at", _ECHO),
    Rule("messages[*].usage", _ECHO),
    Rule("messages[*].usage_metadata", _ECHO),
    Rule("messages[*].response_metadata", _ECHO),
    Rule("messages[*].system_fingerprint", _ECHO),
    Rule("messages[*].parsed", "made by the SDK from `content`, which counts"),
    Rule("messages[*].annotations", _UNSET, "empty"),
    Rule("messages[*].tool_calls", _UNSET, "empty"),
    Rule("messages[*].provider_specific_fields", _UNSET, "empty"),
    Rule("messages[*].cache_control", _PROMPT_CACHE),
    Rule("messages[*].content[*].*", _UNSET, "null"),
    Rule("messages[*].content[*].annotations", _UNSET, "empty"),
    Rule("messages[*].content[*].logprobs", _UNSET, "empty"),
    Rule("messages[*].content[*].cache_control", _PROMPT_CACHE),
    Rule("messages[*].content[*].content[*].*", _UNSET, "null"),
    Rule("messages[*].content[*].content[*].cache_control", _PROMPT_CACHE),
    Rule("messages[*].tool_calls[*].*", _UNSET, "null"),
    Rule("messages[*].tool_calls[*].index", "the position in a stream it was assembled from"),
    Rule("messages[*].tool_calls[*].function.*", _UNSET, "null"),
    Rule("messages[*].tool_calls[*].function.parsed_arguments", "made by the SDK from `arguments`, which counts"),
)
"""Rules for the messages of a model call of any provider. In a request with `input` they hold for its items."""

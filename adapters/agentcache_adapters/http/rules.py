"""Which calls a transport may answer from the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from agentcache_adapters.http.anthropic_messages import AnthropicMessages
from agentcache_adapters.http.messages import HttpCall
from agentcache_adapters.http.openai_chat import OpenAIChat, OpenAIEmbeddings
from agentcache_adapters.http.openai_responses import OpenAIResponses
from agentcache_adapters.http.wire import Wire

MODEL_WIRES: tuple[Wire, ...] = (OpenAIChat(), OpenAIResponses(), OpenAIEmbeddings(), AnthropicMessages())


@dataclass(frozen=True, slots=True)
class Rule:
    """One family of plain HTTP calls that may be cached: all three patterns must match (`*` and `?` as in a shell).

    `ttl` and `tags` go to every entry the rule stores. `stream_end` is the `data` of the event that ends an event
    stream of this family; without it such streams are never stored.
    """

    methods: tuple[str, ...] = ("GET",)
    hosts: tuple[str, ...] = ("*",)
    paths: tuple[str, ...] = ("*",)
    ttl: float | str | None = None
    tags: tuple[str, ...] = ()
    stream_end: str | None = None

    def __post_init__(self) -> None:
        for field in ("methods", "hosts", "paths", "tags"):
            if isinstance(getattr(self, field), str):
                raise TypeError(
                    f"Rule({field}=…) takes a tuple of strings, not one string: write ({getattr(self, field)!r},)"
                )

    def matches(self, call: HttpCall) -> bool:
        """Whether this rule covers `call`."""
        return (
            call.method in {method.upper() for method in self.methods}
            and any(fnmatchcase(call.host.lower(), pattern.lower()) for pattern in self.hosts)
            and any(fnmatchcase(call.path, pattern) for pattern in self.paths)
        )


@dataclass(frozen=True, slots=True)
class CacheRules:
    """What a transport caches: the model calls it knows (`models`), and plain calls by rule; the first match wins.

    `hosts` narrows the model calls to these host patterns. `provider_tools=True` also caches calls in which the
    provider runs tools itself (web search, code execution); without it they bypass, because their answers depend on
    more than the request. `max_body` bounds, in bytes, what is read of a request and kept of an answer.
    """

    rules: tuple[Rule, ...] = ()
    models: bool = True
    hosts: tuple[str, ...] = ("*",)
    provider_tools: bool = False
    ttl: float | str | None = None
    tags: tuple[str, ...] = ()
    max_body: int = 64 * 1024 * 1024

    def covers(self, call: HttpCall) -> bool:
        """Whether the body of `call` is worth reading: a cheap test on method, host and path alone."""
        if self.models and call.method == "POST" and self._host_allowed(call) and call.path.endswith(_MODEL_PATHS):
            return True
        return self.rule_for(call) is not None

    def rule_for(self, call: HttpCall) -> Rule | None:
        """The first plain rule that matches."""
        return next((rule for rule in self.rules if rule.matches(call)), None)

    def wires_for(self, call: HttpCall) -> Iterable[Wire]:
        """The model formats that may apply to `call`."""
        return MODEL_WIRES if self.models and call.method == "POST" and self._host_allowed(call) else ()

    def _host_allowed(self, call: HttpCall) -> bool:
        return any(fnmatchcase(call.host.lower(), pattern.lower()) for pattern in self.hosts)


_MODEL_PATHS = ("/completions", "/responses", "/embeddings", "/messages")

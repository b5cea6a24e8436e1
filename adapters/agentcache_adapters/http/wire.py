"""One provider wire format: how its calls are recognised, when they bypass, when an answer is whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from agentcache_adapters.http.verdict import StreamTracker, Verdict, sequence, text


class Wire(Protocol):
    """The decisions that depend on one provider's format. Stateless; trackers hold the state of a stream."""

    @property
    def name(self) -> str:
        """Short name used in events and headers, such as `openai.chat`."""
        ...

    @property
    def provider(self) -> str:
        """The provider named in the key."""
        ...

    @property
    def embeds(self) -> bool:
        """Whether these calls ask for embeddings."""
        ...

    def recognises(self, path: str, body: dict[str, Any]) -> bool: ...

    def bypass(self, body: dict[str, Any], *, provider_tools: bool) -> str:
        """Why this call must not be answered from a cache, or an empty string."""
        ...

    def judge(self, answer: dict[str, Any]) -> Verdict:
        """Whether a complete JSON answer may be stored."""
        ...

    def tracker(self) -> StreamTracker:
        """A fresh follower for one stream of this format."""
        ...


@dataclass(frozen=True, slots=True)
class ToolKinds:
    """The tool types that the caller runs itself; every other type is run by the provider."""

    exact: frozenset[str]
    prefixes: tuple[str, ...] = ()

    def provider_run(self, tools: object) -> str:
        """The first tool type that the provider would run, or an empty string."""
        for tool in sequence(tools):
            kind = text(tool.get("type")) if isinstance(tool, dict) else ""
            if kind not in self.exact and not kind.startswith(self.prefixes or ("\0",)):
                return kind
        return ""


def stated(body: dict[str, Any], names: Iterable[str]) -> str:
    """The first of `names` that `body` sets to something other than null, false or empty."""
    return next((name for name in names if body.get(name)), "")

"""One exchange as both faces see it: what comes from upstream, what goes to the caller, what is said about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from agentcache_adapters.http.headers import CONTROL_PREFIX
from agentcache_adapters.http.messages import Headers, ResponseHead
from agentcache_adapters.http.recording import Recording

B = TypeVar("B")
Outcome = Literal["hit", "miss", "joined", "bypass"]
Pace = Literal["full", "recorded"]


@dataclass(frozen=True, slots=True)
class Opened(Generic[B]):
    """An upstream answer whose body has not been read: `source` is what the client library gave, still encoded."""

    head: ResponseHead
    source: B
    extensions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply(Generic[B]):
    """What a caller gets: `body` is iterated once and closed."""

    status: int
    headers: Headers
    body: B
    extensions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A recording from the cache and how it was found."""

    recording: Recording
    how: str = "exact"
    age: float = 0.0


def hit_headers(found: Found, outcome: Outcome = "hit", *, annotate: bool) -> Headers:
    """The headers of a replayed answer, and of one made here."""
    headers = found.recording.replay_headers()
    if not annotate or outcome != "hit":
        return annotated(headers, outcome, annotate=annotate)
    return (*headers, (CONTROL_PREFIX, f"hit; how={found.how}"), (f"{CONTROL_PREFIX}-age", str(int(found.age))))


def annotated(headers: Headers, outcome: Outcome, reason: str = "", *, annotate: bool) -> Headers:
    """`headers` with what the cache did, unless it is to stay silent."""
    if not annotate:
        return headers
    said = (CONTROL_PREFIX, outcome), *([(f"{CONTROL_PREFIX}-reason", _header_safe(reason))] if reason else [])
    return (*headers, *said)


def _header_safe(reason: str) -> str:
    return reason.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")[:200]


def not_cached() -> Recording:
    """The answer to `only-if-cached` when nothing is stored: 504 as in RFC 9111, section 5.2.1.7, and no retries."""
    error = {
        "message": "only-if-cached was asked for and nothing is stored",
        "type": "not_cached",
        "code": "not_cached",
    }
    body = json.dumps({"type": "error", "error": error}).encode()
    return Recording(504, (("content-type", "application/json"), ("x-should-retry", "false")), body)

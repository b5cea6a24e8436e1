"""Answers kept for a buyer: what the model proxy and the partners' calls ask before they go out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from agentcache_core import MISSING
from agentcache_core.errors import KeyingError
from agentcache_service.cacheapi.engine import CacheEngine

NAMESPACE = "market"


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer worth repeating: its body and type, and what it cost when it was computed."""

    body: bytes
    content_type: str
    cost: int
    input_tokens: int = 0
    output_tokens: int = 0


class ResponseCache(Protocol):
    """Keeps answers per organization; one organization's answers are never another's."""

    def get(self, org_id: str, request: Mapping[str, Any]) -> KeptAnswer | None:
        """The answer to an equal request, or None."""
        ...

    def put(self, org_id: str, request: Mapping[str, Any], answer: KeptAnswer, *, ttl_s: int) -> None:
        """Keep an answer for some seconds."""
        ...


class EngineResponses:
    """Answers in the engine, each organization in its own tenant, under a namespace of their own."""

    def __init__(self, engine: CacheEngine) -> None:
        self._engine = engine

    def get(self, org_id: str, request: Mapping[str, Any]) -> KeptAnswer | None:
        """Look up; a request that has no key is a miss."""
        try:
            found = self._engine.view(org_id, NAMESPACE).get(dict(request))
        except KeyingError:
            return None
        return None if found is MISSING else KeptAnswer(**found)

    def put(self, org_id: str, request: Mapping[str, Any], answer: KeptAnswer, *, ttl_s: int) -> None:
        """Keep, unless the request has no key."""
        with suppress(KeyingError):
            self._engine.view(org_id, NAMESPACE).set(dict(request), asdict(answer), ttl=f"{ttl_s}s")

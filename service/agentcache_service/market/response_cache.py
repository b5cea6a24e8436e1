"""Answers kept for a buyer: what the model proxy and the partners' calls ask before they go out."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agentcache_service.clock import Clock


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


class MemoryResponses:
    """Answers in this process's memory: bounded, oldest use dropped first."""

    def __init__(self, clock: Clock, *, max_bytes: int = 64 << 20) -> None:
        self._clock = clock
        self._left = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, KeptAnswer]] = OrderedDict()

    def get(self, org_id: str, request: Mapping[str, Any]) -> KeptAnswer | None:
        """Look up and freshen."""
        name = (org_id, _name(request))
        with self._lock:
            found = self._kept.get(name)
            if found is None:
                return None
            if found[0] <= self._clock.now().timestamp():
                self._drop(name)
                return None
            self._kept.move_to_end(name)
            return found[1]

    def put(self, org_id: str, request: Mapping[str, Any], answer: KeptAnswer, *, ttl_s: int) -> None:
        """Keep, making room first."""
        name = (org_id, _name(request))
        with self._lock:
            if name in self._kept:
                self._drop(name)
            self._left -= len(answer.body)
            self._kept[name] = (self._clock.now().timestamp() + ttl_s, answer)
            while self._left < 0 and self._kept:
                self._drop(next(iter(self._kept)))

    def _drop(self, name: tuple[str, str]) -> None:
        self._left += len(self._kept.pop(name)[1].body)


def _name(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

"""The tap: what lookups were like, collected without blocking them, for figures and monitoring partners."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

CAPACITY = 20_000


@dataclass(frozen=True, slots=True)
class Lookup:
    """One lookup: whose, of which provider's answer, hit or miss, how long it took and what it saved (micro-USD)."""

    org_id: str
    provider: str
    model: str
    hit: bool
    milliseconds: float
    saved: int
    at: datetime


class Tap:
    """A bounded queue between the calls and the background: when it is full, the oldest are dropped and counted."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Lookup] = deque(maxlen=capacity)
        self.dropped = 0

    def note(self, org_id: str, request: object, *, hit: bool, milliseconds: float, saved: int, at: datetime) -> None:
        """Remember a lookup. Takes a fraction of a microsecond and never waits for anybody."""
        provider = model = ""
        if isinstance(request, Mapping):
            provider, model = str(request.get("provider", "")), str(request.get("model", request.get("version", "")))
        with self._lock:
            self.dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(Lookup(org_id, provider[:60], model[:120], hit, milliseconds, saved, at))

    def drain(self) -> list[Lookup]:
        """Everything collected since the last time."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        return taken

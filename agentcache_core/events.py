"""What the cache tells about itself: one small record per noteworthy thing, to whoever subscribed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentcache_core.errors import ConfigurationError

_log = logging.getLogger("agentcache")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `name` is one of the names below; `detail` holds plain values, never secrets.

    Names: hit, miss, store, bypass, not_stored, invalidate, evict, refresh, stale_served, backend_error, breaker_open,
    breaker_closed, corrupt, unreadable, unstorable, joined, not_joined, dropped, pending, gap, semantic, audit.
    """

    name: str
    tenant: str = ""
    namespace: str = ""
    kind: str = ""
    tier: str = ""
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], object]


class Events:
    """The subscribers of one cache. `active` is False while nobody listens, so that no event is built for nobody."""

    __slots__ = ("_listeners", "active")

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self.active = False

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(event)` for every event from now on, on the thread where it happens; it should be quick.

        Answers a function that ends the subscription. A listener that raises is logged and stays subscribed.
        """
        if not callable(listener):
            raise ConfigurationError(f"subscribe takes a function of one event, got {type(listener).__name__}")
        self._listeners = (*self._listeners, listener)
        self.active = True

        def unsubscribe() -> None:
            self._listeners = tuple(known for known in self._listeners if known is not listener)
            self.active = bool(self._listeners)

        return unsubscribe

    def tell(self, name: str, **fields: Any) -> None:
        """Build and hand out an event when somebody listens."""
        if not self.active:
            return
        event = Event(name, **fields)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - a listener's fault must not become the agent's
                _log.exception("a listener failed on event %s", name)

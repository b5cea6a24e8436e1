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

    def of(self, tenant: str, namespace: str) -> TenantEvents:
        """The same events as one tenant may hear and tell them."""
        return TenantEvents(self, tenant, namespace)

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


class TenantEvents:
    """The events of one tenant: nothing that happens to another is heard here, and what is told here is told as its
    own."""

    __slots__ = ("_all", "_namespace", "_tenant")

    def __init__(self, every: Events, tenant: str, namespace: str) -> None:
        self._all = every
        self._tenant = tenant
        self._namespace = namespace

    @property
    def active(self) -> bool:
        """Whether anybody listens to this cache."""
        return self._all.active

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """As `Events.subscribe`, for the events of this tenant."""
        if not callable(listener):
            raise ConfigurationError(f"subscribe takes a function of one event, got {type(listener).__name__}")
        return self._all.subscribe(lambda event: listener(event) if event.tenant == self._tenant else None)

    def tell(self, name: str, **fields: Any) -> None:
        """As `Events.tell`, of this tenant and namespace."""
        self._all.tell(name, **{"tenant": self._tenant, "namespace": self._namespace, **fields})

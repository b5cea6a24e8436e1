"""What a caller asks of one call, beside its key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agentcache_core.codec.serialize import Serializer
from agentcache_core.model import DEFAULT_CONTROL, CacheControl, Computed, Cost
from agentcache_core.policy.freshness import FOREVER, Lifetime


@dataclass(frozen=True, slots=True)
class Wish:
    """How long to keep an answer, under which tags, at what cost, and how to treat this call."""

    lifetime: Lifetime
    tags: tuple[str, ...] = ()
    cost: Cost | None = None
    control: CacheControl = DEFAULT_CONTROL
    durable: bool = False
    content_type: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    store_if: Callable[[Any], bool] | None = None
    serializers: tuple[Serializer, ...] = ()

    def entry_meta(self) -> dict[str, Any]:
        """What an entry carries along: the caller's own facts, and how its life is to be prolonged."""
        meta = dict(self.meta)
        if self.lifetime.sliding and self.lifetime.ttl is not None:
            meta["sliding"] = self.lifetime.ttl
        if self.lifetime.eager:
            meta["eager"] = self.lifetime.eager
        return meta

    def knowing(self, computed: Computed) -> Wish:
        """The wish together with what the computation said about its own answer."""
        more = tuple(tag for tag in computed.tags if tag not in self.tags)
        return replace(self, cost=self.cost or computed.cost, tags=self.tags + more)


DEFAULT_WISH = Wish(FOREVER)
"""What a call that says nothing asks for."""

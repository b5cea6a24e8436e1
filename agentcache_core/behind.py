"""What is written behind the caller: to tiers that are written back, to a slow authority, and what memory gives up.

Whatever is invalidated while it waits is not written. Closing the cache writes what is left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from agentcache_core.allowance import used_up
from agentcache_core.backend import Version
from agentcache_core.background import Background
from agentcache_core.cuts import Cuts
from agentcache_core.events import Events
from agentcache_core.keys import Key
from agentcache_core.placing import Answer, Late, Placing
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.store.entries import EntryRecord

Ended = Callable[[Answer, Callable[[], bool]], Awaitable[None]]


class Behind:
    """The writes of one cache that nobody waits for."""

    def __init__(self, placing: Placing, background: Background, events: Events) -> None:
        self._placing = placing
        self._tiers = placing.tiers
        self._background = background
        self._events = events
        if background.enabled:
            self._tiers.pending.behind = self._pay

    async def _pay(self, rt: Runtime, work: Callable[[], Coroutine[Any, Any, None]], key: object) -> bool:
        """Make good what a tier has missed."""
        return await self._background.submit(rt, "pending", work, key=key)

    async def write_back(self, rt: Runtime, space: Space, key: Key, record: EntryRecord, *, since: int | None) -> bool:
        """Write to the authority later; answers whether that was taken on."""
        cuts = Cuts(space)
        begun = cuts.begin()
        fallen = _fallen(cuts, begun, since, key, record)

        async def work() -> None:
            try:
                await self._placing.write(rt, space, key, record, computed=True, unless=fallen)
            finally:
                cuts.end()

        taken = await self._background.submit(rt, "write-back", work)
        if not taken:
            cuts.end()
        return taken

    async def finish(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        record: EntryRecord,
        *,
        over: Version | None,
        since: int | None,
        ended: Ended,
    ) -> bool:
        """Go on with a write whose call may wait no longer for the authority; answers whether that was taken on.

        `over` is what the write has seen in its place. The caller is told that nothing is stored; `ended` hears what
        became of it. What was written or removed meanwhile stays so.
        """
        authority = self._tiers.authority
        if authority is None or not self._background.enabled or not used_up(authority.name):
            return False
        cuts = Cuts(space)
        begun = cuts.begin()
        fallen = _fallen(cuts, begun, since, key, record)

        async def work() -> None:
            try:
                late = Late(over)
                answer = await self._placing.write(rt, space, key, record, computed=True, unless=fallen, late=late)
                await ended(answer, fallen)
            finally:
                cuts.end()

        taken = await self._background.submit(rt, "write behind", work, key=("behind", space.prefix, key))
        if not taken:
            cuts.end()
            return False
        self._events.tell(
            "pending",
            tenant=space.tenant,
            namespace=space.namespace,
            kind=key.kind,
            tier=authority.name,
            reason="the call may wait no longer: its write goes on behind it",
        )
        return True

    async def spill(self, rt: Runtime, space_of: Callable[[str, str], Space]) -> None:
        """Hand what the memory tier has given up to the tiers that are written around."""
        near = self._tiers.near
        while near is not None and near.spilled:
            (tenant, namespace, kind), slot = near.spilled.popleft()
            if not slot.packed or slot.record is None:
                continue
            space = space_of(tenant, namespace)
            record = replace(slot.record, payload=slot.value)
            plain = record.plain
            key = Key(kind, slot.key) if plain is None or slot.key != plain else space.keys.key(plain)
            cuts = Cuts(space)
            begun = cuts.begin()
            fallen = _fallen(cuts, begun, None, key, record)
            try:
                await self._placing.write(rt, space, key, record, computed=True, unless=fallen, spilling=True)
            finally:
                cuts.end()


def _fallen(cuts: Cuts, begun: int, since: int | None, key: Key, record: EntryRecord) -> Callable[[], bool]:
    """Whether something that concerns a record was invalidated since it was begun to be computed, or written."""
    first = begun if since is None else min(since, begun)
    tags = [tag for tag, _ in record.tags]

    def fallen() -> bool:
        return not cuts.stands(first, key.address, key.plain, tags)

    return fallen

"""Copying what a colder tier answered into the hotter ones: memory takes it at once, other tiers what has earned it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agentcache_core.keys import Key
from agentcache_core.policy.worth import WINDOW, earns_copy
from agentcache_core.runtime import Runtime
from agentcache_core.settling import Copy, settle_many
from agentcache_core.space import Generation, Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Found, StoredTier

MOST_SEEN = 10_000


class Recent:
    """The entries read lately: a name counts for `WINDOW` seconds, and for as long as fewer than `MOST_SEEN` others are
    read after it. O(1), and never more than twice as many names are held."""

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._now: dict[bytes, float] = {}
        self._before: dict[bytes, float] = {}

    def again(self, name: bytes, now: float) -> bool:
        """Note that an entry is read; answers whether it was read lately."""
        seen = self._now.get(name)
        if seen is None:
            seen = self._before.get(name)
            if len(self._now) >= MOST_SEEN:
                self._before, self._now = self._now, {}
        self._now[name] = now
        return seen is not None and now - seen <= WINDOW


class Promotion:
    """The promotions of one cache. `now` is the wall clock; `authority` the tier whose answers are the truth."""

    def __init__(self, stored: Sequence[StoredTier], authority: StoredTier | None, now: Callable[[], float]) -> None:
        self._stored = stored
        self._authority = authority
        self._now = now
        self._recent = Recent()

    def stood(self, space: Space, key: Key) -> None:
        """A hotter tier has a copy that may not be served: it had earned its place, and has it as soon as it is
        read again."""
        self._recent.again(space.entry_name(key), self._now())

    async def promote(
        self, rt: Runtime, space: Space, found: Sequence[tuple[Key, Found]], version: int, known: Generation | None
    ) -> None:
        """Copy entries into the hotter stored tiers that take them, in one request to each, unless something was
        invalidated since `version` was read. `known` is the generation known before they were read."""
        hotter = self._stored[: max(entry.depth for _, entry in found)]
        if not hotter:
            return
        now = self._now()
        earned = [
            (key, entry)
            for key, entry in found
            if earns_copy(entry.record.cost, len(entry.value), again=self._recent.again(space.entry_name(key), now))
        ]
        for depth, tier in enumerate(hotter):
            if not tier.spec.promote or space.version != version:
                continue
            copies: list[Copy] = [
                (key, tier.limited(self._confirmed(entry, known), now))
                for key, entry in earned
                if entry.depth > depth and tier.takes(len(entry.value))
            ]
            if copies:
                await settle_many(rt, space, tier, copies, absent=True)

    def _confirmed(self, found: Found, known: Generation | None) -> EntryRecord:
        """The record as a copy carries it: what the authority answered stood there after every change known before."""
        at_authority = self._authority is not None and found.tier == self._authority.name
        if not at_authority or known is None or known.lineage != found.record.lineage:
            return found.record
        return replace(found.record, confirmed=max(known.seq, found.record.seq))

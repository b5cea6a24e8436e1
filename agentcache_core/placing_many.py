"""Writing many entries at once: the requests of one write, each for all of them, and one generation for what they
replace. What somebody else writes meanwhile is left to be written by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

from agentcache_core.backend import Stored, Version
from agentcache_core.batch import fetch
from agentcache_core.placing import Answer, Placing, follows, no_earlier, unservable
from agentcache_core.runtime import Runtime
from agentcache_core.settling import Copy, settle_many
from agentcache_core.space import Space
from agentcache_core.tier import StoredTier, Trouble
from agentcache_core.tiering import TOMBSTONE


def _never() -> bool:
    return False


class PlacingMany:
    """Carries many writes at once through the tiers of one cache."""

    def __init__(self, placing: Placing) -> None:
        self._placing = placing
        self._tiers = placing.tiers

    async def write(self, rt: Runtime, space: Space, entries: Sequence[Copy]) -> list[Answer | None]:
        """Write entries to the authority, then to the other tiers: one round trip each where nothing stands in their
        place. Answers what became of each, None for those that are left to `Placing.write`."""
        authority = self._tiers.authority
        assert authority is not None
        around = authority.spec.write == "around" and self._tiers.near is not None
        if around or not all(authority.takes(record.size) for _, record in entries):
            return [None] * len(entries)
        now = self._tiers.clock.now()
        taken = [(key, replace(authority.limited(record, now), confirmed=None)) for key, record in entries]
        for key, _ in taken:
            space.access.computed(key.digest)
        placed = await authority.placed_many(rt, space, taken)
        if isinstance(placed, Trouble):
            return [Answer(False, trouble=placed.error)] * len(entries)
        versions = await authority.put_many(rt, space, placed, if_absent=True)
        if isinstance(versions, Trouble):
            return [Answer(False, trouble=versions.error)] * len(entries)
        answers: list[Answer | None] = [None if version is None else Answer(True) for version in versions]
        refused = [index for index, answer in enumerate(answers) if answer is None]
        if refused:
            for index, answer in zip(
                refused, await self._replace(rt, space, authority, [placed[index] for index in refused]), strict=True
            ):
                answers[index] = answer
        for tier in self._tiers.stored:
            if tier is not authority:
                await self._copy(rt, space, tier, entries, answers)
        if self._tiers.near is not None and self._tiers.follower is not None:
            await self._tiers.follower.notice(rt, space)
        return answers

    async def _replace(
        self, rt: Runtime, space: Space, authority: StoredTier, entries: Sequence[Copy]
    ) -> list[Answer | None]:
        """Write entries over what stands on the authority."""
        names = [space.entry_name(key) for key, _ in entries]
        store = authority.store(rt.face)
        read = await authority.attempt(space, "get_many", fetch(store, [*names, space.generation_name]))
        if isinstance(read, Trouble):
            return [Answer(False, trouble=read.error)] * len(entries)
        *stood, generation = read
        if unservable(entries[0][1], generation):  # a write of many has one stamp; each by itself takes another
            return [None] * len(entries)
        over: list[Version | None] = [stored.version if stored else None for stored in stood]
        olds = [
            await authority.record_in(rt, space, name, stored) if stored else None
            for name, stored in zip(names, stood, strict=True)
        ]
        entries = [(key, no_earlier(record, old)) for (key, record), old in zip(entries, olds, strict=True)]
        versions = await authority.put_many(rt, space, entries, over=over)
        if isinstance(versions, Trouble):
            return [Answer(False, trouble=versions.error, over=old) for old in over]
        answers: list[Answer | None] = [None if version is None else Answer(True) for version in versions]
        replaced = [
            index
            for index, old in enumerate(olds)
            if old is not None and old.kind != TOMBSTONE and answers[index] is not None
        ]
        if replaced:
            await self._tell(rt, space, authority, entries, versions, generation, replaced, answers)
        return answers

    async def _tell(
        self,
        rt: Runtime,
        space: Space,
        authority: StoredTier,
        entries: Sequence[Copy],
        versions: Sequence[Version | None],
        generation: Stored | object,
        replaced: Sequence[int],
        answers: list[Answer | None],
    ) -> None:
        """Tell that entries were replaced. `generation` is the record as it was read before that."""
        bumped = await authority.attempt(space, "generation", self._placing.bump(rt, space, cut=False))
        if isinstance(bumped, Trouble):
            for index in replaced:
                answers[index] = Answer(False, trouble=bumped.error)
            return
        keys = [entries[index][0] for index in replaced]
        await self._placing.publish(rt, space, bumped, *(("request", key.kind, key.address) for key in keys))
        stands = set(replaced)
        if not follows(bumped, generation):
            # Others changed something in between: it may have been some of these, after us.
            names = [space.entry_name(key) for key in keys]
            now = await authority.attempt(space, "get_many", fetch(authority.store(rt.face), names))
            stands = set()
            if not isinstance(now, Trouble):
                pairs = zip(replaced, now, strict=True)
                stands = {index for index, stored in pairs if stored and stored.version == versions[index]}
        for index in replaced:
            answers[index] = Answer(True, replaced=bumped, overtaken=index not in stands)

    async def _copy(
        self,
        rt: Runtime,
        space: Space,
        tier: StoredTier,
        entries: Sequence[Copy],
        answers: Sequence[Answer | None],
    ) -> None:
        """Bring another tier in step with what the authority has just taken."""
        absent: list[Copy] = []
        older: list[Copy] = []
        for (key, record), answer in zip(entries, answers, strict=True):
            if answer is not None and answer.stored:
                placed, fresh = self._placing.copy_of(rt, tier, record, answer, unless=_never)
                if placed is not None:
                    (absent if fresh else older).append((key, placed))
        if absent:
            later = functools.partial(self._settle, rt, space, tier, absent, fresh=True)
            if not await self._placing.deferred(rt, tier, later):
                await later()
        if older:
            await self._settle(rt, space, tier, older, fresh=False)

    async def _settle(
        self, rt: Runtime, space: Space, tier: StoredTier, copies: Sequence[Copy], *, fresh: bool
    ) -> None:
        if not isinstance(await settle_many(rt, space, tier, copies, absent=fresh), Trouble):
            if self._tiers.pending:
                await self._tiers.pending.drained(rt, tier, space)  # it is back
        elif not fresh:
            tombstones = [(key, self._placing.tombstone(record)) for key, record in copies]
            await self._placing.missed(rt, space, tier, tombstones)

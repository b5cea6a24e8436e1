"""Writing and removing through the tiers: the authority first, then the others, and what to do when one is away."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentcache_core.authority import TOMBSTONE_SECONDS
from agentcache_core.backend import Stored, Version
from agentcache_core.batch import fetch
from agentcache_core.errors import BackendError, CorruptFrame
from agentcache_core.following import MAX_EVENT, Change, encode_event
from agentcache_core.keys import Key
from agentcache_core.model import Freshness
from agentcache_core.policy.freshness import freshness
from agentcache_core.records import decode_generation
from agentcache_core.runtime import Runtime
from agentcache_core.settling import Copy, settle
from agentcache_core.space import Generation, Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import StoredTier, Trouble
from agentcache_core.tiering import TOMBSTONE, Tiers

Defer = Callable[[Runtime, str, Callable[[], Coroutine[Any, Any, None]]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write came to: whether the authority has it, whether its condition refused it, or what went wrong.

    `replaced` is the generation that an overwrite led to, None where nothing stood there. `overtaken` says that
    somebody else wrote over it before that generation was told. `over` is the version that stood in the entry's place
    when something went wrong, where that was seen. `refused` is why the authority does not take such an answer.
    """

    stored: bool
    outdated: bool = False
    trouble: BackendError | None = None
    replaced: Generation | None = None
    overtaken: bool = False
    refused: str = ""
    over: Version | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """The terms of a write whose call is over: it may take the place of nothing but `over`, and of itself where an
    attempt whose answer did not arrive was carried out. Whoever wrote meanwhile knew better."""

    over: Version | None

    def allows(self, version: Version, old: EntryRecord | None, record: EntryRecord) -> bool:
        return version == self.over or (old is not None and old.identity == record.identity)


class Placing:
    """Carries writes and removals through the tiers of one cache. `defer` runs a body later, for tiers that are
    written back; it answers whether it will."""

    def __init__(self, tiers: Tiers, defer: Defer | None = None) -> None:
        self.tiers = tiers
        self._defer = defer

    async def write(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        record: EntryRecord,
        *,
        computed: bool,
        unless: Callable[[], bool],
        renew: Callable[[], Awaitable[bool]] | None = None,
        spilling: bool = False,
        late: Late | None = None,
    ) -> Answer:
        """Write one entry to the authority, then to the other tiers. `computed` answers never replace what was
        removed or overwritten after their computation began; `unless()` says so for this process. An authority that
        is written around takes what is `spilling` from a hotter tier, and what replaces something it holds."""
        authority = self.tiers.authority
        assert authority is not None
        space.access.computed(key.digest)
        if unless():
            return Answer(False, outdated=True)
        if not authority.takes(record.size):
            return await self._refuse(rt, space, key, record, authority, computed=computed)
        if authority.spec.write == "around" and not spilling and self.tiers.near is not None:
            name = space.entry_name(key)
            held = await authority.attempt(space, "get", authority.store(rt.face).get(name))
            if not isinstance(held, Trouble) and not held:
                return Answer(True)
        answer = await self._write_authority(
            rt, space, key, record, authority, computed=computed, renew=renew, spilling=spilling, late=late
        )
        if answer.trouble is not None or answer.outdated:
            return answer
        for tier in self.tiers.stored:
            if tier is not authority:
                await self._copy(rt, space, key, tier, record, answer, unless=unless)
        if self.tiers.near is not None and self.tiers.follower is not None:
            await self.tiers.follower.notice(rt, space)
        return answer

    async def _copy(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        tier: StoredTier,
        record: EntryRecord,
        answer: Answer,
        *,
        unless: Callable[[], bool],
    ) -> None:
        """Bring another tier in step with what the authority has just taken."""
        placed, fresh = self.copy_of(rt, tier, record, answer, unless=unless)
        if placed is None:
            return
        later = functools.partial(self._settle, rt, space, key, tier, placed, fresh=fresh)
        # What replaces an older copy does not wait in line: a process that died meanwhile would leave that copy.
        if not (fresh and await self.deferred(rt, tier, later)):
            await later()

    def copy_of(
        self, rt: Runtime, tier: StoredTier, record: EntryRecord, answer: Answer, *, unless: Callable[[], bool]
    ) -> tuple[EntryRecord | None, bool]:
        """What another tier is to hold of what the authority took: a copy, a tombstone, or nothing; and whether
        nothing older can stand there."""
        fresh = answer.replaced is None and not self._forgets(rt)
        # A copy is told which change it is confirmed by, so that a slower writer of an older answer cannot put it
        # there afterwards.
        told = record if answer.replaced is None else replace(record, confirmed=answer.replaced.seq)
        if tier.spec.write != "around" and tier.takes(record.size) and not answer.overtaken and not unless():
            return tier.limited(told, self.tiers.clock.now()), fresh
        return (None if fresh else self.tombstone(told)), fresh

    async def deferred(self, rt: Runtime, tier: StoredTier, later: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Whether a tier that is written back will be written later."""
        return tier.spec.write == "back" and self._defer is not None and await self._defer(rt, "write-back", later)

    def _forgets(self, rt: Runtime) -> bool:
        """Whether the authority gives entries up by itself, so that other tiers may hold what it does not."""
        authority = self.tiers.authority
        return authority is not None and bool(authority.store(rt.face).capabilities.bounded)

    async def _settle(
        self, rt: Runtime, space: Space, key: Key, tier: StoredTier, record: EntryRecord, *, fresh: bool
    ) -> None:
        if not isinstance(await settle(rt, space, key, tier, record), Trouble):
            if self.tiers.pending:
                await self.tiers.pending.drained(rt, tier, space)  # it is back
        elif not fresh:
            await self.missed(rt, space, tier, [(key, self.tombstone(record))])

    async def _write_authority(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        record: EntryRecord,
        tier: StoredTier,
        *,
        computed: bool,
        renew: Callable[[], Awaitable[bool]] | None,
        spilling: bool,
        late: Late | None,
    ) -> Answer:
        record = replace(tier.limited(record, self.tiers.clock.now()), confirmed=None)
        over: Version | None = None
        for _ in range(8):
            version = await tier.put(rt, space, key, record, if_absent=True)
            if isinstance(version, Trouble):
                return Answer(False, trouble=version.error, over=over)
            if version is not None:
                return Answer(True)
            name = space.entry_name(key)
            read = await tier.attempt(space, "get", fetch(tier.store(rt.face), [name, space.generation_name]))
            if isinstance(read, Trouble):
                return Answer(False, trouble=read.error, over=over)
            stored, generation = read
            if not stored:
                continue
            old = await tier.record_in(rt, space, name, stored)
            if late is not None and not late.allows(stored.version, old, record):
                return Answer(False, outdated=True)
            if unservable(record, generation):
                if computed:
                    return Answer(False, outdated=True)
                # The caller holds this value now: it is stored after that invalidation, not before it.
                stamp = await self.tiers.stamp(rt, space, [tag for tag, _ in record.tags], fresh=True)
                if isinstance(stamp, Trouble):
                    return Answer(False, trouble=stamp.error, over=over)
                record = replace(record, lineage=stamp.lineage, seq=stamp.seq, tags=stamp.tags)
                continue
            newer = old is not None and old.lineage == record.lineage and old.seq + spilling > record.seq
            if computed and (newer or (renew is not None and not await renew())):
                return Answer(False, outdated=True)
            record = no_earlier(record, old)
            over = stored.version
            version = await tier.put(rt, space, key, record, if_version=over)
            if isinstance(version, Trouble):
                return Answer(False, trouble=version.error, over=over)
            if version is None:
                continue
            if old is not None and old.kind != TOMBSTONE:
                answer = await self._replaced(rt, space, key, tier, version, generation)
                return answer if answer.trouble is None else replace(answer, over=over)
            return Answer(True)
        return Answer(False, trouble=BackendError("the entry kept changing while it was being written"))

    async def _refuse(
        self, rt: Runtime, space: Space, key: Key, record: EntryRecord, tier: StoredTier, *, computed: bool
    ) -> Answer:
        """An answer that the authority does not take is kept nowhere: no other tier would hear when it is replaced.
        What it would have replaced is true no more, so that goes."""
        name = space.entry_name(key)
        stored = await tier.attempt(space, "get", tier.store(rt.face).get(name))
        if isinstance(stored, Trouble):
            return Answer(False, trouble=stored.error)
        old = await tier.record_in(rt, space, name, stored) if stored else None
        if old is not None and old.kind != TOMBSTONE:
            newer = computed and old.lineage == record.lineage and old.seq > record.seq
            removed = False if newer else await self.remove(rt, space, key)
            if isinstance(removed, Trouble):
                return Answer(False, trouble=removed.error)
        return Answer(False, refused="larger than the authority takes")

    async def _replaced(
        self, rt: Runtime, space: Space, key: Key, tier: StoredTier, version: Version, generation: Stored | Any
    ) -> Answer:
        """Tell that an entry was replaced. `generation` is the record as it was read before that."""
        bumped = await tier.attempt(space, "generation", self.bump(rt, space, cut=False))
        if isinstance(bumped, Trouble):
            return Answer(False, trouble=bumped.error)
        await self.publish(rt, space, bumped, ("request", key.kind, key.address))
        if follows(bumped, generation):
            return Answer(True, replaced=bumped)
        # Others changed something in between: it may have been this entry, after us.
        now = await tier.attempt(space, "get", tier.store(rt.face).get(space.entry_name(key)))
        stands = not isinstance(now, Trouble) and bool(now) and now.version == version
        return Answer(True, replaced=bumped, overtaken=not stands)

    async def bump(self, rt: Runtime, space: Space, *, cut: bool) -> Generation:
        """Tell a change, and with it what is owed elsewhere anyway. Raises `BackendError`."""
        held, pending = self.tiers.of(rt, space), self.tiers.pending
        owes = bool(pending) and pending.owes(space)
        generation = await held.bump(cut=cut, lost=owes)
        if owes:
            pending.marked(space, held.replaced, generation)
        return generation

    async def remove(self, rt: Runtime, space: Space, key: Key) -> bool | Trouble:
        """Remove one entry everywhere, leaving a tombstone on the authority; answers whether there was one."""
        existed = False
        if self.tiers.near is not None:
            existed = self.tiers.near.remove(self.tiers.near.home(space.tenant, space.namespace, key.kind), key.address)
        tier = self.tiers.authority
        if tier is None:
            return existed
        buried = await tier.attempt(space, "delete", self._bury(rt, space, key, tier))
        unheard: Trouble | None = None
        for other in self.tiers.stored:
            if other is tier:
                continue
            if isinstance(buried, Trouble):
                # The invalidation is journalled, and nothing is read in this process before it is made good.
                await other.delete(rt, space, key)
            elif isinstance(
                failed := await settle(rt, space, key, other, buried[1]), Trouble
            ) and not await self.missed(rt, space, other, [(key, buried[1])]):
                unheard = failed  # others would still be served the copy there: this removal is not done
        if isinstance(buried, Trouble):
            return buried
        return buried[0] if unheard is None else unheard

    def tombstone(self, like: EntryRecord) -> EntryRecord:
        """What stands in the place of an entry that must not be served, stamped like another record."""
        now = self.tiers.clock.now()
        return EntryRecord(TOMBSTONE, now, b"", expires_at=now + TOMBSTONE_SECONDS, lineage=like.lineage, seq=like.rank)

    async def _bury(self, rt: Runtime, space: Space, key: Key, tier: StoredTier) -> tuple[bool, EntryRecord]:
        """Put a tombstone on the authority; answers whether an entry stood there, and the tombstone."""
        name, held = space.entry_name(key), self.tiers.of(rt, space)
        stored, record_of_generation = await held.read([name, space.generation_name])
        held.observe(record_of_generation)
        existed = False
        if stored:
            record = await tier.record_in(rt, space, name, stored)
            if record is not None and record.kind != TOMBSTONE:
                gone = freshness(record.stale_at, record.expires_at, self.tiers.clock.now()) is Freshness.GONE
                existed = not gone and await held.servable(record)
        # First the tombstone, then the change: whoever read the old entry knew the old generation at most.
        tombstone: EntryRecord | None = None
        if space.generation is not None:
            known = space.generation
            tombstone = self.tombstone(EntryRecord("", 0.0, lineage=known.lineage, seq=known.seq + 1))
            await tier.put_named(rt, space, name, tombstone, {})
        generation = await self.bump(rt, space, cut=True)
        if tombstone is None or (tombstone.lineage, tombstone.seq) != (generation.lineage, generation.seq):
            tombstone = self.tombstone(EntryRecord("", 0.0, lineage=generation.lineage, seq=generation.seq))
            await tier.put_named(rt, space, name, tombstone, {})
        await self.publish(rt, space, generation, ("request", key.kind, key.address))
        return existed, tombstone

    async def publish(self, rt: Runtime, space: Space, generation: Generation, *changes: Change) -> None:
        """Tell the log what moved the generation, where the authority has one. An event that is lost costs other
        processes their near copies, nothing else."""
        tier = self.tiers.authority
        store: Any = None if tier is None else tier.store(rt.face)
        if tier is not None and hasattr(store, "append"):
            try:
                event = encode_event(tier.pipeline(space), generation, *changes)
            except TypeError:
                return  # a key that is no proper text (a lone surrogate), which no event can name
            if len(event) <= MAX_EVENT:
                await tier.attempt(space, "log", store.append(space.prefix, event))

    async def missed(self, rt: Runtime, space: Space, tier: StoredTier, tombstones: Sequence[Copy]) -> bool:
        """A middle tier did not take a change: its old copies must not be served, here or by others. Answers whether
        others know by now."""
        self.tiers.events.tell("pending", tenant=space.tenant, namespace=space.namespace, tier=tier.name)
        return await self.tiers.pending.missed(rt, space, tier, tombstones)


def _read(stored: Stored | Any) -> Generation | None:
    try:
        return decode_generation(stored.data) if stored else None
    except CorruptFrame:
        return None


def follows(new: Generation, before: Stored | Any) -> bool:
    """Whether a generation is the very next one after a record that was read."""
    old = _read(before)
    return old is not None and (old.lineage, old.seq + 1) == (new.lineage, new.seq)


def no_earlier(record: EntryRecord, old: EntryRecord | None) -> EntryRecord:
    """An entry as it is to stand in the place of another, or of a tombstone: no earlier than that, so that an answer
    whose computation began before a removal replaces it no more than it would have replaced the tombstone."""
    if old is not None and old.lineage == record.lineage and old.seq > record.seq:
        return replace(record, seq=old.seq)
    return record


def unservable(record: EntryRecord, stored: Stored | Any) -> bool:
    """Whether the whole namespace was invalidated since an entry's computation began: it must replace nothing."""
    generation = _read(stored)
    return generation is None or generation.lineage != record.lineage

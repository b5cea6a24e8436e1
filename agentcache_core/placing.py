"""Writing and removing through the tiers: the authority first, then the others, and what to do when one is away."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentcache_core.authority import TOMBSTONE_SECONDS
from agentcache_core.errors import BackendError
from agentcache_core.following import Change, encode_event
from agentcache_core.keys import Key
from agentcache_core.model import Freshness
from agentcache_core.policy.freshness import freshness
from agentcache_core.runtime import Runtime
from agentcache_core.space import Generation, Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import StoredTier, Trouble
from agentcache_core.tiering import TOMBSTONE, Tiers, settle

Defer = Callable[[Runtime, str, Callable[[], Coroutine[Any, Any, None]]], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a write came to: whether the authority has it, whether its condition refused it, or what went wrong.
    `seq` is that of the generation the overwrite led to, where it was one."""

    stored: bool
    outdated: bool = False
    trouble: BackendError | None = None
    seq: int | None = None


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
    ) -> Answer:
        """Write one entry to the authority, then to the other tiers. `computed` answers never replace what was
        removed or overwritten after their computation began; `unless()` says so for this process. An authority that
        is written around takes what is `spilling` from a hotter tier, and what replaces something it holds."""
        size = record.size
        authority = self.tiers.authority
        assert authority is not None
        space.access.computed(key.digest)
        if unless():
            return Answer(False, outdated=True)
        if authority.spec.write == "around" and not spilling and self.tiers.near is not None:
            name = space.entry_name(key)
            held = await authority.attempt(space, "get", authority.store(rt.face).get(name))
            if not isinstance(held, Trouble) and not held:
                return Answer(True)
        answer = await self._write_authority(
            rt, space, key, record, authority, computed=computed, renew=renew, spilling=spilling
        )
        if isinstance(answer, Trouble):
            return Answer(False, trouble=answer.error)
        if answer.outdated:
            return answer
        # Other tiers take the newest seq, so that a slower writer of an older answer cannot put it there afterwards.
        newest = record if answer.seq is None else replace(record, seq=answer.seq)
        for tier in self.tiers.stored:
            if tier is authority or (tier.spec.write == "around" and answer.seq is None):
                continue
            kept = tier.spec.write != "around" and tier.takes(size) and not unless()
            placed = tier.limited(newest, self.tiers.clock.now()) if kept else self._tombstone(newest)
            if not kept and answer.seq is None:
                continue  # nothing stood on the authority, so nothing older stands here
            later = functools.partial(self._settle, rt, space, key, tier, placed)
            back = tier.spec.write == "back" and self._defer is not None
            if not (back and self._defer is not None and await self._defer(rt, "write-back", later)):
                await later()
        if self.tiers.near is not None and self.tiers.follower is not None:
            await self.tiers.follower.notice(rt, space)
        return answer

    async def _settle(self, rt: Runtime, space: Space, key: Key, tier: StoredTier, record: EntryRecord) -> None:
        if isinstance(await settle(rt, space, key, tier, record), Trouble):
            await self._missed(rt, space, tier, key)

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
    ) -> Answer | Trouble:
        record = tier.limited(record, self.tiers.clock.now())
        for _ in range(8):
            version = await tier.put(rt, space, key, record, if_absent=True)
            if isinstance(version, Trouble):
                return version
            if version is not None:
                return Answer(True)
            name = space.entry_name(key)
            stored = await tier.attempt(space, "get", tier.store(rt.face).get(name))
            if isinstance(stored, Trouble):
                return stored
            if not stored:
                continue
            try:
                old: EntryRecord | None = tier.decode(space, name, stored)
            except BackendError:
                old = None
            newer = old is not None and old.lineage == record.lineage and old.seq + spilling > record.seq
            if computed and (newer or (renew is not None and not await renew())):
                return Answer(False, outdated=True)
            version = await tier.put(rt, space, key, record, if_version=stored.version)
            if isinstance(version, Trouble):
                return version
            if version is None:
                continue
            if old is not None and old.kind != TOMBSTONE:
                bumped = await tier.attempt(space, "generation", self.tiers.of(rt, space).bump(cut=False))
                if isinstance(bumped, Trouble):
                    return bumped
                await self.publish(rt, space, bumped, ("request", key.kind, key.address))
                return Answer(True, seq=bumped.seq)
            return Answer(True)
        return Trouble(BackendError("the entry kept changing while it was being written"))

    async def write_many(self, rt: Runtime, space: Space, entries: Sequence[tuple[Key, EntryRecord]]) -> list[bool]:
        """Write entries where nothing stands yet, one round trip per tier; answers which were written so. The others
        are left to `write`."""
        authority = self.tiers.authority
        assert authority is not None
        now = self.tiers.clock.now()
        answers = await authority.put_many(
            rt, space, [(key, authority.limited(record, now)) for key, record in entries], if_absent=True
        )
        if isinstance(answers, Trouble):
            return [False] * len(entries)
        written = [answer is not None for answer in answers]
        fresh = [entry for entry, was_absent in zip(entries, written, strict=True) if was_absent]
        for tier in self.tiers.stored:
            if tier is authority or tier.spec.write == "around":
                continue
            taken = [(key, tier.limited(record, now)) for key, record in fresh if tier.takes(record.size)]
            if isinstance(await tier.put_many(rt, space, taken, if_absent=True), Trouble):
                for key, _ in taken:
                    await self._missed(rt, space, tier, key)
        return written

    async def remove(self, rt: Runtime, space: Space, key: Key) -> bool | Trouble:
        """Remove one entry everywhere, leaving a tombstone on the authority; answers whether there was one."""
        existed = False
        if self.tiers.near is not None:
            existed = self.tiers.near.remove(self.tiers.near.home(space.tenant, space.namespace, key.kind), key.address)
        tier = self.tiers.authority
        if tier is None:
            return existed
        buried = await tier.attempt(space, "delete", self._bury(rt, space, key, tier))
        tombstone = None if isinstance(buried, Trouble) else buried[1]
        for other in self.tiers.stored:
            if other is tier:
                continue
            if tombstone is None:
                outcome: Any = await other.delete(rt, space, key)
            else:
                outcome = await settle(rt, space, key, other, tombstone)
            if isinstance(outcome, Trouble):
                await self._missed(rt, space, other, key)
        return buried if isinstance(buried, Trouble) else buried[0]

    def _tombstone(self, like: EntryRecord) -> EntryRecord:
        """What stands in the place of an entry that must not be served, stamped like another record."""
        now = self.tiers.clock.now()
        return EntryRecord(TOMBSTONE, now, b"", expires_at=now + TOMBSTONE_SECONDS, lineage=like.lineage, seq=like.seq)

    async def _bury(self, rt: Runtime, space: Space, key: Key, tier: StoredTier) -> tuple[bool, EntryRecord]:
        """Put a tombstone on the authority; answers whether an entry stood there, and the tombstone."""
        store, name, held = tier.store(rt.face), space.entry_name(key), self.tiers.of(rt, space)
        stored, record_of_generation = await held.read([name, space.generation_name])
        held.observe(record_of_generation)
        existed = False
        if stored:
            try:
                record = tier.decode(space, name, stored)
            except BackendError:
                existed = False
            else:
                gone = freshness(record.stale_at, record.expires_at, self.tiers.clock.now()) is Freshness.GONE
                existed = record.kind != TOMBSTONE and not gone and await held.servable(record)
        generation: Generation = await held.bump(cut=True)
        tombstone = self._tombstone(EntryRecord("", 0.0, lineage=generation.lineage, seq=generation.seq))
        await store.put(name, tier.encode(space, name, tombstone), expires_at=tombstone.expires_at)
        await self.publish(rt, space, generation, ("request", key.kind, key.address))
        return existed, tombstone

    async def publish(self, rt: Runtime, space: Space, generation: Generation, change: Change) -> None:
        """Tell the log what moved the generation, where the authority has one. An event that is lost costs other
        processes their near copies, nothing else."""
        tier = self.tiers.authority
        store: Any = None if tier is None else tier.store(rt.face)
        if tier is not None and hasattr(store, "append"):
            event = encode_event(tier.pipeline(space), generation, change)
            await tier.attempt(space, "log", store.append(space.prefix, event))

    async def _missed(self, rt: Runtime, space: Space, tier: StoredTier, key: Key) -> None:
        """A middle tier did not take a write: its old copy must not be served, here or by others."""
        self.tiers.pending.add(tier, space, key)
        self.tiers.events.tell("pending", tenant=space.tenant, namespace=space.namespace, tier=tier.name)
        assert self.tiers.authority is not None
        await self.tiers.authority.attempt(space, "generation", self.tiers.of(rt, space).bump(cut=False, lost=True))

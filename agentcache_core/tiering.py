"""The tiers in order: find from the hottest, promote on worth, write through, remove everywhere.

The authority (the coldest shared tier, or the only durable one) holds the truth; every other tier holds near copies.
A near copy is served while its namespace was confirmed within `max_staleness`; each read from the authority confirms
it on the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from agentcache_core.authority import StoredAuthority, verdict
from agentcache_core.clock import Clock
from agentcache_core.errors import ConfigurationError
from agentcache_core.events import Events
from agentcache_core.following import Follower
from agentcache_core.keys import Key
from agentcache_core.model import Freshness
from agentcache_core.near import NearTier, Slot
from agentcache_core.pending import Pending
from agentcache_core.policy.freshness import freshness
from agentcache_core.promoting import Promotion
from agentcache_core.runtime import Face, Runtime
from agentcache_core.space import Generation, Space, Stamp
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Found, StoredTier, Trouble

T = TypeVar("T")
TOMBSTONE = ""
"""The kind of a tombstone record: no request has it."""
PLAIN_KINDS = ("text", "asset")
"""The kinds whose keys may be plain text or bytes, which patterns are matched against."""
LOCAL_LINEAGE = b"\0" * 16


class Tiers:
    """The tiers of one cache. `near` is the memory tier when there is one; `stored` the others, hottest first."""

    def __init__(
        self,
        near: NearTier | None,
        stored: Sequence[StoredTier],
        *,
        clock: Clock,
        events: Events,
        max_staleness: float,
        face: Face,
    ) -> None:
        self.near = near
        self.stored = tuple(stored)
        self.clock = clock
        self.events = events
        self.max_staleness = max_staleness
        self.authority = _authority(self.stored, face)
        if self.authority is not None and self.authority.min_value:
            raise ConfigurationError(
                f"Tier(min_value=…) cannot be set for {self.authority.name}: it is the authority of this cache, "
                "and what it does not take is not stored at all; give the hotter tiers limits instead"
            )
        self.before_authority: Callable[[Runtime, Space], Awaitable[bool]] | None = None
        self.journalled: set[Space] = set()
        self.follower: Follower | None = None
        self.pending = Pending(self.of, self._of_authority)
        self.promotion = Promotion(self.stored, self.authority, clock.now)

    @property
    def local(self) -> bool:
        """Whether the truth is in this process: no tier but memory."""
        return self.authority is None

    def of(self, rt: Runtime, space: Space) -> StoredAuthority:
        """The authority of a namespace, on the face that asks."""
        assert self.authority is not None
        return StoredAuthority(
            self.authority.store(rt.face),
            space,
            self.authority.pipeline(space),
            monotonic=self.clock.monotonic(),
            max_staleness=self.max_staleness,
            unproven=lambda: self._unproven(space),
        )

    async def _of_authority(self, space: Space, work: Awaitable[T]) -> T | Trouble:
        assert self.authority is not None
        return await self.authority.attempt(space, "generation", work)

    # Finding

    async def find(self, rt: Runtime, space: Space, key: Key) -> Found | None:
        """The servable entry of a key from the hottest tier that has it, promoted into hotter ones."""
        if not await self._ready(rt, space):
            return None
        version, known = space.version, space.generation
        if self.near is not None and (self.local or await self._trusted(rt, space)):
            found = self._find_near(space, key)
            if found is not None:
                return found
        for depth, tier in enumerate(self.stored):
            found = await self._find_stored(rt, space, key, tier, depth)
            if found is not None:
                await self.promote(rt, space, key, found, version, known)
                return found
        return None

    async def _ready(self, rt: Runtime, space: Space) -> bool:
        """Whether the authority knows every invalidation this process has made, after trying again."""
        if space.doubted and not await self._proven(rt, space):
            return False
        if space not in self.journalled:
            return True
        return self.before_authority is not None and await self.before_authority(rt, space)

    async def _proven(self, rt: Runtime, space: Space) -> bool:
        """Whether it is known by now if the authority has lost changes; then what it has is no longer served."""
        assert self.authority is not None
        proof = await self.authority.attempt(space, "prove", self.of(rt, space).prove())
        return not isinstance(proof, Trouble)

    async def _trusted(self, rt: Runtime, space: Space) -> bool:
        """Whether near copies of a namespace may be served; asks the authority when that was not confirmed lately."""
        if self.clock.monotonic() < space.trusted_until:
            return True
        if not await self._asked(rt, space, "confirm"):
            return False
        return not space.doubted or await self._proven(rt, space)

    async def _asked(self, rt: Runtime, space: Space, verb: str) -> bool:
        """Learn the generation of a namespace from its authority; answers whether that answered."""
        assert self.authority is not None
        held = self.of(rt, space)
        answer = await self.authority.attempt(space, verb, held.read([space.generation_name]))
        if isinstance(answer, Trouble):
            return False
        held.observe(answer[0])
        return True

    def _unproven(self, space: Space) -> None:
        """Others have changed something: no near copy of this namespace is proven, nor is one being promoted."""
        with space.lock:
            space.version += 1
        self.drop_near(space)

    def drop_near(self, space: Space) -> None:
        """Forget every near copy of a namespace in this process."""
        if self.near is not None:
            for _, home in self.near.homes(space.tenant, space.namespace):
                self.near.remove_many(home, list(home))

    async def drop_copies(self, rt: Runtime, space: Space, key: Key) -> None:
        """Forget the copies of one entry outside the authority, so that the next reader asks that."""
        if self.local:
            return
        if self.near is not None:
            self.near.remove(self.near.home(space.tenant, space.namespace, key.kind), key.address)
        for tier in self.stored:
            if tier is not self.authority:
                await tier.delete(rt, space, key)

    def _find_near(self, space: Space, key: Key) -> Found | None:
        assert self.near is not None
        home = self.near.home(space.tenant, space.namespace, key.kind)
        slot = home.get(key.address)
        if slot is None:
            return None
        record = record_of(slot, key.kind)
        if freshness(record.stale_at, record.expires_at, self.clock.now()) is Freshness.GONE:
            self.near.remove(home, slot.key, only=slot)
            return None
        slot.used = 1
        return Found(record, slot.value, slot.packed, self.near.name, -1)

    async def _find_stored(self, rt: Runtime, space: Space, key: Key, tier: StoredTier, depth: int) -> Found | None:
        if self.pending and not await self.pending.drained(rt, tier, space):
            return None
        at_authority = tier is self.authority
        if not at_authority and not await self._trusted(rt, space):
            return None
        answer = await tier.read(rt, space, key, depth, generation=at_authority)
        if isinstance(answer, Trouble):
            return None
        found, generation = answer
        if found is None:
            if at_authority:
                self.of(rt, space).observe(generation)
            return None
        if not await self._servable(rt, space, tier, found.record, generation if at_authority else None):
            if not at_authority:
                self.promotion.stood(space, key)
            return None
        tier.counted_hit(space)
        space.access.hit(key.digest, self.clock.now())
        return found

    async def find_many(self, rt: Runtime, space: Space, keys: Sequence[Key]) -> list[Found | None]:
        """`find` for several keys, one round trip per tier."""
        answers: list[Found | None] = [None] * len(keys)
        if not await self._ready(rt, space):
            return answers
        version, known = space.version, space.generation
        if self.near is not None and (self.local or await self._trusted(rt, space)):
            answers = [self._find_near(space, key) for key in keys]
        for depth, tier in enumerate(self.stored):
            left = [index for index, found in enumerate(answers) if found is None]
            if not left:
                break
            if self.pending and not await self.pending.drained(rt, tier, space):
                continue
            at_authority = tier is self.authority
            if not (at_authority or await self._trusted(rt, space)):
                continue
            read = await tier.read_many(rt, space, [keys[index] for index in left], depth, generation=at_authority)
            if isinstance(read, Trouble):
                continue
            found_many, generation = read
            if at_authority:
                self.of(rt, space).observe(generation)
                if space.doubted and not await self._proven(rt, space):
                    continue
            await self._learn(rt, space, [found.record for found in found_many if found is not None])
            served = []
            for index, found in zip(left, found_many, strict=True):
                if found is None:
                    continue
                if await self._servable(rt, space, tier, found.record, None):
                    tier.counted_hit(space)
                    space.access.hit(keys[index].digest, self.clock.now())
                    answers[index] = found
                    served.append((keys[index], found))
                elif not at_authority:
                    self.promotion.stood(space, keys[index])
            await self.promote_many(rt, space, served, version, known)
        return answers

    async def _learn(self, rt: Runtime, space: Space, records: Sequence[EntryRecord]) -> None:
        """Read at once what is not known of the tags of several entries."""
        unknown = {tag for record in records for tag, _ in record.tags if tag not in space.tag_epochs}
        if unknown and len(records) > 1 and self.authority is not None:
            await self.authority.attempt(space, "epochs", self.of(rt, space).learn(sorted(unknown)))

    async def _servable(
        self, rt: Runtime, space: Space, tier: StoredTier, record: EntryRecord, generation: Any
    ) -> bool:
        """Whether an entry just read may be served, by its expiry and by what the authority says."""
        if freshness(record.stale_at, record.expires_at, self.clock.now()) is Freshness.GONE:
            return False
        held = self.of(rt, space)
        if generation is not None:
            held.observe(generation)
            if space.doubted and not await self._proven(rt, space):
                return False
        elif tier is not self.authority and space.generation is not None and record.rank < space.generation.lost:
            return False  # an overwrite may not have reached this tier
        answer = verdict(record, space)
        if answer == "unknown":
            assert self.authority is not None
            asked = await self.authority.attempt(space, "epochs", held.servable(record))
            return asked is True
        return answer == "servable"

    async def promote(
        self, rt: Runtime, space: Space, key: Key, found: Found, version: int, known: Generation | None = None
    ) -> None:
        """Copy an entry into the hotter tiers, unless something was invalidated since `version` was read. `known` is
        the generation known before the entry was read, which its copies are then confirmed by."""
        await self.promote_many(rt, space, [(key, found)], version, known)

    async def promote_many(
        self, rt: Runtime, space: Space, found: Sequence[tuple[Key, Found]], version: int, known: Generation | None
    ) -> None:
        """`promote` for several entries, in one request to each tier."""
        if not found:
            return
        near = [] if self.near is None else [entry for entry in found if self.near.takes(len(entry[1].value))]
        if near and self.follower is not None:
            await self.follower.notice(rt, space)
        for key, entry in near:
            self.keep_near(space, key, entry.record, entry.value, packed=True, unless=lambda: space.version != version)
        await self.promotion.promote(rt, space, found, version, known)

    def keep_near(
        self,
        space: Space,
        key: Key,
        record: EntryRecord,
        value: Any,
        *,
        packed: bool,
        unless: Callable[[], bool] | None = None,
    ) -> bool:
        """Put an entry into the memory tier; `record` may be dropped there when it says nothing beyond two times."""
        near = self.near
        assert near is not None
        until = record.stale_at
        if record.meta.get("sliding") or record.meta.get("eager"):
            until = 0.0  # every hit takes the long way, where both are seen to
        home = near.home(space.tenant, space.namespace, key.kind)
        return near.put(
            home,
            key.address,
            value,
            packed=packed,
            until=until,
            born=record.created_at,
            record=self._slot_record(key, record),
            unless=unless,
        )

    def _slot_record(self, key: Key, record: EntryRecord) -> EntryRecord | None:
        """What a slot keeps of a record: nothing where its two times and its key say it all."""
        spills = self.near is not None and self.near.spilled is not None
        return replace(record, payload=None) if spills or key.sample or says_more(record) else None

    async def stamp(self, rt: Runtime, space: Space, tags: Sequence[str], *, fresh: bool) -> Stamp | Trouble:
        """What an entry that begins to be computed now must name."""
        if self.authority is None:
            return Stamp(LOCAL_LINEAGE, 0, tuple((tag, b"") for tag in tags))
        return await self.authority.attempt(space, "stamp", self.of(rt, space).stamp(tags, fresh=fresh))

    async def uncut(self, rt: Runtime, space: Space, stamp: Stamp) -> bool:
        """Whether nothing at all was invalidated in a namespace since a stamp was taken; False when that cannot be
        told."""
        if not await self._asked(rt, space, "stands"):
            return False
        generation = space.generation
        return generation is not None and generation.lineage == stamp.lineage and generation.cut <= stamp.seq

    async def stands(self, rt: Runtime, space: Space, key: Key, stamp: Stamp) -> bool:
        """Whether nothing that concerns a key was invalidated or removed since a stamp was taken; False when that
        cannot be told."""
        authority = self.authority
        if authority is None:
            return True
        name, held = space.entry_name(key), self.of(rt, space)
        answers = await authority.attempt(space, "stands", held.read([name, space.generation_name]))
        if isinstance(answers, Trouble):
            return False
        held.observe(answers[1])
        if space.doubted and not await self._proven(rt, space):
            return False
        if answers[0]:
            there = await authority.record_in(rt, space, name, answers[0])
            # A removal leaves its tombstone, and what is written in its place is no earlier.
            if there is None or (there.lineage == stamp.lineage and there.seq > stamp.seq):
                return False
        record = EntryRecord(key.kind, 0.0, plain=key.plain, tags=stamp.tags, lineage=stamp.lineage, seq=stamp.seq)
        return await authority.attempt(space, "epochs", held.servable(record)) is True


def _authority(stored: Sequence[StoredTier], face: Face) -> StoredTier | None:
    """The coldest shared tier, else the coldest durable one, else the coldest; None when there is only memory."""
    for wanted in ("shared", "durable"):
        for tier in reversed(stored):
            if getattr(tier.store(face).capabilities, wanted):
                return tier
    return stored[-1] if stored else None


def record_of(slot: Slot, kind: str) -> EntryRecord:
    """The record a slot stands for."""
    if slot.record is not None:
        return slot.record
    until = None if slot.until == float("inf") else slot.until
    plain = slot.key if isinstance(slot.key, str | bytes) and kind in PLAIN_KINDS else None
    return EntryRecord(kind, slot.born, plain=plain, stale_at=until, expires_at=until)


def says_more(record: EntryRecord) -> bool:
    """Whether a record holds anything that a slot's two times and its key do not."""
    return bool(
        record.tags
        or record.meta
        or record.request is not None
        or record.content_type is not None
        or record.stale_at != record.expires_at
        or record.cost.usd_micros
        or record.cost.seconds
        or record.cost.input_tokens
        or record.cost.output_tokens
    )

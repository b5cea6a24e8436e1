"""Storing answers: from a value and a wish to an entry in every tier that takes it, and the reasons why not."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agentcache_core.allowance import each_request, replenish
from agentcache_core.authority import verdict
from agentcache_core.background import Background
from agentcache_core.behind import Behind
from agentcache_core.codec.serialize import Serializer, dumps, is_bulky, is_immutable
from agentcache_core.cuts import Cuts
from agentcache_core.errors import BackendError, NotWritten, UnstorableValue
from agentcache_core.events import Events
from agentcache_core.keys import Key
from agentcache_core.leasing import Proof
from agentcache_core.model import Cost
from agentcache_core.placing import Answer, Placing
from agentcache_core.placing_many import PlacingMany
from agentcache_core.runtime import Runtime
from agentcache_core.settings import Settings
from agentcache_core.space import Space, Stamp
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Trouble
from agentcache_core.tiering import Tiers
from agentcache_core.wish import Wish

Then = Callable[[], Awaitable[None]]
After = Callable[[Runtime, Space, Key, object, Any, EntryRecord], Awaitable[None]]
AT_ONCE = 256
"""Entries of one `set_many` that are written together: what a log's event and a store's request can hold."""
NOT_TAKEN = "the authority did not take the write"


def _never() -> bool:
    return False


async def _done(then: Then | None) -> None:
    if then is not None:
        await then()


class Writer:
    """Puts answers into the tiers of one cache. `after` is awaited for each answer that was stored."""

    def __init__(
        self, tiers: Tiers, settings: Settings, events: Events, *, background: Background, after: After
    ) -> None:
        self._after = after
        self.placing = Placing(tiers, background.submit)
        self.together = PlacingMany(self.placing)
        self.behind = Behind(self.placing, background, events)
        self.spill = self.behind.spill
        if tiers.near is not None and any(tier.spec.write == "around" for tier in tiers.stored):
            tiers.near.spilled = deque()
        self.tiers = tiers
        self.settings = settings
        self.events = events
        self._now = settings.clock.now
        self._given = tuple(settings.serializers)
        self._named: dict[str, Serializer] = {}
        self.serializers = self._given

    def known(self, wish: Wish) -> tuple[Serializer, ...]:
        """The serializers of one call: those of types named now or by earlier calls (`returns=`), then the cache's."""
        for serializer in wish.serializers:
            if self._named.get(serializer.name) is not serializer:
                self._named = {**self._named, serializer.name: serializer}
                self.serializers = (*self._named.values(), *self._given)
        return self.serializers

    def pack(self, value: Any, wish: Wish) -> bytes:
        """The payload of a value; `UnstorableValue` where it would not come back equal in type and value."""
        return dumps(value, serializers=self.known(wish))

    async def packed(self, rt: Runtime, value: Any, wish: Wish) -> bytes:
        """`pack`, on a thread where it would hold up an event loop for long."""
        if rt.face == "async" and is_bulky(value):
            packed: bytes = await rt.offload(lambda: self.pack(value, wish))
            return packed
        return self.pack(value, wish)

    async def store(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        value: Any,
        wish: Wish,
        *,
        request: object = None,
        stamp: Stamp | None = None,
        since: int | None = None,
        proof: Proof | None = None,
    ) -> bool:
        """Store one answer; answers whether it is stored. `stamp` and `since` say when its computation began.

        Raises `UnstorableValue`, and with `durable` or `strict` `NotWritten`.
        """
        if not self.settings.writes or wish.control.no_store:
            return False
        if self.certain(wish):
            with each_request():
                return await self._store(rt, space, key, value, wish, request, stamp, since, proof)
        return await self._store(rt, space, key, value, wish, request, stamp, since, proof)

    def certain(self, wish: Wish | None) -> bool:
        """Whether a write must be done before its call ends, or be told as not done."""
        return self.settings.strict or (wish is not None and wish.durable)

    async def _store(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        value: Any,
        wish: Wish,
        request: object,
        stamp: Stamp | None,
        since: int | None,
        proof: Proof | None,
    ) -> bool:
        keep_object = self.tiers.local and is_immutable(value)
        payload = None if keep_object else await self.packed(rt, value, wish)
        computed = stamp is not None
        if stamp is None:
            answer = await self.tiers.stamp(rt, space, wish.tags, fresh=True)
            if isinstance(answer, Trouble):
                return self.not_written(space, key, wish, answer.error)
            stamp = answer
        record = self.record(key, payload, wish, stamp, request=request)
        kept = value if keep_object else payload
        return await self.keep(
            rt,
            space,
            key,
            record,
            kept,
            packed=not keep_object,
            computed=computed,
            since=since,
            wish=wish,
            proof=proof,
            then=functools.partial(self._after, rt, space, key, _matchable(request, wish), value, record),
        )

    def record(
        self, key: Key, payload: bytes | None, wish: Wish, stamp: Stamp, *, request: object = None
    ) -> EntryRecord:
        """The entry of an answer stored now."""
        now, lifetime = self._now(), wish.lifetime
        stale_at = lifetime.stale_at(now)
        # A recording is replayed however old it is, so no backend may take it away when its time is over.
        kept_until = None if self.settings.mode == "record" else lifetime.gone_at(stale_at)
        return EntryRecord(
            key.kind,
            now,
            payload,
            plain=key.plain,
            stale_at=stale_at,
            stale_while_revalidate=lifetime.stale_while_revalidate,
            stale_if_error=lifetime.stale_if_error,
            expires_at=kept_until,
            tags=stamp.tags,
            lineage=stamp.lineage,
            seq=stamp.seq,
            cost=wish.cost or Cost(),
            content_type=wish.content_type,
            meta=wish.entry_meta(),
            request=self._kept_request(request),
        )

    async def store_many(
        self,
        rt: Runtime,
        space: Space,
        pairs: Sequence[tuple[Key, Any]],
        wish: Wish,
        *,
        requests: Sequence[object] = (),
    ) -> int:
        """`store` for several pairs: one round trip per tier where nothing stands in their place yet, a few and one
        change of the generation where something does; answers how many are stored."""
        if self.tiers.local or not self.settings.writes or wish.control.no_store or len(pairs) < 2:
            asked = list(requests) or [None] * len(pairs)
            return sum(
                [
                    await self.store(rt, space, key, value, wish, request=request)
                    for (key, value), request in zip(pairs, asked, strict=True)
                ]
            )
        payloads = [await self.packed(rt, value, wish) for _, value in pairs]
        stamp = await self.tiers.stamp(rt, space, wish.tags, fresh=True)
        if isinstance(stamp, Trouble):
            return sum(self.not_written(space, key, wish, stamp.error) for key, _ in pairs)
        listed = [
            (key, self.record(key, payload, wish, stamp)) for (key, _), payload in zip(pairs, payloads, strict=True)
        ]
        stored = 0
        for start in range(0, len(listed), AT_ONCE):
            part = listed[start : start + AT_ONCE]
            for key, _ in part:
                self.supersede_near(space, key)
            answers = await self.together.write(rt, space, part)
            for at, ((key, record), answer) in enumerate(zip(part, answers, strict=True), start):
                request = _matchable(requests[at], wish) if requests else None
                then = functools.partial(self._after, rt, space, key, request, pairs[at][1], record)
                if answer is not None:
                    stored += await self._concluded(rt, space, key, record, answer, wish, then)
                    continue
                replenish()  # what has to be written by itself has a deadline of its own
                stored += await self.keep(
                    rt,
                    space,
                    key,
                    record,
                    record.payload,
                    packed=True,
                    computed=False,
                    since=None,
                    wish=wish,
                    then=then,
                )
        return stored

    async def _concluded(
        self, rt: Runtime, space: Space, key: Key, record: EntryRecord, answer: Answer, wish: Wish, then: Then
    ) -> bool:
        """What follows from the answer to one of many writes; answers whether it is stored."""
        if answer.trouble is not None:
            return await self._troubled(
                rt, space, key, record, answer, answer.trouble, since=None, wish=wish, then=then
            )
        if answer.outdated:
            return self._turned_down(space, key, answer)
        self.supersede_near(space, key)  # what others read before this was written must not be kept after
        kept = self._kept(space, key, record, record.payload, packed=True, outdated=_never)
        if kept:
            await then()
        return kept

    async def _troubled(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        record: EntryRecord,
        answer: Answer,
        trouble: BackendError,
        *,
        since: int | None,
        wish: Wish | None,
        then: Then | None,
    ) -> bool:
        """A write came to trouble: it goes on behind the caller where it may, who hears that it is not stored."""
        ended = functools.partial(self._ended, space, key, record, then)
        if not self.certain(wish) and await self.behind.finish(
            rt, space, key, record, over=answer.over, since=since, ended=ended
        ):
            return False
        return self.not_written(space, key, wish, trouble)

    async def keep(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        record: EntryRecord,
        value: Any,
        *,
        packed: bool,
        computed: bool,
        since: int | None,
        wish: Wish | None = None,
        proof: Proof | None = None,
        then: Then | None = None,
    ) -> bool:
        """Write an entry to every tier that takes it; answers whether the authority has it. `proof` tells, just
        before something is overwritten, whether the lease under which it was computed is still held. `then` is
        awaited when it is stored, which may be after the caller was told that it is not: see `Behind.finish`."""
        tags = [tag for tag, _ in record.tags]
        cuts = Cuts(space)

        def outdated() -> bool:
            return since is not None and not cuts.stands(since, key.address, key.plain, tags)

        if not self.tiers.local:
            self.supersede_near(space, key)
            if self._writes_back(wish, value, packed=packed) and (proof is None or proof.stands()):
                kept = self._kept(space, key, record, value, packed=packed, outdated=outdated)
                if kept and await self.behind.write_back(rt, space, key, record, since=since):
                    await _done(then)
                    return True
            renew = None if proof is None else proof.renew
            answer = await self.placing.write(rt, space, key, record, computed=computed, unless=outdated, renew=renew)
            if answer.trouble is not None:
                return await self._troubled(
                    rt, space, key, record, answer, answer.trouble, since=since, wish=wish, then=then
                )
            if answer.outdated or answer.refused:
                return self._turned_down(space, key, answer)
            self.supersede_near(space, key)  # what others read before this was written must not be kept after
        kept = self._kept(space, key, record, value, packed=packed, outdated=outdated)
        if kept:
            await _done(then)
        return kept

    async def _ended(
        self, space: Space, key: Key, record: EntryRecord, then: Then | None, answer: Answer, fallen: Callable[[], bool]
    ) -> None:
        """A write that went on behind its caller has come to an end."""
        if answer.trouble is not None:
            self.refused(space, key, NOT_TAKEN)
            return
        if answer.outdated or answer.refused:
            self._turned_down(space, key, answer)
            return
        self.supersede_near(space, key)
        if self._kept(space, key, record, record.payload, packed=True, outdated=fallen):
            await _done(then)

    def _writes_back(self, wish: Wish | None, value: Any, *, packed: bool) -> bool:
        """Whether the memory tier may hold an answer alone until the authority is written."""
        near, authority = self.tiers.near, self.tiers.authority
        return (
            authority is not None
            and authority.spec.write == "back"
            and near is not None
            and packed
            and near.takes(len(value))
            and authority.takes(len(value))
            and not self.certain(wish)
        )

    def _kept(
        self, space: Space, key: Key, record: EntryRecord, value: Any, *, packed: bool, outdated: Callable[[], bool]
    ) -> bool:
        """The near copy of an entry, and its counting."""
        near = self.tiers.near
        if near is not None and (not (packed or isinstance(value, bytes | str)) or near.takes(len(value))):

            def unfit() -> bool:
                # What others invalidated meanwhile this process may have learned already, and dropped its copies then.
                return outdated() or (not self.tiers.local and verdict(record, space) != "servable")

            kept = self.tiers.keep_near(space, key, record, value, packed=packed, unless=unfit)
            if self.tiers.local and not kept:
                return self.outdated(space, key)
        elif self.tiers.local:
            return self.refused(space, key, "larger than the memory tier takes")
        space.counters.stores += 1
        space.counters.bytes_stored += len(value) if isinstance(value, bytes | str) else 16
        if self.events.active:
            self.events.tell(
                "store", tenant=space.tenant, namespace=space.namespace, kind=key.kind, detail={"key": key.digest.hex()}
            )
        return True

    def supersede_near(self, space: Space, key: Key) -> None:
        """The near copy must not outlive what it is a copy of, and a copy read before must not come after."""
        with space.lock:
            space.version += 1
        if self.tiers.near is not None:
            home = self.tiers.near.home(space.tenant, space.namespace, key.kind)
            self.tiers.near.remove(home, key.address)

    def _turned_down(self, space: Space, key: Key, answer: Answer) -> bool:
        return self.refused(space, key, answer.refused) if answer.refused else self.outdated(space, key)

    def outdated(self, space: Space, key: Key) -> bool:
        return self.refused(space, key, "invalidated while it was computed")

    def refused(self, space: Space, key: Key, reason: str) -> bool:
        space.counters.not_stored += 1
        space.counters.because(reason)
        self.events.tell("not_stored", tenant=space.tenant, namespace=space.namespace, kind=key.kind, reason=reason)
        return False

    def not_written(self, space: Space, key: Key, wish: Wish | None, error: BackendError) -> bool:
        if self.certain(wish):
            raise NotWritten(f"{NOT_TAKEN}: {error}") from error
        return self.refused(space, key, NOT_TAKEN)

    def _kept_request(self, request: object) -> bytes | None:
        """The request itself, kept beside recorded answers so that a later miss can be told apart from it."""
        if request is None or self.settings.mode not in ("record", "refresh"):
            return None
        try:
            return dumps(request, serializers=self.serializers)
        except UnstorableValue:
            return None


def _matchable(request: object, wish: Wish) -> object:
    """The request, for what finds answers by meaning; None where the caller forbade that."""
    return None if wish.control.semantic is False else request

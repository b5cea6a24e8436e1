"""The engine conducts one question from request to answer: look, wait for others, compute, store.

It names rooms and does no arithmetic of its own. Every body is written once as `async def`; `rt` is the face that
runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agentcache_core.background import Background
from agentcache_core.codec.serialize import loads
from agentcache_core.computing import Computation
from agentcache_core.errors import CorruptFrame, NotCached, ReplayMiss
from agentcache_core.events import Events
from agentcache_core.figures import Figures
from agentcache_core.keys import Key
from agentcache_core.leasing import Leases
from agentcache_core.maintenance import Maintenance
from agentcache_core.model import Freshness, Hit
from agentcache_core.policy.freshness import freshness, wants_eager_refresh
from agentcache_core.renewing import renew
from agentcache_core.replaying import describe_miss
from agentcache_core.runtime import Runtime
from agentcache_core.settings import Settings
from agentcache_core.space import Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Found
from agentcache_core.tiering import Tiers
from agentcache_core.wish import Wish
from agentcache_core.writing import Writer

if TYPE_CHECKING:
    from agentcache_core.similar import Near, Similar


class Engine:
    """One cache: its tiers, flights, background and figures, shared by both faces and all views."""

    def __init__(
        self, tiers: Tiers, settings: Settings, events: Events, figures: Figures, space_of: Callable[[str, str], Space]
    ) -> None:
        self.tiers = tiers
        self._space_of = space_of
        self.settings = settings
        self.events = events
        self.figures = figures
        self.background = Background(
            enabled=settings.background, dropped=lambda name: events.tell("dropped", reason=name)
        )
        self.writer = Writer(tiers, settings, events, background=self.background, after=self._after_store)
        self.leases = Leases(tiers, events, self.background)
        self.computation = Computation(self.writer, self.leases, self._fresh)
        self.store = self.writer.store
        self.store_many = self.writer.store_many
        self.similar: Similar | None = None
        self.maintenance: Maintenance | None = None
        self._now = settings.clock.now
        self._monotonic = settings.clock.monotonic

    # Looking

    async def look(self, rt: Runtime, space: Space, key: Key, wish: Wish) -> tuple[Found, Freshness] | None:
        """The stored answer to a key with its freshness, counted; None = miss. Stale ones only where they may be."""
        control = wish.control
        if not self.settings.reads or control.no_cache or control.refresh:
            space.counters.bypasses += 1
            return None
        found = await (self.tiers.find(rt, space, key) if self.tiers.local else self._find(rt, space, key))
        if found is None:
            return None
        record, now = found.record, self._now()
        if control.max_age is not None and now - record.created_at > control.max_age:
            return None
        if self.settings.timeless:
            return found, Freshness.FRESH
        return found, freshness(record.stale_at, record.expires_at, now)

    async def _find(self, rt: Runtime, space: Space, key: Key) -> Found | None:
        """The entry of a key, timed; now and then what was counted is added to the figures on the authority."""
        before = self._monotonic()
        near = self.tiers.near
        if near is not None and near.spilled:
            await self.writer.spill(rt, self._space_of)  # what is looked for may be among it
        found = await self.tiers.find(rt, space, key)
        space.counters.looking.add(self._monotonic() - before)
        await self._figures_behind(rt, space)
        return found

    async def _figures_behind(self, rt: Runtime, space: Space) -> None:
        if self.figures.due(space):
            await self.background.submit(rt, "figures", lambda: self.figures.add(rt, space), key=("figures", space))

    async def lookup(self, rt: Runtime, space: Space, key: Key, wish: Wish, *, request: object = None) -> Hit | None:
        """The fresh stored answer with all that is known about it, or None."""
        seen = await self.look(rt, space, key, wish)
        if seen is not None and seen[1] is Freshness.FRESH:
            hit = self.hit(space, key, seen[0], seen[1], wish)
            if hit is not None:
                await self._after_hit(rt, space, key, seen[0], wish)
                return hit
        hit = await self._similar(rt, space, key, wish, request)
        if hit is not None:
            return hit
        self.missed(space, key)
        if self.settings.mode == "replay":
            raise ReplayMiss(await self._nearest(rt, space, key, request))
        return None

    async def lookup_stale(self, rt: Runtime, space: Space, key: Key, wish: Wish) -> Hit | None:
        """The stored answer that is past its time and within its `stale_while_revalidate`: for callers who compute
        elsewhere, and have just looked for a fresh one in vain."""
        seen = await self.look(rt, space, key, wish)
        if seen is None:
            return None
        found, state = seen
        until = None if found.record.stale_at is None else found.record.stale_at + found.record.stale_while_revalidate
        within = until is not None and self._now() < until
        return self.hit(space, key, found, state, wish) if within or state is Freshness.FRESH else None

    async def _similar(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        wish: Wish,
        request: object,
        *,
        function: Callable[[], Any] | None = None,
    ) -> Hit | None:
        """The answer to a similar question, where the cache may give one; some are audited behind."""
        if self.similar is None:
            return None
        near = await self.similar.look(rt, space, key, request, wish.control)
        if near is None:
            return None
        similar = self.similar

        def report(correct: bool) -> None:
            similar.report(rt, space, near, correct=correct)

        hit = self.hit(space, near.key, near.found, Freshness.FRESH, wish)
        if hit is None:
            return None
        if self.settings.mode == "live" and similar.chosen(known=function is not None):
            await self._audit_behind(rt, space, key, near, function, wish, request)
        return replace(hit, how="semantic", similarity=near.similarity, decision=near.decision, _report=report)

    async def _audit_behind(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        near: Near,
        function: Callable[[], Any] | None,
        wish: Wish,
        request: object,
    ) -> None:
        """Compute what was served for a similar question and compare. What the caller's own function gives is kept
        under its own key; what `recompute` gives is not, for nobody said how long."""
        similar = self.similar
        assert similar is not None
        served = self.value_of(near.found, wish)
        alone = replace(wish, control=replace(wish.control, refresh=True, max_age=None, no_store=function is None))
        compute = function or partial(similar.semantic.recompute or (lambda _: served), request)

        async def audit() -> None:
            recomputed = await self.computation.run(rt, space, key, compute, alone, request=request)
            await similar.audited(rt, space, near, served, recomputed)

        await self.background.submit(rt, "audit", audit, key=("audit", space.prefix, key.digest))

    async def lookup_many(
        self, rt: Runtime, space: Space, keys: Sequence[Key], wish: Wish, *, requests: Sequence[object] = ()
    ) -> list[Hit | None]:
        """`lookup` for several keys, one round trip per tier."""
        if not self.settings.reads:
            return [None] * len(keys)
        now = self._now()
        answers: list[Hit | None] = []
        found_many = await self.tiers.find_many(rt, space, keys)
        await self._figures_behind(rt, space)
        for key, found in zip(keys, found_many, strict=True):
            hit: Hit | None = None
            state = None if found is None else freshness(found.record.stale_at, found.record.expires_at, now)
            if found is not None and (self.settings.timeless or state is Freshness.FRESH):
                hit = self.hit(space, key, found, Freshness.FRESH, wish)
            if hit is None:
                request = requests[len(answers)] if requests else None
                hit = await self._similar(rt, space, key, wish, request)
            if hit is None:
                self.missed(space, key)
                if self.settings.mode == "replay":
                    raise ReplayMiss(await self._nearest(rt, space, key, request))
            answers.append(hit)
        return answers

    def hit(self, space: Space, key: Key, found: Found, state: Freshness, wish: Wish) -> Hit | None:
        """The hit that an entry is, counted and told; None for a value whose type nobody here knows."""
        try:
            value = self.served(space, found, state, wish)
        except CorruptFrame as problem:
            space.counters.because("a value of unknown type")
            self.events.tell(
                "unreadable", tenant=space.tenant, namespace=space.namespace, kind=key.kind, reason=str(problem)
            )
            return None
        record = found.record
        now = self._now()
        if self.events.active:
            self.events.tell(
                "hit",
                tenant=space.tenant,
                namespace=space.namespace,
                kind=key.kind,
                tier=found.tier,
                detail={
                    "key": key.digest.hex(),
                    "cost": record.cost,
                    "tags": [tag for tag, _ in record.tags],
                    **record.meta,
                },
            )
        return Hit(
            value,
            age=max(0.0, now - record.created_at),
            freshness=state,
            tier=found.tier,
            saved=record.cost,
            tags=tuple(tag for tag, _ in record.tags),
            ttl=None if record.stale_at is None else record.stale_at - now,
            content_type=record.content_type,
        )

    def served(self, space: Space, found: Found, state: Freshness, wish: Wish) -> Any:
        """The value of an entry that is a hit, counted. `CorruptFrame` for one whose type nobody here knows."""
        value = self.value_of(found, wish)
        counters = space.counters
        counters.hits += 1
        if state is Freshness.STALE:
            counters.stale_hits += 1
        if found.packed:
            counters.bytes_served += len(found.value)
        counters.avoided.credit(found.record)
        return value

    def missed(self, space: Space, key: Key) -> None:
        """Count a miss and tell it."""
        space.counters.misses += 1
        if self.events.active:
            self.events.tell("miss", tenant=space.tenant, namespace=space.namespace, kind=key.kind)

    def value_of(self, found: Found, wish: Wish) -> Any:
        """A fresh copy of a stored value."""
        return loads(found.value, serializers=self.writer.known(wish)) if found.packed else found.value

    async def _after_hit(self, rt: Runtime, space: Space, key: Key, found: Found, wish: Wish) -> None:
        """Renew the life of an entry that slides."""
        ttl = found.record.meta.get("sliding")
        if isinstance(ttl, float) and self.settings.writes:
            await renew(self.writer, rt, space, key, found, until=self._now() + ttl)

    async def _after_store(
        self, rt: Runtime, space: Space, key: Key, request: object, value: object, record: EntryRecord
    ) -> None:
        """What a stored answer sets off: it is remembered for similar questions, and maintenance may be due."""
        if self.similar is not None:
            await self.similar.remember(rt, space, key, request, value, record)
        near = self.tiers.near
        if near is not None and near.spilled:
            await self.background.submit(rt, "spill", lambda: self.writer.spill(rt, self._space_of), key="spill")
        maintenance = self.maintenance
        if maintenance is not None and not self.tiers.local and self._monotonic() >= maintenance.due:
            await self.background.submit(rt, "maintenance", lambda: maintenance.auto(rt, space), key="maintenance")

    async def _fresh(self, rt: Runtime, space: Space, key: Key, wish: Wish) -> Found | None:
        """The fresh stored entry, if any, without counting."""
        found = await self.tiers.find(rt, space, key)
        if found is None:
            return None
        record, now = found.record, self._now()
        too_old = wish.control.max_age is not None and now - record.created_at > wish.control.max_age
        fresh = self.settings.timeless or freshness(record.stale_at, record.expires_at, now) is Freshness.FRESH
        return found if fresh and not too_old else None

    # Computing

    async def compute(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        function: Callable[[], Any],
        wish: Wish,
        *,
        request: object = None,
        looked: bool = False,
    ) -> Any:
        """The answer to a key: from the cache, from somebody who is computing it already, or from `function`.
        `looked` says that the caller has just found nothing."""
        control = wish.control
        seen = None if looked else await self.look(rt, space, key, wish)
        if seen is not None:
            found, state = seen
            record, now = found.record, self._now()
            within = record.stale_at is not None and now < record.stale_at + record.stale_while_revalidate
            hit = self.hit(space, key, found, state, wish) if state is Freshness.FRESH or within else None
            if hit is not None:
                eager = record.meta.get("eager", 0.0) if self.settings.mode == "live" else 0.0
                if state is Freshness.STALE or wants_eager_refresh(
                    record.created_at, record.stale_at, eager=eager, now=now
                ):
                    await self._refresh_behind(rt, space, key, function, wish, request)
                await self._after_hit(rt, space, key, found, wish)
                return hit.value
        near = await self._similar(rt, space, key, wish, request, function=function)
        if near is not None:
            return near.value
        self.missed(space, key)
        if self.settings.mode == "replay":
            raise ReplayMiss(await self._nearest(rt, space, key, request))
        if control.only_if_cached:
            raise NotCached(f"only_if_cached was asked for and {key!r} is not cached")
        if self.settings.mode == "off":
            return (await self.computation.call(rt, space, function)).value
        try:
            return await self.computation.run(rt, space, key, function, wish, request=request)
        except Exception as error:
            if seen is None:
                raise
            return self._stale_or_raise(space, key, seen[0], wish, error)

    async def _refresh_behind(
        self, rt: Runtime, space: Space, key: Key, function: Callable[[], Any], wish: Wish, request: object
    ) -> None:
        space.counters.refreshes += 1
        alone = replace(wish, control=replace(wish.control, refresh=True, max_age=None))
        await self.background.submit(
            rt,
            "refresh",
            lambda: self.computation.run(rt, space, key, function, alone, request=request),
            key=("refresh", space.tenant, space.namespace, key.digest),
        )

    def _stale_or_raise(self, space: Space, key: Key, stale: Found, wish: Wish, error: Exception) -> Any:
        record = stale.record
        if record.stale_at is not None and self._now() < record.stale_at + record.stale_if_error:
            hit = self.hit(space, key, stale, Freshness.STALE, wish)
            if hit is not None:
                self.events.tell(
                    "stale_served", tenant=space.tenant, namespace=space.namespace, kind=key.kind, reason=repr(error)
                )
                return hit.value
        raise error

    async def _nearest(self, rt: Runtime, space: Space, key: Key, request: object) -> str:
        """Why a replay has no answer: what differs from the recorded request that is nearest."""
        return await describe_miss(rt, self.tiers, space, key, request)

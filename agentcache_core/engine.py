"""The engine conducts one question from request to answer: look, wait for others, compute, store, invalidate.

It names rooms and does no arithmetic of its own. Every body is written once as `async def`; `rt` is the face that
runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentcache_core.background import Background
from agentcache_core.codec.serialize import Serializer, dumps, is_immutable, loads
from agentcache_core.cuts import Cuts
from agentcache_core.errors import BackendError, NotCached, NotWritten, ReplayMiss, UnstorableValue
from agentcache_core.events import Events
from agentcache_core.figures import Figures
from agentcache_core.keys import Key
from agentcache_core.maintenance import Maintenance
from agentcache_core.model import DEFAULT_CONTROL, CacheControl, Computed, Cost, Freshness, Hit
from agentcache_core.policy.freshness import Lifetime, freshness, wants_eager_refresh
from agentcache_core.runtime import Runtime
from agentcache_core.settings import Settings
from agentcache_core.singleflight import Abandoned, Crashed, Flights, Landed, copy_of, enter, leave
from agentcache_core.space import Space, Stamp
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Found, Trouble
from agentcache_core.tiering import Tiers

if TYPE_CHECKING:
    from agentcache_core.similar import Similar

FLIGHTS = Flights()


@dataclass(frozen=True, slots=True)
class Wish:
    """What one call asks beside its key: how long to keep, under which tags, at what cost, and how to treat it."""

    lifetime: Lifetime
    tags: tuple[str, ...] = ()
    cost: Cost | None = None
    control: CacheControl = DEFAULT_CONTROL
    durable: bool = False
    content_type: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    store_if: Callable[[Any], bool] | None = None
    serializers: tuple[Serializer, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a computation hands to its followers: the value as object when immutable or unstorable, else payload."""

    value: Any
    packed: bool


class Engine:
    """One cache: its tiers, flights, background and figures, shared by both faces and all views."""

    def __init__(self, tiers: Tiers, settings: Settings, events: Events, figures: Figures) -> None:
        self.tiers = tiers
        self.settings = settings
        self.events = events
        self.figures = figures
        self.background = Background(
            enabled=settings.background, dropped=lambda name: events.tell("dropped", reason=name)
        )
        self.similar: Similar | None = None
        self._now = settings.clock.now
        self._monotonic = settings.clock.monotonic
        self._serializers = tuple(settings.serializers)
        self.maintenance: Maintenance | None = None

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
        before = self.settings.clock.monotonic()
        found = await self.tiers.find(rt, space, key)
        space.counters.looking.add(self.settings.clock.monotonic() - before)
        if self.figures.due(space):
            await self.background.submit(rt, "figures", lambda: self.figures.add(rt, space), key=("figures", space))
        return found

    async def lookup(self, rt: Runtime, space: Space, key: Key, wish: Wish, *, request: object = None) -> Hit | None:
        """The fresh stored answer with all that is known about it, or None."""
        seen = await self.look(rt, space, key, wish)
        if seen is None or seen[1] is not Freshness.FRESH:
            hit = await self._similar(rt, space, key, wish, request)
            if hit is not None:
                return hit
            self._count_miss(space, key)
            if self.settings.mode == "replay":
                raise ReplayMiss(await self.describe_miss(rt, space, key, wish))
            return None
        await self._after_hit(rt, space, key, seen[0], wish)
        return self._hit(space, key, seen[0], seen[1], wish)

    async def _similar(self, rt: Runtime, space: Space, key: Key, wish: Wish, request: object) -> Hit | None:
        """The answer to a similar question, where the cache may give one."""
        if self.similar is None:
            return None
        near = await self.similar.look(rt, space, key, request, wish.control)
        if near is None:
            return None
        similar = self.similar

        def report(correct: bool) -> None:
            similar.report(rt, space, near, correct=correct)

        hit = self._hit(space, near.key, near.found, Freshness.FRESH, wish)
        return replace(hit, how="semantic", similarity=near.similarity, decision=near.decision, _report=report)

    async def lookup_many(
        self, rt: Runtime, space: Space, keys: Sequence[Key], wish: Wish, *, requests: Sequence[object] = ()
    ) -> list[Hit | None]:
        """`lookup` for several keys, one round trip per tier."""
        if not self.settings.reads:
            return [None] * len(keys)
        now = self._now()
        answers: list[Hit | None] = []
        for key, found in zip(keys, await self.tiers.find_many(rt, space, keys), strict=True):
            state = None if found is None else freshness(found.record.stale_at, found.record.expires_at, now)
            if found is None or not (self.settings.timeless or state is Freshness.FRESH):
                request = requests[len(answers)] if requests else None
                hit = await self._similar(rt, space, key, wish, request)
                if hit is None:
                    self._count_miss(space, key)
                answers.append(hit)
            else:
                answers.append(self._hit(space, key, found, Freshness.FRESH, wish))
        return answers

    def _hit(self, space: Space, key: Key, found: Found, state: Freshness, wish: Wish) -> Hit:
        counters, record = space.counters, found.record
        counters.hits += 1
        if state is Freshness.STALE:
            counters.stale_hits += 1
        if found.packed:
            counters.bytes_served += len(found.value)
        counters.avoided.credit(record)
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
            self.value_of(found, wish),
            age=max(0.0, now - record.created_at),
            freshness=state,
            tier=found.tier,
            saved=record.cost,
            tags=tuple(tag for tag, _ in record.tags),
            ttl=None if record.stale_at is None else record.stale_at - now,
        )

    def value_of(self, found: Found, wish: Wish) -> Any:
        """A fresh copy of a stored value."""
        return loads(found.value, serializers=self._known(wish)) if found.packed else found.value

    def _known(self, wish: Wish) -> tuple[Serializer, ...]:
        return (*wish.serializers, *self._serializers) if wish.serializers else self._serializers

    def _count_miss(self, space: Space, key: Key) -> None:
        space.counters.misses += 1
        if self.events.active:
            self.events.tell("miss", tenant=space.tenant, namespace=space.namespace, kind=key.kind)

    async def _after_hit(self, rt: Runtime, space: Space, key: Key, found: Found, wish: Wish) -> None:
        """Renew the life of an entry that slides."""
        ttl = found.record.meta.get("sliding")
        if isinstance(ttl, float) and self.settings.writes:
            now = self._now()
            record = replace(found.record, stale_at=now + ttl, expires_at=now + ttl)
            await self._keep(rt, space, key, record, found.value, found.packed, computed=False, since=None)

    # Storing

    def pack(self, value: Any, wish: Wish) -> bytes:
        """The payload of a value; `UnstorableValue` where it would not come back equal in type and value."""
        return dumps(value, serializers=self._known(wish))

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
    ) -> bool:
        """Store one answer; answers whether it is stored. `stamp` and `since` say when its computation began.

        Raises `UnstorableValue`, and with `durable` or `strict` `NotWritten`.
        """
        if not self.settings.writes or wish.control.no_store:
            return False
        keep_object = self.tiers.local and is_immutable(value)
        payload = None if keep_object else self.pack(value, wish)
        computed = stamp is not None
        if stamp is None:
            answer = await self.tiers.stamp(rt, space, wish.tags, fresh=True)
            if isinstance(answer, Trouble):
                return self._not_written(space, key, wish, answer.error)
            stamp = answer
        now = self._now()
        lifetime = wish.lifetime
        stale_at = lifetime.stale_at(now)
        record = EntryRecord(
            key.kind,
            now,
            payload,
            plain=key.plain,
            stale_at=stale_at,
            stale_while_revalidate=lifetime.stale_while_revalidate,
            stale_if_error=lifetime.stale_if_error,
            expires_at=lifetime.gone_at(stale_at),
            tags=stamp.tags,
            lineage=stamp.lineage,
            seq=stamp.seq,
            cost=wish.cost or Cost(),
            content_type=wish.content_type,
            meta=_meta(wish),
            request=self._kept_request(request),
        )
        stored = await self._keep(
            rt, space, key, record, value if keep_object else payload, not keep_object, computed=computed, since=since,
            wish=wish,
        )  # fmt: skip
        if stored and self.similar is not None:
            await self.similar.remember(rt, space, key, request, value, record)
        return stored

    async def store_many(
        self,
        rt: Runtime,
        space: Space,
        pairs: Sequence[tuple[Key, Any]],
        wish: Wish,
        *,
        requests: Sequence[object] = (),
    ) -> int:
        """`store` for several pairs; answers how many are stored."""
        stored = 0
        for index, (key, value) in enumerate(pairs):
            stored += await self.store(rt, space, key, value, wish, request=requests[index] if requests else None)
        return stored

    async def _keep(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        record: EntryRecord,
        value: Any,
        packed: bool,
        *,
        computed: bool,
        since: int | None,
        wish: Wish | None = None,
    ) -> bool:
        tags = [tag for tag, _ in record.tags]
        cuts = Cuts(space)

        def outdated() -> bool:
            return since is not None and not cuts.stands(since, key.address, key.plain, tags)

        if not self.tiers.local:
            self._supersede_near(space, key)
            answer = await self.tiers.write(rt, space, key, record, computed=computed, unless=outdated)
            if answer.trouble is not None:
                return self._not_written(space, key, wish, answer.trouble)
            if answer.outdated:
                return self._outdated(space, key)
        near = self.tiers.near
        if near is not None and (not packed or near.takes(len(value))):
            kept = self.tiers.keep_near(space, key, record, value, packed=packed, unless=outdated)
            if self.tiers.local and not kept:
                return self._outdated(space, key)
        elif self.tiers.local:
            return self._refused(space, key, "larger than the memory tier takes")
        if not self.tiers.local:
            await self._maintain_behind(rt, space)
        space.counters.stores += 1
        space.counters.bytes_stored += len(value) if isinstance(value, bytes | str) else 16
        if self.events.active:
            self.events.tell(
                "store", tenant=space.tenant, namespace=space.namespace, kind=key.kind, detail={"key": key.digest.hex()}
            )
        return True

    async def _maintain_behind(self, rt: Runtime, space: Space) -> None:
        """Maintenance in the background, when it is due."""
        maintenance = self.maintenance
        if maintenance is not None and self._monotonic() >= maintenance.due:
            await self.background.submit(rt, "maintenance", lambda: maintenance.auto(rt, space), key="maintenance")

    def _supersede_near(self, space: Space, key: Key) -> None:
        """The near copy must not outlive what it is a copy of, and a copy read before must not come after."""
        with space.lock:
            space.version += 1
        if self.tiers.near is not None:
            home = self.tiers.near.home(space.tenant, space.namespace, key.kind)
            self.tiers.near.remove(home, key.address)

    def _outdated(self, space: Space, key: Key) -> bool:
        return self._refused(space, key, "invalidated while it was computed")

    def _refused(self, space: Space, key: Key, reason: str) -> bool:
        space.counters.not_stored += 1
        space.counters.because(reason)
        self.events.tell("not_stored", tenant=space.tenant, namespace=space.namespace, kind=key.kind, reason=reason)
        return False

    def _not_written(self, space: Space, key: Key, wish: Wish | None, error: BackendError) -> bool:
        if self.settings.strict or (wish is not None and wish.durable):
            raise NotWritten(f"the authority did not take the write: {error}") from error
        return self._refused(space, key, "the authority did not take the write")

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
    ) -> Any:
        """The answer to a key: from the cache, from somebody who is computing it already, or from `function`."""
        control = wish.control
        seen = await self.look(rt, space, key, wish)
        if seen is not None:
            found, state = seen
            record, now = found.record, self._now()
            within = record.stale_at is not None and now < record.stale_at + record.stale_while_revalidate
            if state is Freshness.FRESH or within:
                if state is Freshness.STALE or wants_eager_refresh(
                    record.created_at, record.stale_at, eager=record.meta.get("eager", 0.0), now=now
                ):
                    await self._refresh_behind(rt, space, key, function, wish, request)
                await self._after_hit(rt, space, key, found, wish)
                return self._hit(space, key, found, state, wish).value
        near = await self._similar(rt, space, key, wish, request)
        if near is not None:
            return near.value
        self._count_miss(space, key)
        if self.settings.mode == "replay":
            raise ReplayMiss(await self.describe_miss(rt, space, key, wish))
        if control.only_if_cached:
            raise NotCached(f"only_if_cached was asked for and {key!r} is not cached")
        if self.settings.mode == "off":
            return (await self._call(rt, space, function)).value
        return await self._fly(rt, space, key, function, wish, seen[0] if seen is not None else None, request)

    async def _refresh_behind(
        self, rt: Runtime, space: Space, key: Key, function: Callable[[], Any], wish: Wish, request: object
    ) -> None:
        space.counters.refreshes += 1
        alone = replace(wish, control=replace(wish.control, refresh=True, max_age=None))
        await self.background.submit(
            rt,
            "refresh",
            lambda: self._fly(rt, space, key, function, alone, None, request),
            key=("refresh", space.tenant, space.namespace, key.digest),
        )

    async def _fly(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        function: Callable[[], Any],
        wish: Wish,
        stale: Found | None,
        request: object,
    ) -> Any:
        identity = (id(self), space.tenant, space.namespace, key.kind, key.address, key.sample)
        fresh = wish.control.refresh or wish.control.no_cache
        while True:
            flight, role = FLIGHTS.join(identity, fresh=fresh, waits=rt.face == "async")
            if role == "follower":
                end = await self._follow(rt, flight)
                if isinstance(end, Landed):
                    space.counters.joined += 1
                    return self._copy(end.outcome, wish)
                if isinstance(end, Crashed):
                    return self._stale_or_raise(space, key, stale, wish, copy_of(end.error))
                if end is None:
                    role = "alone"
                else:
                    continue
            if role == "alone":
                self.events.tell("not_joined", tenant=space.tenant, namespace=space.namespace, kind=key.kind)
            return await self._lead(rt, space, key, function, wish, stale, flight, request)

    async def _follow(self, rt: Runtime, flight: Any) -> Landed | Crashed | Abandoned | None:
        if not FLIGHTS.begin_wait(flight):
            return None
        try:
            await rt.wait(flight.gate)
        finally:
            FLIGHTS.end_wait(flight)
        end: Landed | Crashed | Abandoned = flight.end
        return end

    async def _lead(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        function: Callable[[], Any],
        wish: Wish,
        stale: Found | None,
        flight: Any,
        request: object,
    ) -> Any:
        end: Landed | Crashed | Abandoned = Abandoned()
        cuts = Cuts(space)
        since = cuts.begin()
        token = enter(flight)
        try:
            stamp = await self.tiers.stamp(rt, space, wish.tags, fresh=False) if self._will_store(wish) else None
            computed = await self._call(rt, space, function)
            wish = _with(wish, computed)
            result = await self._settle(rt, space, key, computed, wish, stamp, since, request)
            end = Landed(result)
        except Exception as error:  # noqa: BLE001 - whatever the computation raises is handed on to all who wait
            end = Crashed(error)
            return self._stale_or_raise(space, key, stale, wish, error)
        finally:
            leave(token)
            cuts.end()
            FLIGHTS.land(flight, end)
        return computed.value

    def _kept_request(self, request: object) -> bytes | None:
        """The request itself, kept beside recorded answers so that a later miss can be told apart from it."""
        if request is None or self.settings.mode not in ("record", "refresh"):
            return None
        try:
            return dumps(request, serializers=self._serializers)
        except UnstorableValue:
            return None

    def _will_store(self, wish: Wish) -> bool:
        return self.settings.writes and not wish.control.no_store

    async def _call(self, rt: Runtime, space: Space, function: Callable[[], Any]) -> Computed:
        before = self.settings.clock.monotonic()
        value = await rt.call(function)
        seconds = max(0.0, self.settings.clock.monotonic() - before)
        space.counters.computing.add(seconds)
        if isinstance(value, Computed):
            return value
        return Computed(value, cost=Cost(seconds=seconds))

    async def _settle(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        computed: Computed,
        wish: Wish,
        stamp: Any,
        since: int,
        request: object,
    ) -> Result:
        """Store a computed answer where it may be, and make the result that followers share."""
        value = computed.value
        if not computed.store:
            self._refused(space, key, computed.reason or "the computation asked not to store")
        elif wish.store_if is not None and not wish.store_if(value):
            self._refused(space, key, "store_if said no")
        elif isinstance(stamp, Trouble):
            self._not_written(space, key, wish, stamp.error)
        elif stamp is not None:
            try:
                stamp = await self._stamp_more(rt, space, wish, stamp)
                if stamp is None:
                    self._outdated(space, key)
                else:
                    await self.store(rt, space, key, value, wish, request=request, stamp=stamp, since=since)
            except UnstorableValue as problem:
                space.counters.because("unstorable")
                self.events.tell(
                    "unstorable", tenant=space.tenant, namespace=space.namespace, kind=key.kind, reason=str(problem)
                )
                return Result(value, packed=False)
        if is_immutable(value):
            return Result(value, packed=False)
        try:
            return Result(self.pack(value, wish), packed=True)
        except UnstorableValue:
            return Result(value, packed=False)

    async def _stamp_more(self, rt: Runtime, space: Space, wish: Wish, stamp: Stamp) -> Stamp | None:
        """Epochs for tags that only the computation knew; None when they may have been invalidated meanwhile."""
        known = {tag for tag, _ in stamp.tags}
        more = tuple(tag for tag in wish.tags if tag not in known)
        if not more or self.tiers.local:
            return stamp._replace(tags=tuple((tag, b"") for tag in wish.tags)) if more else stamp
        later = await self.tiers.stamp(rt, space, more, fresh=True)
        if isinstance(later, Trouble) or later.lineage != stamp.lineage:
            return None
        generation = space.generation
        if generation is None or generation.cut > stamp.seq:
            return None  # something was invalidated meanwhile: perhaps one of these
        return stamp._replace(tags=stamp.tags + later.tags)

    def _copy(self, result: Result, wish: Wish) -> Any:
        return loads(result.value, serializers=self._known(wish)) if result.packed else result.value

    def _stale_or_raise(self, space: Space, key: Key, stale: Found | None, wish: Wish, error: Exception) -> Any:
        if stale is not None:
            record, now = stale.record, self._now()
            if record.stale_at is not None and now < record.stale_at + record.stale_if_error:
                self.events.tell(
                    "stale_served", tenant=space.tenant, namespace=space.namespace, kind=key.kind, reason=repr(error)
                )
                return self._hit(space, key, stale, Freshness.STALE, wish).value
        raise error

    async def describe_miss(self, rt: Runtime, space: Space, key: Key, wish: Wish) -> str:
        """Why a replay has no answer."""
        return f"no recorded answer for {key!r} in namespace {space.namespace!r}"


def _meta(wish: Wish) -> dict[str, Any]:
    meta = dict(wish.meta)
    if wish.lifetime.sliding and wish.lifetime.ttl is not None:
        meta["sliding"] = wish.lifetime.ttl
    if wish.lifetime.eager:
        meta["eager"] = wish.lifetime.eager
    return meta


def _with(wish: Wish, computed: Computed) -> Wish:
    """The wish together with what the computation said about its own answer."""
    return replace(
        wish,
        cost=wish.cost or computed.cost,
        tags=wish.tags + tuple(tag for tag in computed.tags if tag not in wish.tags),
    )

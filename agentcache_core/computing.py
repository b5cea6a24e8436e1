"""Computing an answer once: flights within the process, leases between processes, and storing what came of it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from agentcache_core.allowance import no_call
from agentcache_core.codec.serialize import is_immutable, loads
from agentcache_core.cuts import Cuts
from agentcache_core.errors import CorruptFrame, UnstorableValue
from agentcache_core.keys import Key
from agentcache_core.leasing import Held, Leases
from agentcache_core.model import Computed, Cost
from agentcache_core.runtime import Runtime
from agentcache_core.singleflight import (
    Abandoned,
    Crashed,
    Flight,
    Flights,
    Landed,
    Role,
    copy_of,
    enter,
    is_leading,
    leave,
)
from agentcache_core.space import Space, Stamp
from agentcache_core.tier import Found, Trouble
from agentcache_core.wish import Wish
from agentcache_core.writing import Writer

FLIGHTS = Flights()
Look = Callable[[Runtime, Space, Key, Wish], Awaitable[Found | None]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a computation hands to its followers: the value as object when immutable or unstorable, else payload."""

    value: Any
    packed: bool


class Computation:
    """Runs computations for one cache. `look` answers a fresh stored entry, without counting."""

    def __init__(self, writer: Writer, leases: Leases, look: Look) -> None:
        self.writer = writer
        self.leases = leases
        self.tiers = writer.tiers
        self.settings = writer.settings
        self.events = writer.events
        self._look = look

    async def run(
        self,
        rt: Runtime,
        space: Space,
        key: Key,
        function: Callable[[], Any],
        wish: Wish,
        *,
        request: object = None,
    ) -> Any:
        """The answer of `function`, stored, or of whoever computes the same already. Raises what it raised.

        A follower gets its own copy, of the value as of the exception.
        """
        identity = (id(self), space.tenant, space.namespace, key.kind, key.address, key.sample)
        fresh = wish.control.refresh or wish.control.no_cache
        overtakes = False
        while True:
            flight, role = await self._join(rt, space, key, wish, identity, fresh=fresh or overtakes)
            if role == "overtaker":
                overtakes = True
                continue
            if role == "follower":
                end = await self._follow(rt, flight)
                if isinstance(end, Landed):
                    space.counters.joined += 1
                    return self._copy(end.outcome, wish)
                if isinstance(end, Crashed):
                    raise copy_of(end.error)
                if end is None:
                    role = "alone"
                else:
                    continue
            if role == "alone":
                self.events.tell("not_joined", tenant=space.tenant, namespace=space.namespace, kind=key.kind)
            return await self._lead(rt, space, key, function, wish, flight, request, waits=not overtakes)

    async def _join(
        self, rt: Runtime, space: Space, key: Key, wish: Wish, identity: Hashable, *, fresh: bool
    ) -> tuple[Flight, Role | Literal["overtaker"]]:
        """Take part in a flight, unless something was invalidated since it began: its answer is none for a caller who
        comes now, who then overtakes it."""
        cuts = Cuts(space)
        cuts.begin()  # so that what the flight has seen is still known, though it should land now
        try:
            flight, role = FLIGHTS.join(identity, fresh=fresh, waits=rt.face == "async")
            if role != "follower" or await self._current(rt, space, key, wish, flight):
                return flight, role
        finally:
            cuts.end()
        FLIGHTS.end_wait(flight)
        return flight, "overtaker"

    async def _current(self, rt: Runtime, space: Space, key: Key, wish: Wish, flight: Flight) -> bool:
        """Whether the answer of a flight will be one for a caller who comes now: nothing that concerns it has been
        invalidated since it began."""
        if flight.since is None:
            return True
        stamp: Stamp | Trouble | None = flight.stamp
        if not Cuts(space).stands(flight.since, key.address, key.plain, [*wish.tags, *flight.tags]):
            return False
        if stamp is None or self.tiers.local:
            return True
        # What began no longer ago than other processes may take to hear of an invalidation is joined in any case: so
        # an authority that does not answer costs one computation in each such time, and not one for every caller.
        now, generation = self.settings.clock.monotonic(), space.generation
        young = now < flight.begun + self.tiers.max_staleness
        if isinstance(stamp, Trouble):
            return young
        known = generation is not None and generation.lineage == stamp.lineage and generation.cut <= stamp.seq
        return (known and (young or now < space.trusted_until)) or await self.tiers.stands(rt, space, key, stamp)

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
        flight: Flight,
        request: object,
        *,
        waits: bool,
    ) -> Any:
        end: Landed | Crashed | Abandoned = Abandoned()
        cuts = Cuts(space)
        since = flight.since = cuts.begin()
        flight.begun, flight.tags = self.settings.clock.monotonic(), tuple(wish.tags)
        nested = is_leading() or not waits
        token = enter(flight)
        turn = None
        try:
            if self._will_store(wish) and self.settings.reads and not (wish.control.refresh or wish.control.no_cache):
                look = functools.partial(self._look, rt, space, key, wish)
                turn = await self.leases.turn(rt, space, key, look, nested=nested)
            if isinstance(turn, Found):
                result = Result(turn.value, turn.packed)
                try:
                    answer = self._copy(result, wish)
                except CorruptFrame:
                    turn = None  # of a type that nobody here knows: then compute it
                else:
                    space.counters.joined += 1
                    end = Landed(result)
                    return answer
            stamp = await self.tiers.stamp(rt, space, wish.tags, fresh=False) if self._will_store(wish) else None
            flight.stamp = stamp
            computed = await self.call(rt, space, function)
            wish = wish.knowing(computed)
            result = await self._settle(rt, space, key, computed, wish, stamp, since, request, turn)
            end = Landed(result)
        except Exception as error:
            end = Crashed(error)
            raise
        finally:
            leave(token)
            FLIGHTS.land(flight, end)
            cuts.end()
            if isinstance(turn, Held):
                await self.leases.release(rt, space, turn)
        return computed.value

    def _will_store(self, wish: Wish) -> bool:
        return self.settings.writes and not wish.control.no_store

    async def call(self, rt: Runtime, space: Space, function: Callable[[], Any]) -> Computed:
        """Run a computation, and measure its seconds where it does not tell its own cost."""
        before = self.settings.clock.monotonic()
        with no_call():
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
        turn: Held | None,
    ) -> Result:
        """Store a computed answer where it may be, and make the result that followers share."""
        value = computed.value
        if not computed.store:
            self.writer.refused(space, key, computed.reason or "the computation asked not to store")
        elif wish.store_if is not None and not wish.store_if(value):
            self.writer.refused(space, key, "store_if said no")
        elif isinstance(stamp, Trouble):
            self.writer.not_written(space, key, wish, stamp.error)
        elif stamp is not None:
            try:
                stamp = await self._stamp_more(rt, space, wish, stamp)
                if stamp is None:
                    self.writer.outdated(space, key)
                else:
                    proof = None if turn is None else self.leases.proof(rt, space, turn)
                    await self.writer.store(
                        rt, space, key, value, wish, request=request, stamp=stamp, since=since, proof=proof
                    )
            except UnstorableValue as problem:
                space.counters.because("unstorable")
                self.events.tell(
                    "unstorable", tenant=space.tenant, namespace=space.namespace, kind=key.kind, reason=str(problem)
                )
                return Result(value, packed=False)
        if is_immutable(value):
            return Result(value, packed=False)
        try:
            return Result(await self.writer.packed(rt, value, wish), packed=True)
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
        if not await self.tiers.uncut(rt, space, stamp):  # asked after the epochs: they may be of later
            return None  # something was invalidated meanwhile: perhaps one of these
        return stamp._replace(tags=stamp.tags + later.tags)

    def _copy(self, result: Result, wish: Wish) -> Any:
        return loads(result.value, serializers=self.writer.known(wish)) if result.packed else result.value

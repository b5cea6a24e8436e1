"""The asynchronous backend for a cluster of Redis or Valkey: one line per event loop and node, shared by its tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, Final, TypeVar, cast

from hiredis import ReplyError

from agentcache_backends.redis import batches
from agentcache_backends.redis.asks import Ask
from agentcache_backends.redis.cluster import Cluster, Errand, Outcome, Part, Trouble, part_of
from agentcache_backends.redis.layout import unpacked_all
from agentcache_backends.redis.loops import AsyncRedisBackend, Place
from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.slots import NOWHERE, Node, Topology
from agentcache_core.backend import Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed, BackendError
from agentcache_core.model import Missing

T = TypeVar("T")
_SHORTEST: Final = 0.001


class Lines:
    """One event loop's lines to the nodes of a cluster, and the `Ways` of the asynchronous face."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places: dict[Node, Place] = {}
        self._topology: Topology = NOWHERE

    async def exchange(self, errands: Sequence[Errand], until: float | None) -> list[Outcome]:
        if len(errands) == 1:
            return [await self._run(errands[0], until)]
        return list(await asyncio.gather(*(self._run(errand, until) for errand in errands)))

    async def _run(self, errand: Errand, until: float | None) -> Outcome:
        place = self._places.get(errand.node)
        if place is None:
            place = self._places[errand.node] = Place()
        if not errand.again:  # what must not be sent twice: first hear whether the other side has closed meanwhile
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        line = place.line
        was_open = sent = line is not None and line.lost is None
        left = None if until is None else max(_SHORTEST, until - time.monotonic())
        try:
            async with asyncio.timeout(left):
                if line is None or not was_open:
                    line = await place.open(self._settings.at(errand.node))
                sent = True
                return await line.exchange(errand.packed, errand.replies)
        except (OSError, ReplyError) as error:
            return Trouble(error, sent=sent, was_open=was_open)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def follow(self, topology: Topology) -> None:
        """Close the lines to nodes that are no longer part of the cluster, and on which nobody waits."""
        if topology is not self._topology:
            self._topology = topology
            for node, place in list(self._places.items()):
                if node not in topology.primaries and place.line is not None and place.line.idle:
                    place.line.give_up(ConnectionError("its node has left the cluster"))

    async def close(self) -> None:
        places, self._places = list(self._places.values()), {}
        for place in places:
            await place.close()


class AsyncRedisClusterBackend(AsyncRedisBackend):
    """A shared backend in a cluster of Redis (6.2 or newer) or Valkey, for event loops. Opening it does not connect.

    Only primaries are asked, also for reading. All tasks of a loop share one connection to each node. A call takes at
    most `connect_timeout` plus `timeout`, also while slots move or a replica takes over: then it is led to the new
    place, or raises `BackendUnavailable`.
    """

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(settings, clock=clock)
        self._cluster = Cluster(settings)

    def _new_place(self) -> Lines:
        return Lines(self._settings)

    async def _perform(self, ask: Ask[T]) -> T:
        part = part_of(ask)
        await self._carry([part])
        return cast("T", part.answer)

    async def _carry(self, parts: Sequence[Part[Any]]) -> None:
        """Bring the parts their answers."""
        lines = self._place()
        await self._led(self._cluster.perform(parts, lines))
        lines.follow(self._cluster.topology)

    async def _led(self, way: Coroutine[Any, Any, T]) -> T:
        """Go a way through the cluster."""
        try:
            return await way
        except BackendError as error:
            if self._closed:
                raise BackendClosed(f"the Redis backend {self._settings.shown} was closed") from error
            raise

    async def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        gets = batches.Gets(self._asks, self._keys, names)
        await self._carry(gets.parts)
        return unpacked_all(gets.values(), self._now())

    async def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        parts = batches.puts(self._asks, puts)
        await self._carry(parts)
        return [part.answer for part in parts]

    async def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        parts = batches.deletes(self._asks, names)
        await self._carry(parts)
        return [part.answer is True for part in parts]

    async def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        parts = batches.touches(self._asks, names, expires_at)
        await self._carry(parts)
        return [part.answer is True for part in parts]

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        walk, done = batches.Walk(self._keys, prefix, self._settings.shown), False
        while not done:
            before = await self._led(self._cluster.standings(walk.slot, self._place()))
            for node in before:
                async for keys in self._pages(node, prefix):
                    looks = batches.looks(self._asks, walk.new(keys))
                    await self._carry(looks)
                    for stat in (stat for look in looks for stat in look.answer or ()):
                        if stat.name > after:
                            yield stat
            done = walk.done(before, await self._led(self._cluster.standings(walk.slot, self._place())))

    async def _pages(self, node: Node, prefix: bytes) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            page = Part(self._asks.page(prefix, cursor), -1, node)
            await self._carry([page])
            cursor, keys = cast("tuple[bytes, list[bytes]]", page.answer)
            yield keys
            if cursor == b"0":
                return

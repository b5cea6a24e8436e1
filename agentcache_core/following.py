"""Following the authority's log: other processes' changes reach near copies at once instead of at `max_staleness`.

A follower asks for the generation of each namespace in use every `EVERY` seconds. Where it moved, the log says which
entries are concerned, and only their near copies go; where the log does not explain the move (a gap, a lost event),
all near copies of the namespace go. Without a log nothing is followed and the bound of `max_staleness` holds alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import ormsgpack

from agentcache_core.authority import compiled, text_of
from agentcache_core.background import Repeated
from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.forking import watch
from agentcache_core.near import NearTier
from agentcache_core.powers import SupportsLog, supports
from agentcache_core.records import decode_generation
from agentcache_core.runtime import Runtime
from agentcache_core.space import Generation, Space

EVERY = 0.1
IDLE_STEPS = 300
MAX_EVENT = 1 << 20
Change = tuple[Literal["request", "tag", "pattern"], str, str | bytes]
"""What an event names: the selector, the kind of its key (for a request), and the key's address, tag or glob."""


def encode_event(pipeline: Pipeline, generation: Generation, *changes: Change) -> bytes:
    """One event of the log, sealed like an entry: the generation after a change, and what has changed."""
    parts = (part for change in changes for part in change)
    body = ormsgpack.packb([generation.lineage, generation.seq, *parts])
    return pipeline.seal(frame.RECORD, b"", body)


def decode_event(pipeline: Pipeline, data: bytes) -> tuple[bytes, int, list[Change]]:
    """Lineage, seq and changes of an event; `CorruptFrame` for anything else."""
    try:
        lineage, seq, *parts = ormsgpack.unpackb(pipeline.open(frame.RECORD, data, max_size=MAX_EVENT).body)
        changes = list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))
        if not changes:
            raise ValueError("it names no change")
    except (ValueError, TypeError) as error:
        raise CorruptFrame("an event of the log is damaged") from error
    return lineage, seq, changes


def forget_near(near: NearTier, space: Space, change: Change) -> None:
    """Remove the near copies that a change concerns."""
    selector, kind, what = change
    if selector == "request":
        near.remove(near.home(space.tenant, space.namespace, kind), what)
        return
    for held, home in near.homes(space.tenant, space.namespace):
        if selector == "tag":
            near.remove_many(home, near.tagged(home, str(what)))
        elif held in ("text", "asset"):
            match = compiled(str(what)).match
            keys = [slot.key for slot in near.snapshot(home)]
            near.remove_many(home, [key for key in keys if isinstance(key, str | bytes) and match(text_of(key) or "")])


class Follower:
    """Keeps the namespaces in use of one cache in step with their authority."""

    def __init__(self, tiers: Any, *, enabled: bool) -> None:
        self._tiers = tiers
        self._enabled = enabled and tiers.near is not None and tiers.authority is not None and tiers.max_staleness > 0
        self._stop: Callable[[], None] | None = None
        self._closed = False
        self._seen: dict[Space, tuple[int, int]] = {}
        watch(self)

    def after_fork(self) -> None:
        """No thread of the parent's follows for the child."""
        self._stop = None
        self._seen = {}

    async def notice(self, rt: Runtime, space: Space) -> None:
        """A near copy of this namespace exists now: follow it from here on."""
        if not self._enabled or self._closed or space in self._seen:
            return
        store = self._tiers.authority.store(rt.face)
        if not supports(store, SupportsLog):
            self._enabled = False
            return
        position = await self._tiers.authority.attempt(space, "log", store.tail(space.prefix))
        if not isinstance(position, bytes):
            return
        space.position = position
        # What changed between the last read and this position is caught by the next comparison of generations.
        self._seen[space] = (0, 0)
        if self._stop is None:
            self._stop = Repeated.start(rt, lambda: self.step(rt), every=EVERY, ended=self._ended)

    def _ended(self) -> None:
        self._stop = None
        self._seen = {}

    async def step(self, rt: Runtime) -> bool:
        """Bring every namespace in use up to date; answers whether there is anything left to follow."""
        for space, (asked, idle) in list(self._seen.items()):
            now_asked = space.counters.hits + space.counters.misses
            if now_asked == asked and idle >= IDLE_STEPS:
                del self._seen[space]
                continue
            self._seen[space] = (now_asked, idle + 1 if now_asked == asked else 0)
            await self._catch_up(rt, space)
        return bool(self._seen) and not self._closed

    async def _catch_up(self, rt: Runtime, space: Space) -> None:
        tiers = self._tiers
        authority, store = tiers.authority, tiers.authority.store(rt.face)
        if not authority.available:
            return  # a look-up finds out when it is back; trust runs out by itself meanwhile
        asked_at = tiers.clock.monotonic()
        found = await authority.attempt(space, "follow", store.get(space.generation_name))
        try:
            generation = decode_generation(found.data)
        except (CorruptFrame, AttributeError):
            return
        if generation != space.generation:
            events = await authority.attempt(space, "follow", store.read(space.prefix, space.position))
            if not self._explained(space, generation, events, authority.pipeline(space)):
                tiers.of(rt, space).observe(found)
                return
        space.trusted_until = max(space.trusted_until, asked_at + tiers.max_staleness)

    def _explained(self, space: Space, generation: Generation, events: Any, pipeline: Pipeline) -> bool:
        """Apply the events that lead from the known generation to the present one; False when they do not."""
        known = space.generation
        if not isinstance(events, list) or known is None or known.lineage != generation.lineage:
            return False
        seq, told = known.seq, list[Change]()
        for event in events:
            space.position = event.position
            try:
                lineage, at, changes = decode_event(pipeline, event.data)
            except CorruptFrame:
                return False
            if lineage != known.lineage or at <= seq:
                continue
            if at != seq + 1:
                return False
            seq = at
            told += changes
        if seq != generation.seq:
            return False
        with space.lock:  # at once, so that nobody who began to read before puts back what is no longer so
            if space.generation != known:
                return False
            space.version += 1
            for change in told:
                if change[0] == "tag":
                    space.tag_epochs.pop(str(change[2]), None)
                elif change[0] == "pattern":
                    space.bans = None
            space.generation = generation  # last: who has read it on the authority judges by what it brought
        for change in told:
            forget_near(self._tiers.near, space, change)
        return True

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        if self._stop is not None:
            self._stop()

"""The straight way to an answer on the authority: what `Tiers.find` does there, without the rooms in between.

A blocking hit on Redis or SQLite spends as long in our rooms as on the wire when it walks through all of them. Where
there is one stored tier and nothing but that tier decides, it need not: one batch, one comparison of generations, one
frame. Whatever is out of the ordinary is `UNSURE`, and takes the long way from the start. A test plays both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from agentcache_core.authority import verdict
from agentcache_core.errors import BackendError, CorruptFrame
from agentcache_core.forking import watch
from agentcache_core.keys import Key
from agentcache_core.runtime import BLOCKING, Immediate, drive
from agentcache_core.store.entries import EntryRecord, decode_entry
from agentcache_core.tier import MAX_ENTRY, Found

if TYPE_CHECKING:
    from agentcache_core.engine import Engine
    from agentcache_core.space import Space


class Unsure:
    """The type of `UNSURE`."""

    __slots__ = ()


UNSURE: Final = Unsure()
"""This look-up has to take the long way; nothing was read or counted."""


class Straight:
    """The straight way of one namespace. Made by `straight_way`, which knows when there is one."""

    __slots__ = (
        "__weakref__",
        "_engine",
        "_entries",
        "_events",
        "_figures_due",
        "_generation_name",
        "_monotonic",
        "_now",
        "_pipeline",
        "_read",
        "_space",
        "_tier",
        "_tiers",
    )

    def __init__(self, engine: Engine, space: Space, read: Any) -> None:
        self._engine, self._space, self._tiers, self._events = engine, space, engine.tiers, engine.events
        self._tier = engine.tiers.stored[0]
        self._read = read
        self._pipeline = self._tier.pipeline(space)
        self._entries, self._generation_name = space.entries_prefix, space.generation_name
        self._now, self._monotonic = engine.settings.clock.now, engine.settings.clock.monotonic
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """A child asks anew when its figures are due; what the parent counted is the parent's."""
        self._figures_due = 0.0

    def find(self, key: Key) -> Found | Unsure | None:
        """The fresh entry of a key, None where there is none to serve, or `UNSURE`."""
        tiers, tier, space = self._tiers, self._tier, self._space
        near = tiers.near
        if tiers.pending or tiers.journalled or self._events.active:
            return UNSURE
        if near is not None and (
            near.spilled or near.home(space.tenant, space.namespace, key.kind).get(key.address) is not None
        ):
            return UNSURE
        version, before = space.version, self._monotonic()
        if before >= self._figures_due:
            self._figures_due = self._engine.figures.next_due(space)
            if before >= self._figures_due:
                return UNSURE
        digest = key.digest
        name = self._entries + digest
        try:
            entry, generation = self._read((name, self._generation_name))
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything; the agent must not
            tier.failed(space, "get_many", error)
            space.counters.looking.add(self._monotonic() - before)
            return None
        after = self._monotonic()
        tier.available = True
        observed, known = space.observed, space.generation
        if observed is not None and generation and generation.data == observed[0] and known is observed[1]:
            space.trusted_until = before + tiers.max_staleness
        else:
            tiers.of(BLOCKING, space).observe(generation)
        if not entry:
            space.counters.looking.add(after - before)
            return None
        now = self._now()
        record = self._plain_one(key, name, entry, now)
        if isinstance(record, Unsure):
            return record
        space.counters.looking.add(after - before)
        if record is None:
            return None
        tier.counted_hit(space)
        space.access.hit(digest, now)
        if near is not None:
            record.payload = bytes(record.payload or b"")
        found = Found(record, record.payload, True, tier.name, 0, entry.version)
        if near is not None:
            drive(tiers.promote(BLOCKING, space, key, found, version))
        return found

    def _plain_one(self, key: Key, name: bytes, entry: Any, now: float) -> EntryRecord | Unsure | None:
        """The record in stored bytes, if it is plainly one to serve; None for a tombstone, else `UNSURE`."""
        try:
            record = decode_entry(entry.data, self._pipeline, max_size=MAX_ENTRY, bound_to=name)
        except (CorruptFrame, AttributeError, TypeError):
            return UNSURE
        if record.kind != key.kind:
            return None
        space = self._space
        stale_at, expires_at = record.stale_at, record.expires_at
        if (
            record.meta
            or (stale_at is not None and now >= stale_at)
            or (expires_at is not None and now >= expires_at)
            or not space.bans_known
            or verdict(record, space) != "servable"
        ):
            return UNSURE
        if record.blob is not None:
            try:
                record.payload = drive(self._tier.blobs(BLOCKING, space).get(record.blob))
            except BackendError:
                return UNSURE
            record.blob = None
        return record


def straight_way(engine: Engine, space: Space, *, mode: Literal["live"] | str) -> Straight | None:
    """The straight way of a namespace, where nothing but one stored tier that reads batches decides; else None."""
    tiers = engine.tiers
    if mode != "live" or engine.similar is not None or len(tiers.stored) != 1:
        return None
    store = tiers.stored[0].store("blocking")
    if not isinstance(store, Immediate):
        return None
    read = getattr(store.backend, "get_views", None) or getattr(store.backend, "get_many", None)
    return None if read is None else Straight(engine, space, read)

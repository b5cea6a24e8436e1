"""The straight way to answers on the authority: what `Tiers.find` does there, without the rooms in between.

A hit on Redis or SQLite spends as long in our rooms as on the wire when it walks through all of them. Where there is
one stored tier and nothing but that tier decides, it need not: one batch, one comparison of generations, one frame.
Whatever is out of the ordinary is `UNSURE`, and takes the long way from the start. A test plays both ways.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from agentcache_core.authority import verdict
from agentcache_core.errors import CorruptFrame
from agentcache_core.forking import watch
from agentcache_core.keys import Key
from agentcache_core.model import DEFAULT_CONTROL, Freshness, Hit
from agentcache_core.runtime import Face, Runtime
from agentcache_core.store.blobs import OFFLOAD_FROM
from agentcache_core.store.entries import EntryRecord, decode_entry
from agentcache_core.tier import MAX_ENTRY, Found
from agentcache_core.wish import DEFAULT_WISH, Wish

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

    def __init__(self, engine: Engine, space: Space, read: Callable[[Sequence[bytes]], Awaitable[Any]]) -> None:
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

    async def find(self, rt: Runtime, key: Key) -> Found | Unsure | None:
        """The fresh entry of a key, None where there is none to serve, or `UNSURE`."""
        tiers, tier, space = self._tiers, self._tier, self._space
        near = tiers.near
        version, before = space.version, self._monotonic()
        if self._unusual(before) or (near is not None and self._is_near(key)):
            return UNSURE
        digest = key.digest
        name = self._entries + digest
        try:
            entry, generation = await self._read((name, self._generation_name))
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything; the agent must not
            tier.failed(space, "get_many", error)
            space.counters.looking.add(self._monotonic() - before)
            return None
        after = self._monotonic()
        self._told(rt, generation, before)
        if space.doubted:
            return UNSURE
        if not entry:
            space.counters.looking.add(after - before)
            return None
        now = self._now()
        record = await self._judged(rt, key, name, entry, now)
        if isinstance(record, Unsure):
            return record
        if record is not None and record.blob is not None:
            try:
                record.payload = await tier.blobs(rt, space).get(record.blob)
            except Exception:  # noqa: BLE001 - as above; the long way counts and tells it
                return UNSURE
            record.blob = None
        space.counters.looking.add(after - before)
        if record is None:
            return None
        tier.counted_hit(space)
        space.access.hit(digest, now)
        if near is not None:
            record.payload = bytes(record.payload or b"")
        found = Found(record, record.payload, True, tier.name, 0, entry.version)
        if near is not None:
            await tiers.promote(rt, space, key, found, version)
        return found

    async def find_many(self, rt: Runtime, keys: Sequence[Key]) -> list[Found | Unsure | None]:
        """`find` for several keys in one batch, in their order: what is unusual about one is told of that one alone."""
        tiers, tier, space, near = self._tiers, self._tier, self._space, self._tiers.near
        version, known, before = space.version, space.generation, self._monotonic()
        if not keys or self._unusual(before) or (near is not None and any(self._is_near(key) for key in keys)):
            return [UNSURE] * len(keys)
        entries = self._entries
        names = [entries + key.digest for key in keys]
        try:
            *stored, generation = await self._read((*names, self._generation_name))
        except Exception as error:  # noqa: BLE001 - as above
            tier.failed(space, "get_many", error)
            return [None] * len(keys)
        self._told(rt, generation, before)
        if space.doubted:
            return [UNSURE] * len(keys)
        now, judged = self._now(), self._judged
        records = [
            await judged(rt, key, name, entry, now) if entry else None
            for key, name, entry in zip(keys, names, stored, strict=True)
        ]
        await self._fill(rt, records)
        found: list[Found | Unsure | None] = []
        hit, called = space.access.hit, tier.name
        for key, entry, record in zip(keys, stored, records, strict=True):
            if record is None or isinstance(record, Unsure):
                found.append(record)
                continue
            tier.counted_hit(space)
            hit(key.digest, now)
            if near is not None:
                record.payload = bytes(record.payload or b"")
            found.append(Found(record, record.payload, True, called, 0, entry.version))
        if near is not None:
            served = [(key, one) for key, one in zip(keys, found, strict=True) if isinstance(one, Found)]
            await tiers.promote_many(rt, space, served, version, known)
        return found

    def _unusual(self, now: float) -> bool:
        """Whether something stands that look-ups of this namespace have to see to on the long way."""
        tiers = self._tiers
        if tiers.pending or tiers.journalled or self._space.doubted or self._events.active:
            return True
        if tiers.near is not None and tiers.near.spilled:
            return True
        if now >= self._figures_due:
            self._figures_due = self._engine.figures.next_due(self._space)
        return now >= self._figures_due

    def _is_near(self, key: Key) -> bool:
        near, space = self._tiers.near, self._space
        assert near is not None
        return near.home(space.tenant, space.namespace, key.kind).get(key.address) is not None

    def _told(self, rt: Runtime, generation: Any, before: float) -> None:
        """The tier has answered what was asked at `before`, and with it what its generation is."""
        space = self._space
        self._tier.available = True
        observed, known = space.observed, space.generation
        if observed is not None and generation and generation.data == observed[0] and known is observed[1]:
            space.trusted_until = before + self._tiers.max_staleness
        else:
            self._tiers.of(rt, space).observe(generation)

    async def _judged(self, rt: Runtime, key: Key, name: bytes, entry: Any, now: float) -> EntryRecord | Unsure | None:
        """As `_plain`, on a thread where a large frame would hold up a loop."""
        if rt.face == "async" and len(getattr(entry, "data", b"")) >= OFFLOAD_FROM:
            judged: EntryRecord | Unsure | None = await rt.offload(lambda: self._plain(key, name, entry, now))
            return judged
        return self._plain(key, name, entry, now)

    def _plain(self, key: Key, name: bytes, entry: Any, now: float) -> EntryRecord | Unsure | None:
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
            or verdict(record, space) != "servable"
        ):
            return UNSURE
        return record

    async def _fill(self, rt: Runtime, records: list[EntryRecord | Unsure | None]) -> None:
        """Read the payloads that are blobs, in one batch; a record whose blob cannot be had becomes `UNSURE`."""
        blobs = [(at, each.blob) for at, each in enumerate(records) if isinstance(each, EntryRecord) and each.blob]
        if not blobs:
            return
        payloads: Sequence[bytes | Exception]
        try:
            payloads = await self._tier.blobs(rt, self._space).get_many([ref for _, ref in blobs])
        except Exception as trouble:  # noqa: BLE001 - as above; the long way counts and tells it
            payloads = [trouble] * len(blobs)
        for (at, _), payload in zip(blobs, payloads, strict=True):
            record = records[at]
            if isinstance(payload, Exception) or not isinstance(record, EntryRecord):
                records[at] = UNSURE
            else:
                record.payload, record.blob = payload, None


def straight_way(engine: Engine, space: Space, *, face: Face, mode: Literal["live"] | str) -> Straight | None:
    """The straight way of a namespace, where nothing but one stored tier that reads batches decides; else None."""
    tiers = engine.tiers
    if mode != "live" or engine.similar is not None or len(tiers.stored) != 1:
        return None
    store = tiers.stored[0].store(face)
    read = getattr(store, "get_views", None) or getattr(store, "get_many", None)
    return None if read is None else Straight(engine, space, read)


async def answer_of(straight: Straight, rt: Runtime, engine: Engine, space: Space, key: Key, default: Any) -> Any:
    """The value of a key, `default` where there is none, or `UNSURE`; counted but for the last."""
    found = await straight.find(rt, key)
    if found is None:
        engine.missed(space, key)
        return default
    return found if isinstance(found, Unsure) else value_of(engine, space, found, DEFAULT_WISH)


def value_of(engine: Engine, space: Space, found: Found, wish: Wish) -> Any:
    """The value of what was found fresh, counted; `UNSURE` for a type nobody here knows, which the long way tells."""
    try:
        return engine.served(space, found, Freshness.FRESH, wish)
    except CorruptFrame:
        return UNSURE


async def hit_of(
    straight: Straight | None, rt: Runtime, engine: Engine, space: Space, key: Key, wish: Wish, *, request: object
) -> Hit | None:
    """The fresh stored answer to a key with all that is known about it, or None; counted."""
    control = wish.control
    if straight is not None and control.max_age is None and not (control.no_cache or control.refresh):
        found = await straight.find(rt, key)
        if not isinstance(found, Unsure):
            hit = None if found is None else engine.hit(space, key, found, Freshness.FRESH, wish)
            if hit is None:
                engine.missed(space, key)
            return hit
    return await engine.lookup(rt, space, key, wish, request=request)


async def computed_of(
    straight: Straight | None,
    rt: Runtime,
    engine: Engine,
    space: Space,
    key: Key,
    compute: Callable[[], Any],
    wish: Wish,
    *,
    request: object,
) -> Any:
    """The stored value of a key or else the computed one; looked up the straight way where there is one."""
    looked = False
    if straight is not None and wish.control is DEFAULT_CONTROL:
        found = await straight.find(rt, key)
        looked = found is None
        if found is not None and not isinstance(found, Unsure):
            answer = value_of(engine, space, found, wish)
            if answer is not UNSURE:
                return answer
    return await engine.compute(rt, space, key, compute, wish, request=request, looked=looked)


async def answers_of(
    straight: Straight | None,
    rt: Runtime,
    engine: Engine,
    space: Space,
    keys: Sequence[Key],
    *,
    requests: Sequence[object],
    default: Any,
) -> list[Any]:
    """The values of several keys in their order, `default` where there is none: the straight way as far as it goes,
    the long way for the others."""
    found_many: Sequence[Found | Unsure | None] = [UNSURE] * len(keys)
    if straight is not None:
        found_many = await straight.find_many(rt, keys)
    answers, left = [default] * len(keys), []
    for at, found in enumerate(found_many):
        if found is None:
            engine.missed(space, keys[at])
            continue
        answer = found if isinstance(found, Unsure) else value_of(engine, space, found, DEFAULT_WISH)
        if answer is UNSURE:
            left.append(at)
        else:
            answers[at] = answer
    if left:
        asked, named = [keys[at] for at in left], [requests[at] for at in left]
        hits = await engine.lookup_many(rt, space, asked, DEFAULT_WISH, requests=named)
        for at, hit in zip(left, hits, strict=True):
            if hit is not None:
                answers[at] = hit.value
    return answers

"""One tier over a backend: entries in their frames, and what to do when the backend fails.

A tier never raises in normal use: trouble becomes an answer that says so, an event and a count. Only `strict` and
`durable` callers turn that answer into an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agentcache_core.backend import Put, Stored, Version
from agentcache_core.batch import fetch, write_batch
from agentcache_core.clock import SYSTEM_CLOCK
from agentcache_core.codec.dictionary import DictionarySet
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import (
    BackendError,
    CorruptFrame,
    MissingBlob,
    MissingDictionary,
    UnreadableFrame,
)
from agentcache_core.events import Events
from agentcache_core.guarding import Circuit
from agentcache_core.keys import Key
from agentcache_core.policy.freshness import seconds_of
from agentcache_core.policy.worth import weight
from agentcache_core.runtime import Face, Immediate, Runtime, offload_of
from agentcache_core.space import Space
from agentcache_core.spec import Tier, bytes_of
from agentcache_core.store.blobs import OFFLOAD_FROM, Blobs, Payload
from agentcache_core.store.dictionaries import load_all, load_one
from agentcache_core.store.entries import BlobRef, EntryRecord, decode_entry, encode_entry

T = TypeVar("T")
MAX_ENTRY = 1 << 30


@dataclass(slots=True)
class Found:
    """An entry as a tier gave it. `value` is the object itself, or payload bytes when `packed`."""

    record: EntryRecord
    value: Any
    packed: bool
    tier: str
    depth: int
    version: Version | None = None


class Trouble:
    """What a tier answers instead of raising: the backend's failure."""

    __slots__ = ("error",)

    def __init__(self, error: BackendError) -> None:
        self.error = error


class StoredTier:
    """A tier over a backend that keeps bytes."""

    near = False

    def __init__(
        self,
        spec: Tier,
        *,
        name: str,
        open_store: Callable[[Face], Any],
        make_pipeline: Callable[[Space], Pipeline],
        events: Events,
        circuit: Circuit,
        now: Callable[[], float] = SYSTEM_CLOCK.now,
        inline_max: int = 16 * 1024,
    ) -> None:
        self.spec = spec
        self.circuit = circuit
        self.name = name
        self.max_value = bytes_of(spec.max_value, "Tier.max_value")
        self.min_value = bytes_of(spec.min_value, "Tier.min_value") or 0
        self.max_age = None if spec.max_age is None else seconds_of(spec.max_age)
        self.hits = 0
        self.errors = 0
        self.available = True
        self._open_store = open_store
        self._make_pipeline = make_pipeline
        self._stores: dict[Face, Any] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self.dictionaries: dict[str, DictionarySet] = {}
        self._prepared: set[str] = set()
        self._events = events
        self._now = now
        self._inline_max = inline_max

    def store(self, face: Face) -> Any:
        """The backend of this tier in the shape of an async one, for a face; opened on first use."""
        store = self._stores.get(face)
        if store is None:
            store = self._open_store(face)
            if face == "blocking":
                store = Immediate(store)
            self._stores[face] = store
        return store

    def pipeline(self, space: Space) -> Pipeline:
        pipeline = self._pipelines.get(space.tenant)
        if pipeline is None:
            pipeline = self._make_pipeline(space)
            pipeline.use(self.dictionaries.setdefault(space.tenant, DictionarySet()))
            self._pipelines[space.tenant] = pipeline
        return pipeline

    def blobs(self, rt: Runtime, space: Space) -> Blobs:
        """The blobs of a space's tenant on this tier."""
        return Blobs(self.store(rt.face), self.pipeline(space), space.blobs_prefix, offload=offload_of(rt))

    def counted_hit(self, space: Space) -> None:
        """Count an entry of a namespace that was served from here."""
        self.hits += 1
        space.counters.on_tier(self.name)[0] += 1

    def takes(self, size: int) -> bool:
        """Whether a payload of `size` bytes belongs in this tier."""
        return size >= self.min_value and (self.max_value is None or size <= self.max_value)

    async def attempt(self, space: Space, verb: str, work: Awaitable[T]) -> T | Trouble:
        """Await `work` on this tier's backend; trouble of any kind becomes an answer, a count and an event."""
        try:
            answer = await work
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything; the agent must not
            return self.failed(space, verb, error)
        self.available = True
        return answer

    def failed(self, space: Space, verb: str, error: Exception) -> Trouble:
        """Count and tell what went wrong on this tier's backend."""
        if isinstance(error, BackendError):
            trouble = error
        else:
            trouble = BackendError(f"{type(error).__name__}: {error}")
            trouble.__cause__ = error
        self.errors += 1
        self.available = False
        space.counters.errors += 1
        space.counters.on_tier(self.name)[1] += 1
        self._events.tell(
            "backend_error",
            tenant=space.tenant,
            namespace=space.namespace,
            tier=self.name,
            reason=f"{type(trouble).__name__}: {trouble}",
            detail={"verb": verb},
        )
        return Trouble(trouble)

    async def read(
        self, rt: Runtime, space: Space, key: Key, depth: int, *, generation: bool
    ) -> tuple[Found | None, Stored | Any] | Trouble:
        """One entry, and the generation record with it where this tier is the authority: one round trip."""
        name = space.entry_name(key)
        names = [name, space.generation_name] if generation else [name]
        answers = await self.attempt(space, "get", fetch(self.store(rt.face), names))
        if isinstance(answers, Trouble):
            return answers
        decoded = await self._decoded(rt, space, name, answers[0], key.kind, depth)
        (found,) = await self._filled(rt, space, [(name, decoded)])
        return found, (answers[1] if generation else None)

    async def read_many(
        self, rt: Runtime, space: Space, keys: Sequence[Key], depth: int, *, generation: bool
    ) -> tuple[list[Found | None], Stored | Any] | Trouble:
        """Many entries in one round trip (two where blobs are named), in the order asked; generation as in `read`."""
        names = [space.entry_name(key) for key in keys]
        asked = [*names, space.generation_name] if generation else names
        answers = await self.attempt(space, "get_many", fetch(self.store(rt.face), asked))
        if isinstance(answers, Trouble):
            return answers
        decoded = [
            (name, await self._decoded(rt, space, name, answer, key.kind, depth))
            for name, answer, key in zip(names, answers, keys, strict=False)
        ]
        return await self._filled(rt, space, decoded), (answers[-1] if generation else None)

    async def _decoded(
        self, rt: Runtime, space: Space, name: bytes, stored: Stored | Any, kind: str, depth: int
    ) -> Found | None:
        if not stored:
            return None
        try:
            if rt.face == "async" and len(getattr(stored, "data", b"")) >= OFFLOAD_FROM:
                record = await rt.offload(lambda: self.decode(space, name, stored))
            else:
                record = self.decode(space, name, stored)
        except MissingDictionary as error:
            if not await self._learned(rt, space, error.number):
                await self.discard_corrupt(rt, space, name, stored, error)
                return None
            return await self._decoded(rt, space, name, stored, kind, depth)
        except CorruptFrame as error:
            await self.discard_corrupt(rt, space, name, stored, error)
            return None
        if record.kind != kind:
            return None  # a tombstone
        return Found(record, record.payload, True, self.name, depth, stored.version)

    async def prepare(self, rt: Runtime, space: Space) -> None:
        """Load the tenant's dictionaries, once. Raises `BackendError`."""
        if space.tenant not in self._prepared:
            pipeline = self.pipeline(space)
            held = self.dictionaries[space.tenant]
            await load_all(self.store(rt.face), pipeline, space.tenant_prefix, held)
            self._prepared.add(space.tenant)

    async def _learned(self, rt: Runtime, space: Space, number: int) -> bool:
        """Load a dictionary that a frame names; answers whether it is held now."""
        pipeline, held = self.pipeline(space), self.dictionaries[space.tenant]
        work = load_one(self.store(rt.face), pipeline, space.tenant_prefix, number, held)
        return await self.attempt(space, "get", work) is True

    async def _filled(self, rt: Runtime, space: Space, found: list[tuple[bytes, Found | None]]) -> list[Found | None]:
        """The same entries with the payloads that are blobs; one whose blob is lost or damaged is absent."""
        wanted = [(name, entry, entry.record.blob) for name, entry in found if entry and entry.record.blob is not None]
        if wanted:
            await self._fill(rt, space, [(name, entry, ref) for name, entry, ref in wanted if ref is not None])
        return [None if entry is None or entry.value is None else entry for _, entry in found]

    async def _fill(self, rt: Runtime, space: Space, wanted: list[tuple[bytes, Found, BlobRef]]) -> None:
        blobs = self.blobs(rt, space)
        refs = [ref for _, _, ref in wanted]
        payloads = await self.attempt(space, "get_many", blobs.get_many(refs))
        if isinstance(payloads, Trouble):
            return
        numbers = {problem.number for problem in payloads if isinstance(problem, MissingDictionary)}
        if numbers and all([await self._learned(rt, space, number) for number in numbers]):
            payloads = await self.attempt(space, "get_many", blobs.get_many(refs))
            if isinstance(payloads, Trouble):
                return
        for (name, entry, ref), payload in zip(wanted, payloads, strict=True):
            if isinstance(payload, bytes):
                entry.record = replace(entry.record, payload=payload, blob=None)
                entry.value = payload
                continue
            await self.discard_corrupt(rt, space, name, entry, payload)
            if not isinstance(payload, MissingBlob | UnreadableFrame):
                await self.attempt(space, "delete", blobs.discard([ref]))

    def decode(self, space: Space, name: bytes, stored: Stored | Any) -> EntryRecord:
        """The record in stored bytes; `CorruptFrame` also for what is not bytes at all."""
        try:
            return decode_entry(stored.data, self.pipeline(space), max_size=MAX_ENTRY, bound_to=name)
        except (AttributeError, TypeError) as error:
            raise CorruptFrame(f"the backend answered {type(stored).__name__} instead of stored bytes") from error

    async def record_in(self, rt: Runtime, space: Space, name: bytes, stored: Stored | Any) -> EntryRecord | None:
        """The record in stored bytes, whose dictionary is loaded where need be; None where they cannot be read."""
        try:
            return self.decode(space, name, stored)
        except MissingDictionary as error:
            if not await self._learned(rt, space, error.number):
                return None
            return await self.record_in(rt, space, name, stored)
        except CorruptFrame:
            return None

    def encode(self, space: Space, name: bytes, record: EntryRecord) -> bytes:
        return encode_entry(record, self.pipeline(space), bound_to=name)

    async def discard_corrupt(self, rt: Runtime, space: Space, name: bytes, stored: Any, error: CorruptFrame) -> None:
        """Report an entry that cannot be read, and remove exactly it unless another program may read it."""
        space.counters.errors += 1
        self._events.tell("corrupt", tenant=space.tenant, namespace=space.namespace, tier=self.name, reason=str(error))
        version = getattr(stored, "version", None)
        if isinstance(version, bytes) and not isinstance(error, UnreadableFrame):
            await self.attempt(space, "delete", self.store(rt.face).delete(name, if_version=version))

    def limited(self, record: EntryRecord, now: float) -> EntryRecord:
        """The record as this tier keeps it: no longer than its max_age."""
        if self.max_age is None:
            return record
        last = now + self.max_age
        if record.expires_at is not None and record.expires_at <= last:
            return record
        stale_at = last if record.stale_at is None else min(record.stale_at, last)
        return replace(record, stale_at=stale_at, expires_at=last)

    async def put(
        self, rt: Runtime, space: Space, key: Key, record: EntryRecord, **condition: Any
    ) -> Version | Trouble | None:
        """Write one entry; None when the condition did not hold."""
        return await self.attempt(space, "put", self.put_named(rt, space, space.entry_name(key), record, condition))

    async def put_many(
        self,
        rt: Runtime,
        space: Space,
        entries: Sequence[tuple[Key, EntryRecord]],
        *,
        if_absent: bool = False,
        over: Sequence[Version | None] = (),
    ) -> list[Version | None] | Trouble:
        """Write several entries in one round trip, and their blobs before; None for each whose condition did not hold:
        that nothing is there (`if_absent`), or exactly the version in its place in `over` (None: nothing)."""

        async def work() -> list[Version | None]:
            puts = []
            placed = await self._placed_many(rt, space, [record for _, record in entries])
            for index, ((key, _), record) in enumerate(zip(entries, placed, strict=True)):
                name = space.entry_name(key)
                sealed = await self._encoded(rt, space, name, record)
                old = over[index] if over else None
                absent = old is None if over else if_absent
                puts.append(Put(name, sealed, record.expires_at, absent, old, self._weight(record)))
            return await write_batch(self.store(rt.face), puts) if puts else []

        return await self.attempt(space, "put_many", work())

    async def put_named(
        self, rt: Runtime, space: Space, name: bytes, record: EntryRecord, condition: dict[str, Any]
    ) -> Version | None:
        """The blob first, where the payload is one; then the entry that names it."""
        record = await self._placed(rt, space, record)
        sealed = await self._encoded(rt, space, name, record)
        version: Version | None = await self.store(rt.face).put(
            name, sealed, expires_at=record.expires_at, weight=self._weight(record), **condition
        )
        return version

    async def _encoded(self, rt: Runtime, space: Space, name: bytes, record: EntryRecord) -> bytes:
        if rt.face == "async" and len(record.payload or b"") >= OFFLOAD_FROM:
            sealed: bytes = await rt.offload(lambda: self.encode(space, name, record))
            return sealed
        return self.encode(space, name, record)

    def _weight(self, record: EntryRecord) -> float:
        """What a bounded store is told of an entry. A tombstone is to stay for all of its time."""
        if not record.kind and record.expires_at is not None:
            return record.expires_at
        return weight(record.cost, record.size, now=self._now())

    async def _placed(self, rt: Runtime, space: Space, record: EntryRecord) -> EntryRecord:
        """The record with its payload put where it belongs: inline, or stored as a blob."""
        await self.prepare(rt, space)
        payload = record.payload
        if payload is not None and len(payload) > self._inline_max:
            placed = await self.blobs(rt, space).put(
                payload,
                now=self._now(),
                expires_at=record.expires_at,
                kind=record.kind,
                weight=self._weight(record),
            )
            space.counters.blob_placed(len(payload), existed=placed.existed)
            record = replace(record, payload=None, blob=placed.ref)
        return record

    async def placed_many(
        self, rt: Runtime, space: Space, entries: Sequence[tuple[Key, EntryRecord]]
    ) -> list[tuple[Key, EntryRecord]] | Trouble:
        """The entries with their large payloads stored as blobs, for whoever may have to write them twice."""
        placed = await self.attempt(space, "put_many", self._placed_many(rt, space, [record for _, record in entries]))
        if isinstance(placed, Trouble):
            return placed
        return [(key, record) for (key, _), record in zip(entries, placed, strict=True)]

    async def _placed_many(self, rt: Runtime, space: Space, records: Sequence[EntryRecord]) -> list[EntryRecord]:
        """`_placed` for several records: their blobs are stored together."""
        await self.prepare(rt, space)
        large = [at for at, record in enumerate(records) if len(record.payload or b"") > self._inline_max]
        wanted = [
            Payload(record.payload or b"", record.expires_at, record.kind, self._weight(record))
            for record in (records[at] for at in large)
        ]
        answer = list(records)
        for at, placed in zip(large, await self.blobs(rt, space).put_many(wanted, now=self._now()), strict=True):
            space.counters.blob_placed(placed.ref.size, existed=placed.existed)
            answer[at] = replace(records[at], payload=None, blob=placed.ref)
        return answer

    async def delete(self, rt: Runtime, space: Space, key: Key) -> bool | Trouble:
        return await self.attempt(space, "delete", self.store(rt.face).delete(space.entry_name(key)))

    async def close(self, rt: Runtime) -> None:
        """Close the store of this face; the other face closes its own."""
        store = self._stores.pop(rt.face, None)
        if store is not None:
            await store.close()

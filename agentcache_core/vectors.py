"""Vector records on the authority: kept beside their entries, loaded into partitions, taken out with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from blake3 import blake3

from agentcache_core.allowance import each_request
from agentcache_core.batch import fetch
from agentcache_core.codec import frame
from agentcache_core.errors import CorruptFrame
from agentcache_core.events import Events
from agentcache_core.runtime import Runtime
from agentcache_core.semantic.matcher import Matcher, Partition
from agentcache_core.semantic.record import VectorRecord, decode_record, encode_record
from agentcache_core.settings import Settings
from agentcache_core.space import Space
from agentcache_core.tier import StoredTier, Trouble
from agentcache_core.tiering import Tiers

MAX_RECORD = 8 << 20
READ_AT_ONCE = 256


class Vectors:
    """The vector records of one cache, for one embedder: another's have other names and are never read."""

    def __init__(self, fingerprint: str, matcher: Matcher, tiers: Tiers, settings: Settings, events: Events) -> None:
        self.matcher = matcher
        self._index_id = blake3(fingerprint.encode()).digest(8)
        self._tiers = tiers
        self._settings = settings
        self._events = events

    async def keep(self, rt: Runtime, space: Space, partition: bytes, record: VectorRecord) -> None:
        name = self._name(space, partition, record.digest)
        tier = self._tiers.authority
        if tier is not None:
            body = encode_record(record)
            sealed = tier.pipeline(space).seal(frame.RECORD, b"", body, kind="vector", bound_to=name)
            stored = await tier.attempt(
                space, "put", tier.store(rt.face).put(name, sealed, expires_at=record.expires_at)
            )
            if isinstance(stored, Trouble):
                return
        self.matcher.add(
            self.matcher.partition(space.prefix, partition), record, name=name if tier is not None else None
        )

    async def drop(self, rt: Runtime, space: Space, partition: Partition, digest: bytes) -> None:
        """Take a stored question out of the index, and its record off the backend."""
        name = partition.names.get(digest)
        self.matcher.remove(partition, digest)
        tier = self._tiers.authority
        if tier is not None and name is not None and self._settings.writes:
            await tier.attempt(space, "delete", tier.store(rt.face).delete(name))

    def _name(self, space: Space, partition: bytes, digest: bytes) -> bytes:
        return self._prefix(space, partition) + digest

    def _prefix(self, space: Space, partition: bytes) -> bytes:
        return space.prefix + b"/v/" + self._index_id + partition

    # Loading

    async def partition(self, rt: Runtime, space: Space, partition: bytes) -> Partition:
        """The partition, read anew from the authority when it was not for `max_staleness`."""
        held = self.matcher.partition(space.prefix, partition)
        tier = self._tiers.authority
        if tier is None:
            return held
        now = self._settings.clock.monotonic()
        if now - held.loaded_at >= max(self._settings.max_staleness, 1e-9):
            with each_request():  # a large partition takes long to list, however quick the store
                await self._load(rt, space, partition, held, tier)
        return held

    async def _load(self, rt: Runtime, space: Space, partition: bytes, held: Partition, tier: StoredTier) -> None:
        began = self._settings.clock.monotonic()
        prefix = self._prefix(space, partition)
        names = await tier.attempt(space, "scan", _names(tier.store(rt.face).scan(prefix)))
        if isinstance(names, Trouble):
            return
        digests = {name[len(prefix) :]: name for name in names if len(name) == len(prefix) + 32}
        self.matcher.keep_only(held, digests)
        new = [name for digest, name in digests.items() if digest not in held.names]
        for start in range(0, len(new), READ_AT_ONCE):
            asked = new[start : start + READ_AT_ONCE]
            answers = await tier.attempt(space, "get_many", fetch(tier.store(rt.face), asked))
            if isinstance(answers, Trouble):
                return
            for name, stored in zip(asked, answers, strict=True):
                if stored:
                    await self._take_in(rt, space, held, tier, name, stored)
        held.loaded_at = began

    async def _take_in(
        self, rt: Runtime, space: Space, held: Partition, tier: StoredTier, name: bytes, stored: Any
    ) -> None:
        try:
            opened = tier.pipeline(space).open(frame.RECORD, stored.data, max_size=MAX_RECORD, bound_to=name)
            record = decode_record(bytes(opened.body))
            if record.digest != name[-32:]:
                raise CorruptFrame("a vector record under another entry's name")
            self.matcher.add(held, record, name=name)
        except CorruptFrame as error:
            await tier.discard_corrupt(rt, space, name, stored, error)
        except ValueError as error:  # another dimension under the same fingerprint
            self._events.tell("semantic", tenant=space.tenant, namespace=space.namespace, reason=str(error))


async def _names(stats: AsyncIterator[Any]) -> list[bytes]:
    return [stat.name async for stat in stats]

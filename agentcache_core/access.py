"""How the entries of a namespace are used: noted in O(1) on the way, written back in batches for placement to read.

A batch goes into one of a few journals, by one read and one write however many entries it names. A journal that is
full is folded into the records, each of which holds a 256th of a namespace by the first byte of the digest; see
`docs/format.md`. What is lost when a process dies is at most what it noted since the last batch: a guess about worth,
never an answer.
"""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import islice
from typing import Any, Final

import ormsgpack

from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.policy.placement import Access

MOST_NOTED: Final = 50_000
MOST_IN_RECORD: Final = 10_000
MOST_IN_JOURNAL: Final = 2_000
JOURNALS: Final = 16
MAX_RECORD: Final = 4 * 1024 * 1024
ATTEMPTS: Final = 8
Uses = dict[bytes, Access]


class AccessLog:
    """What this process saw since the last batch: per digest, answers served, answers computed, the last read."""

    __slots__ = ("_lock", "_noted")

    def __init__(self) -> None:
        self._noted: dict[bytes, list[float]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._noted)

    def hit(self, digest: bytes, now: float) -> None:
        """Note an answer served from the cache."""
        noted = self._of(digest)
        noted[0] += 1
        noted[2] = now

    def computed(self, digest: bytes) -> None:
        """Note an answer that had to be computed and was stored."""
        self._of(digest)[1] += 1

    def _of(self, digest: bytes) -> list[float]:
        noted = self._noted.get(digest)
        if noted is None:
            noted = [0.0, 0.0, 0.0]
            if len(self._noted) < MOST_NOTED:  # use is a guess; what is beyond this waits for the next batch
                noted = self._noted.setdefault(digest, noted)
        return noted

    def noted(self) -> dict[bytes, list[float]]:
        """Everything noted so far, which stays."""
        with self._lock:
            return dict(self._noted)

    def drain(self) -> dict[bytes, list[float]]:
        """Everything noted, which is then forgotten here."""
        with self._lock:
            noted, self._noted = self._noted, {}
        return noted


async def write_back(
    store: Any,
    pipeline: Pipeline,
    prefix: bytes,
    noted: Mapping[bytes, list[float]],
    *,
    now: float,
    folding: bool = True,
) -> int:
    """Add what was noted to the journals under `prefix`; answers how many batches that took. `folding=False` lets a
    full journal grow instead of folding it, for who is in a hurry. Raises `BackendError`."""
    batches = 0
    rest = iter(noted.items())
    while batch := dict(islice(rest, MOST_IN_JOURNAL)):
        seen = {digest: Access(hits, computed, read, now) for digest, (hits, computed, read) in batch.items()}
        await _append(store, pipeline, prefix, seen, now, folding)
        batches += 1
    return batches


async def _append(store: Any, pipeline: Pipeline, prefix: bytes, seen: Uses, now: float, folding: bool) -> None:
    for _ in range(ATTEMPTS):
        name = journal_name(prefix, random.randrange(JOURNALS))  # noqa: S311 - so that writers seldom meet
        stored = await store.get(name)
        held = _decoded(pipeline, name, stored.data) if stored else {}
        added = _added(held, seen, now)
        if not folding or len(added) <= MOST_IN_JOURNAL:
            if await _put(store, pipeline, name, added, stored):
                return
        # Emptied first: a crash in between loses a guess, the other way round it would count twice.
        elif await _put(store, pipeline, name, {}, stored):
            await _fold(store, pipeline, prefix, added, now)
            return


async def _fold(store: Any, pipeline: Pipeline, prefix: bytes, seen: Uses, now: float) -> None:
    by_record: dict[bytes, Uses] = {}
    for digest, access in seen.items():
        by_record.setdefault(digest[:1], {})[digest] = access
    for first, part in by_record.items():
        name = prefix + first
        for _ in range(ATTEMPTS):
            stored = await store.get(name)
            held = _decoded(pipeline, name, stored.data) if stored else {}
            if await _put(store, pipeline, name, _added(held, part, now), stored):
                break


def journal_name(prefix: bytes, number: int) -> bytes:
    """Where journal `number` lies; records have one byte behind the prefix, journals two."""
    return prefix + b"+" + bytes([number])


def _added(held: Uses, seen: Uses, now: float) -> Uses:
    added = dict(held)
    for digest, access in seen.items():
        known = added.get(digest)
        added[digest] = access if known is None else known.merged(access, now)
    return added


async def _put(store: Any, pipeline: Pipeline, name: bytes, held: Uses, stored: Any) -> bool:
    """Write a record over exactly what was read; False when somebody else came between."""
    if len(held) > MOST_IN_RECORD:
        latest = sorted(held.items(), key=lambda pair: pair[1].last_read, reverse=True)
        held = dict(latest[:MOST_IN_RECORD])
    sealed = pipeline.seal(frame.RECORD, b"", _encoded(held), bound_to=name)
    condition = {"if_version": stored.version} if stored else {"if_absent": True}
    return await store.put(name, sealed, **condition) is not None


def _encoded(held: Uses) -> bytes:
    rows: Iterable[Any] = ((d, a.hits, a.computed, a.last_read, a.at) for d, a in held.items())
    return ormsgpack.packb([part for row in rows for part in row])


def _decoded(pipeline: Pipeline, name: bytes, data: bytes) -> Uses:
    """The uses in a record; none when it is damaged, since they are only a guess."""
    try:
        flat = ormsgpack.unpackb(pipeline.open(frame.RECORD, data, max_size=MAX_RECORD, bound_to=name).body)
        rows = zip(flat[::5], flat[1::5], flat[2::5], flat[3::5], flat[4::5], strict=True)
        return {bytes(digest): Access(*map(float, numbers)) for digest, *numbers in rows}
    except (CorruptFrame, ValueError, TypeError):
        return {}


async def read_all(store: Any, pipeline: Pipeline, prefix: bytes) -> AsyncIterator[tuple[bytes, Access]]:
    """Every (digest, use) under `prefix`; of one digest there may be several, which add up."""
    async for stat in store.scan(prefix):
        stored = await store.get(stat.name)
        if stored:
            for pair in _decoded(pipeline, stat.name, stored.data).items():
                yield pair

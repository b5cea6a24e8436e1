"""How the entries of a namespace are used: noted in O(1) on the way, written back in batches for placement to read.

One record holds a 256th of a namespace, by the first byte of the digest; see `docs/format.md`. What is lost when a
process dies is at most what it noted since the last batch: a guess about worth, never an answer.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import ormsgpack

from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.policy.placement import Access

MOST_NOTED: Final = 50_000
MOST_IN_RECORD: Final = 10_000
MAX_RECORD: Final = 4 * 1024 * 1024
ATTEMPTS: Final = 8


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
            if len(self._noted) >= MOST_NOTED:
                with self._lock:
                    self._noted.clear()  # use is a guess; forgetting some of it is cheaper than growing
            noted = self._noted.setdefault(digest, [0.0, 0.0, 0.0])
        return noted

    def drain(self) -> dict[bytes, list[float]]:
        """Everything noted, which is then forgotten here."""
        with self._lock:
            noted, self._noted = self._noted, {}
        return noted


async def write_back(
    store: Any, pipeline: Pipeline, prefix: bytes, noted: dict[bytes, list[float]], *, now: float
) -> int:
    """Add what was noted to the records under `prefix`; answers how many records were written. `BackendError`."""
    by_record: dict[bytes, dict[bytes, Access]] = {}
    for digest, (hits, computed, last_read) in noted.items():
        by_record.setdefault(digest[:1], {})[digest] = Access(hits, computed, last_read, now)
    for first, seen in by_record.items():
        await _merge(store, pipeline, prefix + first, seen, now)
    return len(by_record)


async def _merge(store: Any, pipeline: Pipeline, name: bytes, seen: dict[bytes, Access], now: float) -> None:
    for _ in range(ATTEMPTS):
        stored = await store.get(name)
        held = _decoded(pipeline, name, stored.data) if stored else {}
        for digest, access in seen.items():
            known = held.get(digest)
            held[digest] = access if known is None else known.merged(access, now)
        if len(held) > MOST_IN_RECORD:
            latest = sorted(held.items(), key=lambda pair: pair[1].last_read, reverse=True)
            held = dict(latest[:MOST_IN_RECORD])
        sealed = pipeline.seal(frame.RECORD, b"", _encoded(held), bound_to=name)
        condition = {"if_version": stored.version} if stored else {"if_absent": True}
        if await store.put(name, sealed, **condition) is not None:
            return


def _encoded(held: dict[bytes, Access]) -> bytes:
    rows: Iterable[Any] = ((d, a.hits, a.computed, a.last_read, a.at) for d, a in held.items())
    return ormsgpack.packb([part for row in rows for part in row])


def _decoded(pipeline: Pipeline, name: bytes, data: bytes) -> dict[bytes, Access]:
    """The uses in a record; none when it is damaged, since they are only a guess."""
    try:
        flat = ormsgpack.unpackb(pipeline.open(frame.RECORD, data, max_size=MAX_RECORD, bound_to=name).body)
        rows = zip(flat[::5], flat[1::5], flat[2::5], flat[3::5], flat[4::5], strict=True)
        return {bytes(digest): Access(*map(float, numbers)) for digest, *numbers in rows}
    except (CorruptFrame, ValueError, TypeError):
        return {}


async def read_all(store: Any, pipeline: Pipeline, prefix: bytes) -> AsyncIterator[tuple[bytes, Access]]:
    """Every (digest, use) under `prefix`."""
    async for stat in store.scan(prefix):
        stored = await store.get(stat.name)
        if stored:
            for pair in _decoded(pipeline, stat.name, stored.data).items():
                yield pair

"""Vector records that outlived their entries: found by name, removed by version. Nothing of their content is read."""

from __future__ import annotations

from typing import Any, Final

from agentcache_core.backend import Stat
from agentcache_core.batch import fetch
from agentcache_core.store.ledger import PREFIX_SIZE

DIGEST: Final = 32
BATCH: Final = 100
YOUNG: Final = 3600.0
"""Seconds for which a vector may be without its entry: entries come and go, and an answer is often computed anew."""


def is_vector(name: bytes) -> bool:
    """Whether a name is a vector record's: its namespace, `/v/`, and at its end the digest of its entry."""
    return len(name) > PREFIX_SIZE + 3 + DIGEST and name[PREFIX_SIZE : PREFIX_SIZE + 3] == b"/v/"


async def prune_vectors(store: Any, tenant: bytes, *, now: float, dry_run: bool = False) -> int:
    """Remove a tenant's vector records whose entry is gone; answers how many. Raises `BackendError`."""
    removed = 0
    waiting: list[Stat] = []
    async for stat in store.scan(tenant):
        if is_vector(stat.name) and now - stat.modified_at >= YOUNG:
            waiting.append(stat)
            if len(waiting) == BATCH:
                removed += await _prune(store, waiting, dry_run=dry_run)
                waiting = []
    return removed + await _prune(store, waiting, dry_run=dry_run)


async def _prune(store: Any, vectors: list[Stat], *, dry_run: bool) -> int:
    if not vectors:
        return 0
    entries = [stat.name[:PREFIX_SIZE] + b"/e/" + stat.name[-DIGEST:] for stat in vectors]
    orphans = [stat for stat, entry in zip(vectors, await fetch(store, entries), strict=True) if not entry]
    if dry_run:
        return len(orphans)
    return sum([await store.delete(stat.name, if_version=stat.version) for stat in orphans])

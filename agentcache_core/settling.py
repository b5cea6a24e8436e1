"""Which of two copies of one key stands on a tier that is not the authority.

Writers and readers reach such a tier in any order. So each copy says by which change of the namespace it is confirmed
(`EntryRecord.rank`), and the one confirmed by the later change stands, tombstones included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentcache_core.backend import Version
from agentcache_core.batch import fetch
from agentcache_core.errors import BackendError
from agentcache_core.keys import Key
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import StoredTier, Trouble

ATTEMPTS = 8
Copy = tuple[Key, EntryRecord]
"""A copy to be placed: its key, and the record as the tier is to hold it."""


async def settle(rt: Runtime, space: Space, key: Key, tier: StoredTier, record: EntryRecord) -> bool | Trouble:
    """Write a copy unless a later one stands there; answers whether it was written."""
    for _ in range(ATTEMPTS):
        version = await tier.put(rt, space, key, record, if_absent=True)
        if version is not None:
            return version if isinstance(version, Trouble) else True
        name = space.entry_name(key)
        stored: Any = await tier.attempt(space, "get", tier.store(rt.face).get(name))
        if isinstance(stored, Trouble):
            return stored
        if not stored:
            continue
        if await _stands(rt, tier, space, name, stored, record):
            return False
        version = await tier.put(rt, space, key, record, if_version=stored.version)
        if version is not None:
            return version if isinstance(version, Trouble) else True
    return Trouble(BackendError("the entry kept changing while it was being written"))


async def settle_many(
    rt: Runtime, space: Space, tier: StoredTier, copies: Sequence[Copy], *, absent: bool
) -> list[bool] | Trouble:
    """`settle` for several copies: one round trip where nothing stands in their place, three where something does.

    `absent` says that most of them are not there yet, so that looking first would be a round trip for nothing.
    """
    done = [False] * len(copies)
    left = list(range(len(copies)))
    if absent and copies:
        placed = await tier.placed_many(rt, space, copies)
        if isinstance(placed, Trouble):
            return placed
        copies = placed
        versions = await tier.put_many(rt, space, copies, if_absent=True)
        if isinstance(versions, Trouble):
            return versions
        for index, version in enumerate(versions):
            done[index] = version is not None
        left = [index for index in left if not done[index]]
    if not left:
        return done
    names = [space.entry_name(copies[index][0]) for index in left]
    answers = await tier.attempt(space, "get_many", fetch(tier.store(rt.face), names))
    if isinstance(answers, Trouble):
        return answers
    over: list[tuple[int, Version | None]] = []
    for index, name, stored in zip(left, names, answers, strict=True):
        if not stored:
            over.append((index, None))
        elif not await _stands(rt, tier, space, name, stored, copies[index][1]):
            over.append((index, stored.version))
    if not over:
        return done
    written = await tier.put_many(rt, space, [copies[index] for index, _ in over], over=[old for _, old in over])
    if isinstance(written, Trouble):
        return written
    for (index, _), version in zip(over, written, strict=True):
        if version is not None:
            done[index] = True
            continue
        key, record = copies[index]  # somebody else wrote in between
        alone = await settle(rt, space, key, tier, record)
        if isinstance(alone, Trouble):
            return alone
        done[index] = alone
    return done


async def _stands(rt: Runtime, tier: StoredTier, space: Space, name: bytes, stored: Any, record: EntryRecord) -> bool:
    """Whether what is stored is confirmed by a later change than the record is."""
    old = await tier.record_in(rt, space, name, stored)
    return old is not None and old.lineage == record.lineage and old.rank > record.rank

"""Dictionaries as stored: one frame each beside the tenant's entries, and an index by kind, oldest first.

A dictionary is stored before anything is compressed with it, and never removed while the tenant lives: a frame
without its dictionary cannot be read.
"""

from __future__ import annotations

from typing import Any, Final

import ormsgpack

from agentcache_core.codec import frame
from agentcache_core.codec.dictionary import DictionarySet, Trained
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.policy.worth import KEEP

MAX_SIZE: Final = 1 << 20


def dictionary_name(tenant: bytes, number: int) -> bytes:
    """Where dictionary `number` of a tenant (its 16 digits) lies."""
    return tenant + b"/d/" + number.to_bytes(4, "big")


async def save(store: Any, pipeline: Pipeline, tenant: bytes, kind: str, trained: Trained, *, now: float) -> None:
    """Store a dictionary, then name it in the index. Raises `BackendError`."""
    name = dictionary_name(tenant, trained.number)
    header = ormsgpack.packb([kind, now])
    await store.put(name, pipeline.seal_plain(frame.DICTIONARY, header, trained.content, bound_to=name), weight=KEEP)
    index = await _index(store, pipeline, tenant)
    index.setdefault(kind, []).append(trained.number)
    name = tenant + b"/d"
    await store.put(name, pipeline.seal_plain(frame.RECORD, b"", ormsgpack.packb(index), bound_to=name), weight=KEEP)


async def load_one(store: Any, pipeline: Pipeline, tenant: bytes, number: int, into: DictionarySet) -> bool:
    """Load a dictionary by number; False when it is not there or damaged. Raises `BackendError`."""
    name = dictionary_name(tenant, number)
    stored = await store.get(name)
    if not stored:
        return False
    try:
        header, content = pipeline.open(frame.DICTIONARY, stored.data, max_size=MAX_SIZE, bound_to=name)
        kind, created_at = ormsgpack.unpackb(header)
        into.add(number, str(kind), content, float(created_at))
    except (CorruptFrame, ValueError, TypeError):
        return False
    return True


async def load_all(store: Any, pipeline: Pipeline, tenant: bytes, into: DictionarySet) -> None:
    """Load every dictionary of a tenant: one read when there is none. Raises `BackendError`."""
    for numbers in (await _index(store, pipeline, tenant)).values():
        for number in numbers:
            if into.by_id(number) is None:
                await load_one(store, pipeline, tenant, number, into)


async def _index(store: Any, pipeline: Pipeline, tenant: bytes) -> dict[str, list[int]]:
    name = tenant + b"/d"
    stored = await store.get(name)
    if not stored:
        return {}
    try:
        listed = ormsgpack.unpackb(pipeline.open(frame.RECORD, stored.data, max_size=MAX_SIZE, bound_to=name).body)
        return {str(kind): [int(number) for number in numbers] for kind, numbers in listed.items()}
    except (CorruptFrame, ValueError, TypeError, AttributeError):
        return {}

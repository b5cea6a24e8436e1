"""Several names in one round trip where a backend can, one by one where it cannot. Stores are async-shaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentcache_core.backend import Put, Stored, Version


async def fetch(store: Any, names: Sequence[bytes]) -> list[Stored | Any]:
    """Several names in one round trip where the backend can, one by one where it cannot."""
    if len(names) > 1 and (get_many := getattr(store, "get_many", None)) is not None:
        return list(await get_many(names))
    return [await store.get(name) for name in names]


async def write_batch(store: Any, puts: Sequence[Put]) -> list[Version | None]:
    """Several writes in one round trip where the backend can."""
    if len(puts) > 1 and (put_many := getattr(store, "put_many", None)) is not None:
        return list(await put_many(puts))
    return [
        await store.put(
            put.name,
            put.data,
            expires_at=put.expires_at,
            if_absent=put.if_absent,
            if_version=put.if_version,
            weight=put.weight,
        )
        for put in puts
    ]

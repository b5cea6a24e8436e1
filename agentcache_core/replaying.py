"""Why a replay has no answer: the recorded request that is nearest, and where it differs."""

from __future__ import annotations

from typing import Any

from agentcache_core.codec.serialize import loads
from agentcache_core.errors import AgentCacheError
from agentcache_core.invalidation import live_entries
from agentcache_core.keys import Key
from agentcache_core.keys.diff import FieldDiff, diff
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.tiering import Tiers

MOST = 1000
SHOWN = 12


async def describe_miss(rt: Runtime, tiers: Tiers, space: Space, key: Key, request: object) -> str:
    """A message that names the request and, where others are recorded, each field in which the nearest differs.

    At most `MOST` recorded requests of the same kind are compared.
    """
    where = f"in namespace {space.namespace!r}" if space.namespace else "here"
    message = f"nothing is recorded {where} for this {key.kind} request ({key.digest.hex()[:16]})"
    nearest: tuple[FieldDiff, ...] | None = None
    compared = 0
    async for _, record in live_entries(rt, tiers, space, timeless=True):
        if record.kind != key.kind or record.request is None or compared >= MOST:
            continue
        compared += 1
        differences = _compared(loads(record.request), request)
        if differences is not None and (nearest is None or len(differences) < len(nearest)):
            nearest = differences
    if nearest is None:
        return f"{message}, and no other request of its kind is. Record it with mode='record'."
    lines = [f"  {difference}" for difference in nearest[:SHOWN]]
    if len(nearest) > SHOWN:
        lines.append(f"  … and {len(nearest) - SHOWN} more")
    return "\n".join([f"{message}; the nearest of {compared} recorded differs in:", *lines])


def _compared(recorded: Any, request: object) -> tuple[FieldDiff, ...] | None:
    try:
        return diff(recorded, request)
    except AgentCacheError:
        return None

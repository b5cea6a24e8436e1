"""Another end of life for an entry that was read, in its very place: what was written, removed or invalidated since
stays so."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentcache_core.keys import Key
from agentcache_core.placing import Late
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Found

if TYPE_CHECKING:
    from agentcache_core.writing import Writer


async def renew(writer: Writer, rt: Runtime, space: Space, key: Key, found: Found, *, until: float) -> None:
    """Let an entry be fresh until a moment (seconds)."""
    tiers = writer.tiers
    record = replace(found.record, stale_at=until, expires_at=until)
    if tiers.local:
        _renew_near(writer, space, key, found, record)
        return
    record = replace(record, payload=found.value)
    writer.supersede_near(space, key)
    version = space.version
    answer = await writer.placing.write(rt, space, key, record, computed=True, unless=_never, late=Late(None))
    if tiers.near is not None and answer.stored and not answer.overtaken and tiers.near.takes(len(found.value)):
        tiers.keep_near(space, key, record, found.value, packed=True, unless=lambda: space.version != version)


def _renew_near(writer: Writer, space: Space, key: Key, found: Found, record: EntryRecord) -> None:
    near = writer.tiers.near
    assert near is not None
    home = near.home(space.tenant, space.namespace, key.kind)

    def is_replaced() -> bool:
        slot = home.get(key.address)
        return slot is None or slot.record is not found.record

    writer.tiers.keep_near(space, key, record, found.value, packed=found.packed, unless=is_replaced)


def _never() -> bool:
    return False

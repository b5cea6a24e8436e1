"""Figures that survive: each process adds what it counted to one record per namespace on the authority.

Adding is a read and a conditional write, tried again when another process came between; where a backend cannot write
conditionally, each process keeps a record of its own. A process that is killed loses what it counted since it last
added, at most `INTERVAL` seconds of it. How single entries are used is written back in the same turns (`access`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from typing import Any, Final

import ormsgpack

from agentcache_core.access import write_back
from agentcache_core.clock import Clock
from agentcache_core.codec import frame
from agentcache_core.errors import BackendError, CorruptFrame
from agentcache_core.ledger import Counts, added, bounded, subtracted
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.tier import Trouble
from agentcache_core.tiering import Tiers

INTERVAL: Final = 10.0
_ATTEMPTS: Final = 16
_MAX_RECORD: Final = 16 * 1024 * 1024


class Figures:
    """The persisted counts of one cache. Spaces are added to as they are met; nothing is while not `enabled`."""

    def __init__(self, tiers: Tiers, clock: Clock) -> None:
        self._tiers = tiers
        self.enabled = True
        self._monotonic = clock.monotonic
        self._now = clock.now
        self._added: dict[Space, Counts] = {}
        self._due: dict[Space, float] = {}
        self._pid = os.getpid()
        self._own = secrets.token_hex(8).encode()

    def due(self, space: Space) -> bool:
        """Whether it is time to add what was counted in a space."""
        if self._tiers.local:
            return False
        if self._pid != os.getpid():
            self._forked()
        now = self._monotonic()
        at = self._due.setdefault(space, now + INTERVAL)
        if now < at:
            return False
        self._due[space] = now + INTERVAL
        return True

    def next_due(self, space: Space) -> float:
        """When `due` will say so, in monotonic seconds; 0.0 before it was first asked."""
        return self._due.get(space, 0.0) if self._pid == os.getpid() else 0.0

    def _forked(self) -> None:
        """In a forked child: what the parent had counted is the parent's to add."""
        self._pid = os.getpid()
        self._own = secrets.token_hex(8).encode()
        for space in list(self._due):
            self._added[space] = space.counters.plain()

    async def add(self, rt: Runtime, space: Space, *, closing: bool = False) -> None:
        """Add what this process counted in a space since it last did, and note for placement how its entries were
        used. `closing` does no more than is needed for that."""
        authority = self._tiers.authority
        if authority is None or not self.enabled:
            return
        if self._pid != os.getpid():
            self._forked()
        if used := space.access.drain():
            store, pipeline = authority.store(rt.face), authority.pipeline(space)
            work = write_back(store, pipeline, space.access_prefix, used, now=self._now(), folding=not closing)
            await authority.attempt(space, "figures", work)
        counted = space.counters.plain()
        fresh = subtracted(counted, self._added.get(space, {}))
        if not fresh:
            return
        self._added[space] = counted
        answer = await authority.attempt(space, "figures", self._merge(rt, space, fresh))
        if isinstance(answer, Trouble):
            self._added[space] = subtracted(counted, fresh)

    async def _merge(self, rt: Runtime, space: Space, fresh: Counts) -> None:
        authority = self._tiers.authority
        assert authority is not None
        store, name = authority.store(rt.face), _name(space)
        shared = store.capabilities.conditional_put
        if not shared:
            name += b"/" + self._own
        for _ in range(_ATTEMPTS):
            found = await store.get(name)
            known = self._opened(space, name, found.data)[1] if found else {}
            body = ormsgpack.packb([space.namespace, bounded(added(known, fresh))])
            sealed = authority.pipeline(space).seal(frame.RECORD, b"", body, bound_to=name)
            condition: dict[str, Any] = {}
            if shared:
                condition = {"if_version": found.version} if found else {"if_absent": True}
            if await store.put(name, sealed, **condition) is not None:
                return
        raise BackendError(f"the figures of namespace {space.namespace!r} kept changing; gave up for now")

    async def read(self, rt: Runtime, space: Space, known: Iterable[Space]) -> dict[str, Counts]:
        """The counts of every namespace of a space's tenant: what is stored, and what this process has not added.

        `known` are this process's spaces.
        """
        totals: dict[str, Counts] = {}
        authority = self._tiers.authority
        if authority is not None:
            answer = await authority.attempt(space, "figures", self._stored(rt, space))
            if not isinstance(answer, Trouble):
                totals = answer
        if self._pid != os.getpid():
            self._forked()
        for mine in list(known):
            if mine.tenant == space.tenant:
                fresh = subtracted(mine.counters.plain(), self._added.get(mine, {}))
                totals[mine.namespace] = added(totals.get(mine.namespace, {}), fresh)
        return totals

    async def _stored(self, rt: Runtime, space: Space) -> dict[str, Counts]:
        authority = self._tiers.authority
        assert authority is not None
        store = authority.store(rt.face)
        names = [stat.name async for stat in store.scan(_prefix(space))]
        totals: dict[str, Counts] = {}
        for name in names:
            found = await store.get(name)
            if found:
                namespace, counts = self._opened(space, name, found.data)
                totals[namespace] = added(totals.get(namespace, {}), counts)
        return totals

    def _opened(self, space: Space, name: bytes, data: bytes) -> tuple[str, Counts]:
        """The namespace and counts of a record; a damaged one counts nothing."""
        authority = self._tiers.authority
        assert authority is not None
        try:
            opened = authority.pipeline(space).open(frame.RECORD, data, max_size=_MAX_RECORD, bound_to=name)
            namespace, counts = ormsgpack.unpackb(opened.body)
        except (CorruptFrame, ValueError, TypeError):
            return space.namespace, {}
        return str(namespace), counts


def _prefix(space: Space) -> bytes:
    return space.tenant_prefix + b"/f/"


def _name(space: Space) -> bytes:
    return _prefix(space) + space.prefix[len(space.tenant_prefix) :]

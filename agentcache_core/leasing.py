"""Leases between processes: of all that miss on one key, one computes; the others wait for its answer.

Only the leader of a flight takes the lease. Whatever goes wrong with leases means that the computation goes ahead: a
lease saves work, it never guards correctness. A holder that dies delays the others by at most `LEASE_SECONDS`; one
that overslept finds its lease gone and does not overwrite.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from agentcache_core.backend import Grant, SupportsLease, supports
from agentcache_core.background import Repeated
from agentcache_core.events import Events
from agentcache_core.keys import Key
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.tier import Found, Trouble
from agentcache_core.tiering import Tiers

LEASE_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.004, 0.1


@dataclass(slots=True)
class Held:
    """A lease this process holds; `renewing` ends its renewal."""

    name: bytes
    grant: Grant
    renewing: Callable[[], None]


class Leases:
    """The leases of one cache, on its authority where that has the power."""

    def __init__(self, tiers: Tiers, events: Events) -> None:
        self._tiers = tiers
        self._events = events
        self.seconds = LEASE_SECONDS

    def _store(self, rt: Runtime) -> Any:
        authority = self._tiers.authority
        store = None if authority is None else authority.store(rt.face)
        return store if supports(store, SupportsLease) else None

    async def turn(
        self, rt: Runtime, space: Space, key: Key, look: Callable[[], Awaitable[Found | None]], *, nested: bool
    ) -> Held | Found | None:
        """Wait for this process's turn to compute: a lease, the answer another has stored meanwhile, or None where
        leases are not to be had. A computation inside another (`nested`) never waits: whoever holds a lease while
        waiting for one could close a circle that no single process sees."""
        store, authority = self._store(rt), self._tiers.authority
        if store is None or authority is None or not authority.available:
            return None
        name, pause, waited = space.lease_name(key), FIRST_PAUSE, False
        while True:
            grant = await authority.attempt(space, "lease", store.acquire(name, self.seconds))
            if isinstance(grant, Trouble):
                return None
            if grant is not None:
                # Somebody may have stored between the miss and the grant, so look once more before computing.
                found = await look()
                if found is None:
                    return Held(name, grant, self._keep_alive(rt, space, name, grant))
                await authority.attempt(space, "lease", store.release(name, grant))
                return found
            if nested:
                return None
            if not waited:
                waited = True
                self._events.tell("joined", tenant=space.tenant, namespace=space.namespace, kind=key.kind)
            await rt.sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads the waiting
            pause = min(pause * 1.5, LONGEST_PAUSE)
            found = await look()
            if found is not None:
                return found

    def _keep_alive(self, rt: Runtime, space: Space, name: bytes, grant: Grant) -> Callable[[], None]:
        authority = self._tiers.authority
        assert authority is not None

        async def renew() -> bool:
            answer = await authority.attempt(space, "lease", authority.store(rt.face).renew(name, grant, self.seconds))
            return answer is True

        return Repeated.start(rt, renew, every=self.seconds / 3)

    def renewal(self, rt: Runtime, space: Space, held: Held) -> Callable[[], Awaitable[bool]]:
        """A function that proves the lease is still held, by renewing it."""
        authority = self._tiers.authority
        assert authority is not None

        async def renew() -> bool:
            store = authority.store(rt.face)
            return await authority.attempt(space, "lease", store.renew(held.name, held.grant, self.seconds)) is True

        return renew

    async def release(self, rt: Runtime, space: Space, held: Held) -> None:
        """Let the next one in."""
        held.renewing()
        store, authority = self._store(rt), self._tiers.authority
        if store is not None and authority is not None:
            await authority.attempt(space, "lease", store.release(held.name, held.grant))

"""Leases between processes: of all that miss on one key, one computes; the others wait for its answer.

Only the leader of a flight takes the lease. Whatever goes wrong with leases means that the computation goes ahead: a
lease saves work, it never guards correctness. A holder that dies delays the others by at most `LEASE_SECONDS`; one
that overslept finds its lease gone and does not overwrite.

The authority keeps the leases where it can. An object store cannot; then the coldest shared tier that can keeps them.
What overwrites is fenced there as well: the version of what stands on the authority is read, then the lease is proven
by renewing it, then exactly that version is replaced. Whoever was granted the lease later had it after the proof, and
so wrote after the version was read: then the version has changed.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from agentcache_core.allowance import replenish, used_up
from agentcache_core.backend import Grant, Version
from agentcache_core.background import Background, Repeated
from agentcache_core.events import Events
from agentcache_core.keys import Key
from agentcache_core.powers import SupportsLease, supports
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.tier import Found, StoredTier, Trouble
from agentcache_core.tiering import Tiers

LEASE_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.004, 0.1


@dataclass(slots=True)
class Held:
    """A lease this process holds, and on which tier; `until` is the monotonic time up to which nobody else can have
    been granted it, `renewing` ends its renewal."""

    tier: StoredTier
    name: bytes
    grant: Grant
    until: float
    renewing: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a lease is still held: `renew()` asks the tier that keeps it, `stands()` only this process's clock."""

    renew: Callable[[], Coroutine[Any, Any, bool]]
    stands: Callable[[], bool]


class Leases:
    """The leases of one cache."""

    def __init__(self, tiers: Tiers, events: Events, background: Background) -> None:
        self._tiers = tiers
        self._events = events
        self._background = background
        self.seconds = LEASE_SECONDS

    def _keeper(self, rt: Runtime) -> StoredTier | None:
        """The tier that keeps the leases: the authority, else the coldest shared one that can, else the coldest."""
        able = [tier for tier in self._tiers.stored if supports(tier.store(rt.face), SupportsLease)]
        if self._tiers.authority in able:
            return self._tiers.authority
        shared = [tier for tier in able if tier.store(rt.face).capabilities.shared]
        kept = shared or able
        return kept[-1] if kept else None

    async def turn(
        self, rt: Runtime, space: Space, key: Key, look: Callable[[], Awaitable[Found | None]], *, nested: bool
    ) -> Held | Found | None:
        """Wait for this process's turn to compute: a lease, the answer another has stored meanwhile, or None where
        leases are not to be had. A computation inside another (`nested`) never waits: whoever holds a lease while
        waiting for one could close a circle that no single process sees."""
        tier, authority = self._keeper(rt), self._tiers.authority
        if tier is None or authority is None:
            return None
        store, name, pause, waited = tier.store(rt.face), space.lease_name(key), FIRST_PAUSE, False
        seen: Version | None = None
        while tier.available and authority.available:
            asked = self._tiers.clock.monotonic()
            grant = await tier.attempt(space, "lease", store.acquire(name, self.seconds))
            if isinstance(grant, Trouble):
                return None
            if grant is not None:
                # Somebody may have stored between the miss and the grant, so look once more before computing.
                found = await look()
                if found is None:
                    held = Held(tier, name, grant, asked + self.seconds)
                    held.renewing = Repeated.start(rt, self.proof(rt, space, held).renew, every=self.seconds / 3)
                    return held
                await self._let_go(rt, space, tier, name, grant)
                return found
            if nested:
                return None
            if not waited:
                waited = True
                self._events.tell("joined", tenant=space.tenant, namespace=space.namespace, kind=key.kind)
                seen = None if tier is authority else await self._version(rt, space, key, tier)
            await rt.sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads the waiting
            pause = min(pause * 1.5, LONGEST_PAUSE)
            replenish()  # what is waited for here is another's computation, not the store
            if tier is not authority:
                # The authority is asked only when there is reason to: each look may be paid for there.
                before, seen = seen, await self._version(rt, space, key, tier)
                if seen == before:
                    continue
            found = await look()
            if found is not None:
                return found
        return None

    async def _version(self, rt: Runtime, space: Space, key: Key, tier: StoredTier) -> Version | None:
        """The version of the copy on the tier that keeps the leases; its holder's answer will be another."""
        stored = await tier.attempt(space, "get", tier.store(rt.face).get(space.entry_name(key)))
        return None if isinstance(stored, Trouble) or not stored else stored.version

    def proof(self, rt: Runtime, space: Space, held: Held) -> Proof:
        """What proves that a lease is still held."""
        monotonic = self._tiers.clock.monotonic

        async def renew() -> bool:
            asked, tier = monotonic(), held.tier
            work = tier.store(rt.face).renew(held.name, held.grant, self.seconds)
            renewed = await tier.attempt(space, "lease", work) is True
            if renewed:
                held.until = max(held.until, asked + self.seconds)
            return renewed

        return Proof(renew, lambda: monotonic() < held.until)

    async def release(self, rt: Runtime, space: Space, held: Held) -> None:
        """Let the next one in."""
        held.renewing()
        await self._let_go(rt, space, held.tier, held.name, held.grant)

    async def _let_go(self, rt: Runtime, space: Space, tier: StoredTier, name: bytes, grant: Grant) -> None:
        """Give a lease back, behind the caller when the call may wait no longer for the tier."""

        async def release() -> None:
            await tier.attempt(space, "lease", tier.store(rt.face).release(name, grant))

        if used_up(tier.name) and self._background.enabled:
            await self._background.submit(rt, "release", release)
        else:
            await release()

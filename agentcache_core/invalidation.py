"""Invalidation: by request, tag, pattern, namespace or source; in this process at once, and on the authority.

What the authority cannot record now is applied here, journalled, told, and tried again before the authority is read
the next time.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from agentcache_core.allowance import used_up
from agentcache_core.authority import compiled, text_of
from agentcache_core.background import Background
from agentcache_core.cuts import Cuts
from agentcache_core.errors import CorruptFrame, NotWritten
from agentcache_core.events import Events
from agentcache_core.following import Change, forget_near
from agentcache_core.keys import Key
from agentcache_core.model import Freshness
from agentcache_core.placing import Placing
from agentcache_core.policy.freshness import freshness
from agentcache_core.runtime import Runtime
from agentcache_core.space import Generation, Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.tier import Trouble
from agentcache_core.tiering import TOMBSTONE, Tiers, record_of

SOURCE = "source:"
"""The reserved prefix that makes a source a tag."""


@dataclass(frozen=True, slots=True)
class ByRequest:
    key: Key


@dataclass(frozen=True, slots=True)
class ByTag:
    tag: str


@dataclass(frozen=True, slots=True)
class ByPattern:
    pattern: str


@dataclass(frozen=True, slots=True)
class ByNamespace:
    """Everything in the space it is applied to."""


Selector = ByRequest | ByTag | ByPattern | ByNamespace


def selects(selector: Selector, record: EntryRecord) -> bool:
    """Whether an entry is concerned; a `ByRequest` never is, since it names its entry directly."""
    match selector:
        case ByTag(tag):
            return any(name == tag for name, _ in record.tags)
        case ByPattern(pattern):
            text = text_of(record.plain)
            return text is not None and compiled(pattern).match(text) is not None
        case ByNamespace():
            return True
        case ByRequest():
            return False


class Invalidation:
    """Carries selectors out on the tiers of one cache."""

    def __init__(self, tiers: Tiers, events: Events, background: Background, *, strict: bool) -> None:
        self._tiers = tiers
        self._background = background
        self._placing = Placing(tiers)
        self._events = events
        self._strict = strict
        self._journal: list[tuple[Space, Selector]] = []
        tiers.before_authority = self.replay_journal

    async def apply(self, rt: Runtime, space: Space, selector: Selector, *, count: bool = False) -> int | None:
        """Invalidate; with `count`, answer how many live entries were concerned. With `strict` it raises
        `NotWritten` when the authority could not record it; it is then still applied in this process."""
        counted = await self.count(rt, space, selector) if count else None
        space.counters.invalidations += 1
        existed = self._apply_here(space, selector)
        if not self._tiers.local:
            trouble = await self._record(rt, space, selector)
            if isinstance(trouble, Trouble):
                self._journal.append((space, selector))
                self._tiers.journalled.add(space)
                self._events.tell("pending", tenant=space.tenant, namespace=space.namespace, reason=str(trouble.error))
                await self._replay_behind(rt, space)
                if self._strict:
                    raise NotWritten(
                        f"the authority did not record the invalidation: {trouble.error}"
                    ) from trouble.error
            elif isinstance(selector, ByRequest):
                existed = bool(trouble)
        self._events.tell(
            "invalidate",
            tenant=space.tenant,
            namespace=space.namespace,
            reason=type(selector).__name__,
            detail={"selector": _shown(selector)},
        )
        if isinstance(selector, ByRequest):
            return int(existed)
        return counted

    def _apply_here(self, space: Space, selector: Selector) -> bool:
        """Make it true in this process; answers whether a request's near copy was there."""
        cuts = Cuts(space)
        match selector:
            case ByRequest(key):
                cuts.note("request", key.address)
            case ByTag(tag):
                cuts.note("tag", tag)
            case ByPattern(pattern):
                cuts.note("pattern", pattern)
            case ByNamespace():
                cuts.note("namespace", None)
        return self._forget_near(space, selector)

    def _forget_near(self, space: Space, selector: Selector) -> bool:
        """Remove the near copies concerned; answers whether a request's was there."""
        near = self._tiers.near
        if near is not None:
            match selector:
                case ByRequest(key):
                    return near.remove(near.home(space.tenant, space.namespace, key.kind), key.address)
                case ByTag(tag):
                    forget_near(near, space, ("tag", "", tag))
                case ByPattern(pattern):
                    forget_near(near, space, ("pattern", "", pattern))
                case ByNamespace():
                    self._tiers.drop_near(space)
        return False

    async def _record(self, rt: Runtime, space: Space, selector: Selector) -> Any:
        """Make it true on the authority; answers a `Trouble` when that failed."""
        recorded = await self._written(rt, space, selector)
        # A look-up that began meanwhile may have read what stood there before, and kept it.
        with space.lock:
            space.version += 1
        self._forget_near(space, selector)
        return recorded

    async def _written(self, rt: Runtime, space: Space, selector: Selector) -> Any:
        tiers = self._tiers
        authority = tiers.authority
        assert authority is not None
        held = tiers.of(rt, space)
        match selector:
            case ByRequest(key):
                return await self._placing.remove(rt, space, key)
            case ByTag(tag):
                moved = await authority.attempt(space, "invalidate", held.move_tag(tag))
                change: Change = ("tag", "", tag)
            case ByPattern(pattern):
                moved = await authority.attempt(space, "invalidate", held.bump(cut=True, ban=pattern))
                change = ("pattern", "", pattern)
            case ByNamespace():
                return await authority.attempt(space, "invalidate", held.bump(cut=True, lineage=True))
        if isinstance(moved, Generation):
            await self._placing.publish(rt, space, moved, change)
        return moved

    async def replay_journal(self, rt: Runtime, space: Space) -> bool:
        """Try again what this namespace's authority missed; answers whether nothing is left."""
        mine = [entry for entry in self._journal if entry[0] is space]
        for entry in mine:
            if isinstance(await self._record(rt, space, entry[1]), Trouble):
                await self._replay_behind(rt, space)
                return False
            with contextlib.suppress(ValueError):  # another thread was quicker
                self._journal.remove(entry)
        self._tiers.journalled.discard(space)
        if any(entry[0] is space for entry in self._journal):  # noted meanwhile
            self._tiers.journalled.add(space)
            return False
        return True

    async def _replay_behind(self, rt: Runtime, space: Space) -> None:
        """Replay the journal where each request has a deadline of its own, if this call may wait no longer."""
        authority = self._tiers.authority
        if authority is not None and used_up(authority.name) and self._background.enabled:

            async def replay() -> None:
                await self.replay_journal(rt, space)

            await self._background.submit(rt, "journal", replay, key=("journal", space.prefix))

    def pending(self, tenant: str | None = None) -> int:
        """Invalidations the authority has yet to record, of one tenant or (None) of all."""
        return sum(tenant is None or space.tenant == tenant for space, _ in list(self._journal))

    async def count(self, rt: Runtime, space: Space, selector: Selector) -> int:
        """The number of live entries a selector concerns, by scan."""
        total = 0
        async for _, record in self.entries(rt, space):
            total += selects(selector, record)
        return total

    async def plain_keys(self, rt: Runtime, space: Space, prefix: str) -> list[str]:
        """The live plain keys of kind text that begin with `prefix`, by scan."""
        found = [record.plain async for _, record in self.entries(rt, space) if record.kind == "text"]
        return [plain for plain in found if isinstance(plain, str) and plain.startswith(prefix)]

    def entries(self, rt: Runtime, space: Space) -> AsyncIterator[tuple[bytes, EntryRecord]]:
        """The live entries of a namespace as (name, record)."""
        return live_entries(rt, self._tiers, space)


async def live_entries(
    rt: Runtime, tiers: Tiers, space: Space, *, timeless: bool = False
) -> AsyncIterator[tuple[bytes, EntryRecord]]:
    """The live entries of a namespace on its authority as (name, record); payloads come along where inline.

    `timeless` also gives those whose time is over, as a replay serves them.
    """
    now = tiers.clock.now()
    if tiers.local:
        assert tiers.near is not None
        for kind, home in tiers.near.homes(space.tenant, space.namespace):
            for slot in tiers.near.snapshot(home):
                record = record_of(slot, kind)
                if timeless or freshness(record.stale_at, record.expires_at, now) is not Freshness.GONE:
                    yield str(slot.key).encode("utf-8", "surrogatepass"), record
        return
    authority = tiers.authority
    assert authority is not None
    store, held = authority.store(rt.face), tiers.of(rt, space)
    held.observe((await held.read([space.generation_name]))[0])
    await authority.prepare(rt, space)
    async for stat in store.scan(space.entries_prefix):
        stored = await store.get(stat.name)
        if not stored:
            continue
        try:
            record = authority.decode(space, stat.name, stored)
        except CorruptFrame:
            continue
        gone = not timeless and freshness(record.stale_at, record.expires_at, now) is Freshness.GONE
        if record.kind != TOMBSTONE and not gone and await held.servable(record):
            yield stat.name, record


def _shown(selector: Selector) -> str:
    match selector:
        case ByRequest(key):
            return key.digest.hex()
        case ByTag(tag):
            return tag
        case ByPattern(pattern):
            return pattern
        case ByNamespace():
            return ""

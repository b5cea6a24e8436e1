"""Moves between tiers: what is where, and copying or removing it so that a crash at any step loses nothing.

A promotion copies into a hotter tier; a demotion first sees that the authority has the entry, then removes exactly
the copy that was looked at. Assets stay where their parts are. A copy that an overwrite or a removal may have missed
(the generation says so) goes nowhere, least of all onto the authority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from agentcache_core.access import read_all
from agentcache_core.backend import Version
from agentcache_core.clock import Clock
from agentcache_core.errors import CorruptFrame
from agentcache_core.policy.placement import Access, Item, Move
from agentcache_core.records import decode_generation
from agentcache_core.runtime import Runtime
from agentcache_core.space import Generation, Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.store.ledger import ASSET_KIND, PREFIX_SIZE, Ledger
from agentcache_core.tier import StoredTier
from agentcache_core.tiering import TOMBSTONE
from agentcache_core.verdicts import Verdicts

MOST_ITEMS: Final = 1_000_000
BYTES_PER_SECOND: Final = 50_000_000
MOVES_PER_SECOND: Final = 100
BURST: Final = 0.1
"""Seconds by which moves may run ahead of their rate before one waits."""
LONGEST_SLEEP: Final = 0.5
"""Seconds after which a waiting mover looks whether it should end."""
_NO_USE: Final = Access()


class Survey:
    """Which tiers hold which entries of a tenant, and how these are used."""

    __slots__ = ("_created", "_held", "_sizes", "_use", "truncated")

    def __init__(self) -> None:
        self._held: dict[bytes, list[tuple[int, Version]]] = {}
        self._sizes: dict[bytes, int] = {}
        self._created: dict[bytes, float] = {}
        self._use: dict[bytes, Access] = {}
        self.truncated = False

    def saw(self, name: bytes, tier: int, version: Version, record: EntryRecord) -> None:
        if name not in self._held:
            if len(self._held) >= MOST_ITEMS:
                self.truncated = True
                return
            self._sizes[name], self._created[name] = record.size, record.created_at
        self._held.setdefault(name, []).append((tier, version))

    def used(self, name: bytes, access: Access, now: float) -> None:
        if name in self._held:
            known = self._use.get(name)
            self._use[name] = access if known is None else known.merged(access, now)

    def version(self, name: bytes, tier: int) -> Version | None:
        return dict(self._held[name]).get(tier)

    @property
    def prefixes(self) -> set[bytes]:
        return {name[:PREFIX_SIZE] for name in self._held}

    def items(self) -> Iterator[Item]:
        for name, held in self._held.items():
            tiers = tuple(tier for tier, _ in held)
            yield Item(name, self._sizes[name], tiers, self._use.get(name, _NO_USE), self._created[name])


async def survey(
    rt: Runtime, space: Space, ledgers: Sequence[Ledger], authority: StoredTier, judged: Verdicts, *, now: float
) -> Survey:
    """Read the ledger of every tier of a tenant, hottest first. Raises `BackendError`."""
    found = Survey()
    for index, ledger in enumerate(ledgers):
        async for line in ledger.lines():
            record = line.record
            if isinstance(record, CorruptFrame) or not record.kind or record.kind == ASSET_KIND:
                continue
            if not await judged.dead(line.name, record):
                found.saw(line.name, index, line.stat.version, record)
    for prefix in found.prefixes:
        store, pipeline = authority.store(rt.face), authority.pipeline(space)
        async for digest, access in read_all(store, pipeline, prefix + b"/a/"):
            found.used(prefix + b"/e/" + digest, access, now)
    return found


class Pace:
    """At most so many moves and bytes a second: `delay(now, size)` takes the next turn for a move of `size` bytes and
    answers the seconds to wait for it. `now` is monotonic seconds. Short delays are saved up to `BURST`."""

    def __init__(self, *, moves: float = MOVES_PER_SECOND, size: float = BYTES_PER_SECOND) -> None:
        self._moves = moves
        self._size = size
        self._free = float("-inf")

    def delay(self, now: float, size: int) -> float:
        wait = max(0.0, self._free - now)
        self._free = max(now, self._free) + max(1 / self._moves, size / self._size)
        return wait if wait > BURST else 0.0


class Mover:
    """Makes moves, at a bounded rate. `go_on()` raises when no further move should be made."""

    def __init__(
        self,
        rt: Runtime,
        space: Space,
        tiers: Sequence[StoredTier],
        authority: StoredTier,
        *,
        clock: Clock,
        go_on: Callable[[], None] = lambda: None,
        pace: Pace | None = None,
    ) -> None:
        self._rt = rt
        self._space = space
        self._tiers = tiers
        self._authority = authority
        self._clock = clock
        self._go_on = go_on
        self._pace = pace or Pace()

    async def make(self, move: Move, found: Survey) -> bool:
        """Make one move; answers whether it was made (not when the entry changed meanwhile). `BackendError`."""
        await self._wait(self._pace.delay(self._clock.monotonic(), move.size))
        if move.verb == "promote":
            return await self._copy(move.name, self._tiers[move.source], self._tiers[move.target])
        hot = self._tiers[move.source]
        if hot is self._authority:
            return False
        if not await self._safe(move.name, hot):
            return False
        version = found.version(move.name, move.source)
        return bool(await hot.store(self._rt.face).delete(move.name, if_version=version))

    async def _wait(self, seconds: float) -> None:
        self._go_on()
        while seconds > 0:
            await self._rt.sleep(min(seconds, LONGEST_SLEEP))
            seconds -= LONGEST_SLEEP
            self._go_on()

    async def _safe(self, name: bytes, hot: StoredTier) -> bool:
        """See that the authority has what the hot tier is about to lose."""
        held = await self._record(name, self._authority)
        if held is not None:
            mine = await self._record(name, hot)
            return mine is not None and held.lineage == mine.lineage and held.seq >= mine.seq
        return await self._copy(name, hot, self._authority)

    async def _copy(self, name: bytes, source: StoredTier, target: StoredTier) -> bool:
        now = self._clock.now()
        known = await self._generation(name)
        record = await self._record(name, source)
        if record is None or record.kind == TOMBSTONE or known is None or record.lineage != known.lineage:
            return False
        if record.expires_at is not None and record.expires_at <= now:
            return False
        if not target.takes(record.size):
            return False
        if source is self._authority:
            # It stood there after every change known before it was read, and its copy says so.
            record = replace(record, confirmed=max(known.seq, record.seq))
        elif not await self._stands(name, record):
            return False
        elif target is self._authority:
            record = replace(record, confirmed=None)
        if record.blob is not None:
            try:
                payload = await source.blobs(self._rt, self._space).get(record.blob)
            except CorruptFrame:
                return False  # a miss, which the next reader tells
            record = replace(record, payload=payload, blob=None)
        kept = target.limited(record, now)
        return await target.put_named(self._rt, self._space, name, kept, {"if_absent": True}) is not None

    async def _stands(self, name: bytes, record: EntryRecord) -> bool:
        """Whether a copy of a tier that is not the authority is known not to have missed an overwrite or a removal. The
        generation is read after the copy was."""
        generation = await self._generation(name)
        return generation is not None and record.lineage == generation.lineage and record.rank >= generation.lost

    async def _generation(self, name: bytes) -> Generation | None:
        found = await self._authority.store(self._rt.face).get(name[:PREFIX_SIZE] + b"/g")
        try:
            return decode_generation(found.data) if found else None
        except CorruptFrame:
            return None

    async def _record(self, name: bytes, tier: StoredTier) -> EntryRecord | None:
        stored = await tier.store(self._rt.face).get(name)
        return await tier.record_in(self._rt, self._space, name, stored) if stored else None

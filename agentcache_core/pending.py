"""What tiers missed while they were away, and how they are made right again.

A tier that did not take an overwrite or a removal still holds the old copy. Two things keep that from being served:

- The mark `lost` on the namespace's generation. Copies on middle tiers that are confirmed only by earlier changes are
  served by nobody, in no process, until they are read from the authority again.
- The pending deletes of this process. The tombstones that the tier missed are put there in batches, behind the caller;
  until that is done this process does not read the namespace from that tier. Once nothing is owed any more the mark is
  taken back, so that a short absence does not cost every other copy its worth.

A process that dies before it has paid leaves the mark, and each copy is confirmed by the next read of its entry. So at
most `MOST` keys are remembered for a tier and namespace: beyond that the mark alone does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentcache_core.authority import StoredAuthority
from agentcache_core.runtime import Runtime
from agentcache_core.settling import Copy, settle_many
from agentcache_core.space import Generation, Space
from agentcache_core.tier import StoredTier, Trouble

MOST = 1000
BATCH = 100
Owed = dict[bytes, Copy]


@dataclass(slots=True)
class Mark:
    """What this process made of `lost`: what it wrote there, and what had stood there before its first word."""

    lineage: bytes
    before: int
    mine: int


class Pending:
    """The deletes that tiers of one cache have missed, and the marks that stand for them.

    `authority(rt, space)` is the truth about a namespace, `attempt(space, work)` bears its trouble. `behind(rt, work,
    key)` runs work that nobody waits for; None makes the caller pay, one batch at a time.
    """

    def __init__(
        self,
        authority: Callable[[Runtime, Space], StoredAuthority],
        attempt: Callable[[Space, Awaitable[Any]], Awaitable[Any]],
    ) -> None:
        self._authority = authority
        self._attempt = attempt
        self._owed: dict[tuple[str, Space], Owed | None] = {}
        self._marks: dict[Space, Mark] = {}
        self._unmarked: dict[Space, int] = {}
        self.behind: Callable[[Runtime, Callable[[], Any], object], Awaitable[object]] | None = None

    def __bool__(self) -> bool:
        return bool(self._owed)

    def __len__(self) -> int:
        """The number of deletes that are remembered."""
        return sum(len(owed) for owed in list(self._owed.values()) if owed is not None)

    def owes(self, space: Space) -> bool:
        """Whether something is owed in a namespace: then the next change of its generation moves the mark as well."""
        return any(place[1] is space for place in list(self._owed))

    async def missed(self, rt: Runtime, space: Space, tier: StoredTier, tombstones: Sequence[Copy]) -> bool:
        """A tier did not take what makes these old copies unservable: remember that, here and on the authority.
        Answers whether the authority knows, and with it every other process."""
        place = (tier.name, space)
        owed = self._owed.setdefault(place, {})
        if owed is not None:
            for key, tombstone in tombstones:
                owed[key.digest] = (key, tombstone)
            if len(owed) > MOST:
                self._owed[place] = None
        highest = max(tombstone.rank for _, tombstone in tombstones)
        if self._covered(space, space.generation, highest):
            return True
        self._unmarked[space] = max(highest, self._unmarked.get(space, 0))
        return await self._mark(rt, space)

    def _covered(self, space: Space, generation: Generation | None, highest: int) -> bool:
        """Whether a mark of this process, which nobody else takes back, stands for changes up to `highest`."""
        mark = self._marks.get(space)
        if mark is None or generation is None:
            return False
        return (mark.lineage, mark.mine) == (generation.lineage, generation.lost) and mark.mine >= highest

    async def _mark(self, rt: Runtime, space: Space) -> bool:
        """Let the authority know what was lost; answers whether it does."""
        highest = self._unmarked.get(space)
        if highest is None:
            return True

        def change(old: Generation) -> Generation:
            if old.lost < highest:
                return old._replace(lost=highest)
            if self._covered(space, old, highest):
                return old
            return old._replace(seq=old.seq + 1, lost=old.seq + 1)  # that mark is another's, who may take it back

        moved = await self._attempt(space, self._authority(rt, space).mark(change))
        if isinstance(moved, Trouble):
            return False
        if moved is not None:
            self.marked(space, *moved)
        if self._unmarked.get(space) == highest:
            del self._unmarked[space]
        return True

    def marked(self, space: Space, old: Generation | None, new: Generation) -> None:
        """This process has moved the mark from what stood there before."""
        mark = self._marks.get(space)
        if old is None or old.lineage != new.lineage:
            self._marks.pop(space, None)  # whatever was older is unservable anyway
        elif mark is not None and (mark.lineage, mark.mine) == (old.lineage, old.lost):
            mark.mine = new.lost
        else:
            self._marks[space] = Mark(old.lineage, old.lost, new.lost)

    async def drained(self, rt: Runtime, tier: StoredTier, space: Space) -> bool:
        """Whether a tier may be read in a namespace; where it owes something, some of it is paid, behind the caller if
        that can be."""
        place = (tier.name, space)
        if place not in self._owed:
            return True
        if not await self._mark(rt, space):
            return False
        if self._owed.get(place, {}) is None:
            self._owed.pop(place, None)
            self._marks.pop(space, None)  # the mark stays for good
            return True
        if self.behind is not None:
            await self.behind(rt, lambda: self._pay_all(rt, tier, space), ("pending", *place))
        else:
            await self._pay(rt, tier, space)
        return place not in self._owed

    async def _pay_all(self, rt: Runtime, tier: StoredTier, space: Space) -> None:
        while await self._pay(rt, tier, space):
            pass

    async def _pay(self, rt: Runtime, tier: StoredTier, space: Space) -> bool:
        """Put one batch of tombstones where they are owed; answers whether there is more to do now."""
        place = (tier.name, space)
        owed = self._owed.get(place)
        if owed is None:
            return False
        batch = list(owed.items())[:BATCH]
        if batch and isinstance(await settle_many(rt, space, tier, [copy for _, copy in batch], absent=False), Trouble):
            return False
        for digest, copy in batch:
            if owed.get(digest) is copy:
                del owed[digest]
        if owed:
            return True
        if self._owed.get(place) is owed:
            del self._owed[place]
            if not self.owes(space):
                await self._take_back(rt, space)
        return False

    async def _take_back(self, rt: Runtime, space: Space) -> None:
        """Everything is paid: what the mark stood for is true no more, unless others have moved it since."""
        mark = self._marks.pop(space, None)
        if mark is None or space in self._unmarked:
            return

        def lifted(old: Generation) -> Generation:
            mine = (mark.lineage, mark.mine) == (old.lineage, old.lost)
            return old._replace(lost=mark.before) if mine else old

        await self._attempt(space, self._authority(rt, space).mark(lifted))

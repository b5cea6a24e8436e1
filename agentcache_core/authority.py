"""What makes a stored answer unservable: generations, epochs, tombstones and bans, kept on the authority.

The authority is the coldest shared tier, or the only durable one. Per namespace it holds one generation record
(`Generation`), one random epoch per tag, and a list of bans. An entry names the lineage, seq and tag epochs that its
computation knew when it began; it is served only while these are still true. The order of writes is epoch or ban
first, generation last: whoever sees the old generation may still use what it knew under it.

A removed request leaves a tombstone in the entry's place, so that a computation that began before the removal cannot
put its answer there.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

from agentcache_core.backend import Stored, Version
from agentcache_core.batch import fetch
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import BackendError, CorruptFrame
from agentcache_core.policy.worth import KEEP
from agentcache_core.records import (
    decode_bans,
    decode_epoch,
    decode_generation,
    encode_bans,
    encode_epoch,
    encode_generation,
    new_epoch,
)
from agentcache_core.space import Ban, Generation, Space, Stamp
from agentcache_core.store.entries import EntryRecord

MAX_BANS = 1000
ATTEMPTS = 64
TOMBSTONE_SECONDS = 3600.0


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """A glob over plain keys (`*`, `?`, `[…]`, case-sensitive) as a regular expression."""
    return re.compile(fnmatch.translate(pattern))


def text_of(plain: str | bytes | None) -> str | None:
    """A plain key as the text patterns are matched against; bytes are read as Latin-1, a request has none."""
    return plain.decode("latin-1") if isinstance(plain, bytes) else plain


def banned(bans: Iterable[Ban], plain: str | bytes | None, seq: int) -> bool:
    """Whether a ban newer than `seq` matches a plain key."""
    text = text_of(plain)
    return text is not None and any(ban.seq > seq and compiled(ban.pattern).match(text) for ban in bans)


def verdict(record: EntryRecord, space: Space) -> Literal["servable", "dead", "unknown"]:
    """Whether an entry may be served, as far as `space` knows: `unknown` asks for bans or its tag epochs to be read."""
    generation = space.generation
    if generation is None:
        return "unknown"
    if record.lineage != generation.lineage:
        return "dead"
    bans, known = space.bans, space.tag_epochs
    if bans is None:
        return "unknown"
    if bans and banned(bans, record.plain, record.seq):
        return "dead"
    for tag, epoch in record.tags:
        current = known.get(tag)
        if current is None:
            return "unknown"
        if current != epoch:
            return "dead"
    return "servable" if space.generation is generation else "unknown"


class StoredAuthority:
    """The truth about a namespace on a shared or durable backend. `store` is an async-shaped backend of one face.

    `unproven()` is called whenever a generation is met that this process did not expect: others have changed
    something, so its near copies are no longer proven.
    """

    def __init__(
        self,
        store: Any,
        space: Space,
        pipeline: Pipeline,
        *,
        monotonic: float,
        max_staleness: float,
        unproven: Callable[[], None],
    ) -> None:
        self._pipeline = pipeline
        self._unproven = unproven
        self.store = store
        self.space = space
        self.monotonic = monotonic
        self.max_staleness = max_staleness
        self.replaced: Generation | None = None

    async def read(self, names: Sequence[bytes]) -> list[Stored | Any]:
        """Several names in one round trip where the backend can."""
        return await fetch(self.store, names)

    def observe(self, found: Stored | Any) -> None:
        """Learn the generation from a read of its record, and with it whether near copies are still proven."""
        space = self.space
        known, seen = space.generation, space.observed
        if seen is not None and found and found.data == seen[0] and known is seen[1]:
            space.trusted_until = self.monotonic + self.max_staleness
            return
        try:
            generation = decode_generation(found.data) if found else None
        except CorruptFrame:
            generation = None
        if generation is not None and known is not None and _older(generation, known):
            space.doubted = True  # overtaken on its way here, or the authority has lost changes: `prove` finds out
            space.trusted_until = 0.0
            return
        if generation is None or generation != known:
            with space.lock:
                if space.generation == known:
                    same = generation is not None and known is not None and generation.bans == known.bans
                    space.version += 1
                    space.turn(generation, space.bans if same else _unread(generation))
        if generation is None or generation != known:
            self._unproven()
        known = space.generation
        space.observed = None if generation is None or known != generation else (bytes(found.data), known)
        space.trusted_until = self.monotonic + self.max_staleness

    async def prove(self) -> None:
        """Find out whether the authority has lost changes, as one that comes back with yesterday's data, or a replica
        that took over too early. What it forgot to be invalidated must not be served: then nothing is. Raises
        `BackendError`."""
        space = self.space
        known = space.generation
        (found,) = await self.read([space.generation_name])
        try:
            now = decode_generation(found.data) if found else None
        except CorruptFrame:
            now = None
        if now is not None and known is not None and _older(now, known):
            await self.bump(cut=True, lineage=True)
        space.doubted = False
        if now is None or known is None or not _older(now, known):
            self.observe(found)

    async def learn(self, tags: Sequence[str]) -> None:
        """Read what is not yet known: the ban list and the epochs of these tags."""
        space = self.space
        with space.lock:
            generation, asks_bans = space.generation, space.bans is None
            wanted = [tag for tag in tags if tag not in space.tag_epochs]
        names = [space.tag_name(tag) for tag in wanted]
        if asks_bans:
            names.append(space.bans_name)
        if not names:
            return
        answers = await self.read(names)
        epochs = {}
        for tag, found in zip(wanted, answers, strict=False):
            epochs[tag] = decode_epoch(found.data) if found else b""
        bans: tuple[Ban, ...] | None = None
        if asks_bans and not answers[-1] and generation is not None and generation.bans:
            await self._lost_its_bans(generation)
            return
        if asks_bans:
            bans = decode_bans(self._pipeline, space.bans_name, answers[-1].data) if answers[-1] else ()
        with space.lock:
            if space.generation != generation:
                return
            space.tag_epochs.update(epochs)
            if space.bans is None:
                space.bans = bans

    async def servable(self, record: EntryRecord) -> bool:
        """Whether an entry may be served, reading what is not known: again where others change things meanwhile."""
        tags = [tag for tag, _ in record.tags]
        for _ in range(ATTEMPTS):
            answer = verdict(record, self.space)
            if answer != "unknown":
                return answer == "servable"
            if self.space.generation is None:
                return False
            await self.learn(tags)
        return False

    async def stamp(self, tags: Sequence[str], *, fresh: bool = True) -> Stamp:
        """What an entry that begins to be computed now must name. Creates the generation and the epochs it needs."""
        space = self.space
        if fresh or space.generation is None:
            self.observe((await self.read([space.generation_name]))[0])
        generation = space.generation
        if generation is None:
            generation = await self._create()
        await self.learn(tags)
        now = space.generation
        if now is not None and now.lineage != generation.lineage:
            generation = now  # what is stored under a lineage that is over would never be served
        named = []
        for tag in tags:
            epoch = space.tag_epochs.get(tag) or await self._create_epoch(tag, generation)
            named.append((tag, epoch))
        return Stamp(generation.lineage, generation.seq, tuple(named))

    async def _create(self) -> Generation:
        generation = Generation(new_epoch())
        await self.store.put(self.space.generation_name, encode_generation(generation), if_absent=True, weight=KEEP)
        found = await self.store.get(self.space.generation_name)
        if found:
            try:
                generation = decode_generation(found.data)
            except CorruptFrame:
                await self.store.put(self.space.generation_name, encode_generation(generation), weight=KEEP)
        with self.space.lock:
            self.space.turn(generation, _unread(generation))
        self._unproven()
        return generation

    async def _create_epoch(self, tag: str, generation: Generation) -> bytes:
        """The epoch of a tag that had none; remembered where nothing has changed since `generation` was known."""
        name = self.space.tag_name(tag)
        epoch = new_epoch()
        if await self.store.put(name, encode_epoch(epoch), if_absent=True, weight=KEEP) is None:
            found = await self.store.get(name)
            if found:
                epoch = decode_epoch(found.data)
        with self.space.lock:
            if self.space.generation == generation:
                self.space.tag_epochs[tag] = epoch
        return epoch

    async def mark(self, change: Callable[[Generation], Generation]) -> tuple[Generation, Generation] | None:
        """Change what the generation says was lost, by a function of what it says now; answers what it replaced and
        what it wrote, None where nothing was to be changed.

        Where the count of changes stays, copies in memory stay proven: they know of the change that led here.
        """
        space, name = self.space, self.space.generation_name
        for _ in range(ATTEMPTS):
            found = await self.store.get(name)
            try:
                old = decode_generation(found.data) if found else None
            except CorruptFrame:
                old = None
            if old is None or (new := change(old)) == old:
                return None
            if await self.store.put(name, encode_generation(new), if_version=found.version, weight=KEEP) is not None:
                with space.lock:
                    known = space.generation == old
                    if known:
                        space.generation = new
                if not known:
                    space.trusted_until = 0.0  # what others changed has to be learned before anything is served
                return old, new
        raise BackendError(f"the generation of namespace {space.namespace!r} kept changing; gave up after {ATTEMPTS}")

    async def bump(
        self, *, cut: bool, lost: bool = False, lineage: bool = False, ban: str | None = None, forget: str | None = None
    ) -> Generation:
        """Write a new generation; answers it, and keeps the one before in `replaced`. Near copies of this process stay
        proven across its own change.

        `cut` marks an invalidation or removal, `lost` an overwrite that another tier may have missed, `lineage`
        makes every entry unservable, `ban` adds a pattern (more than `MAX_BANS` open ones change the lineage).
        """
        space, name = self.space, self.space.generation_name
        for _ in range(ATTEMPTS):
            known = space.generation
            found = await self.store.get(name)
            try:
                old = decode_generation(found.data) if found else None
            except CorruptFrame:
                old = None
            if old is not None and known is not None and _older(old, known):
                lineage = True  # the authority has lost changes, perhaps invalidations: see `prove`
            overfull: Version | None = None
            if old is None:
                new = Generation(new_epoch())
            else:
                seq = old.seq + 1
                new = Generation(
                    new_epoch() if lineage else old.lineage,
                    seq,
                    seq if cut else old.cut,
                    seq if lost else old.lost,
                    0 if lineage else old.bans,
                )
                if ban is not None and not lineage:
                    overfull = await self._add_ban(Ban(seq, ban))
                    new = new._replace(bans=seq) if overfull is None else new._replace(lineage=new_epoch(), bans=0)
            condition = {"if_version": found.version} if found else {"if_absent": True}
            if await self.store.put(name, encode_generation(new), weight=KEEP, **condition) is not None:
                self.replaced = old
                expected = space.generation == old
                if not expected:
                    self._unproven()
                with space.lock:
                    if not expected or lineage or ban is not None:
                        space.turn(new, _unread(new))
                    else:
                        if forget is not None:
                            space.tag_epochs.pop(forget, None)
                        space.generation = new
                if overfull is not None:
                    await self._drop_list(overfull)
                return new
        raise BackendError(f"the generation of namespace {space.namespace!r} kept changing; gave up after {ATTEMPTS}")

    async def _add_ban(self, ban: Ban) -> Version | None:
        """Write the ban list with one more; answers the version of a list that has no room, which stays: until there
        is another lineage it is obeyed."""
        name = self.space.bans_name
        for _ in range(ATTEMPTS):
            found = await self.store.get(name)
            listed = decode_bans(self._pipeline, name, found.data) if found else ()
            # Another writer may have the same pattern at a later change already: that must not be forgotten.
            latest = max((known.seq for known in listed if known.pattern == ban.pattern), default=0)
            bans = [known for known in listed if known.pattern != ban.pattern]
            bans.append(Ban(max(ban.seq, latest), ban.pattern))
            if len(bans) > MAX_BANS and found:
                full: Version = found.version
                return full
            condition = {"if_version": found.version} if found else {"if_absent": True}
            sealed = encode_bans(self._pipeline, name, bans)
            if await self.store.put(name, sealed, weight=KEEP, **condition) is not None:
                return None
        raise BackendError(f"the bans of namespace {self.space.namespace!r} kept changing; gave up after {ATTEMPTS}")

    async def _drop_list(self, version: Version) -> None:
        """Remove a list that no generation speaks of any more. Left where it is it bans nothing; it has no room, so
        the next pattern comes back here."""
        try:
            await self.store.delete(self.space.bans_name, if_version=version)
        except BackendError:
            return  # the pattern is invalidated all the same

    async def _lost_its_bans(self, generation: Generation) -> None:
        """The list of which a generation speaks is not there. Where that generation is still in force, nobody can
        tell any more what it banned: then nothing older is served. Raises `BackendError`."""
        (found,) = await self.read([self.space.generation_name])
        try:
            now = decode_generation(found.data) if found else None
        except CorruptFrame:
            now = None
        if now == generation:
            await self.bump(cut=True, lineage=True)
        else:
            self.observe(found)

    async def drop_bans(self, before: int) -> None:
        """Forget bans with a seq up to `before`: maintenance has passed over every older entry."""
        name = self.space.bans_name
        found = await self.store.get(name)
        if found:
            left = [ban for ban in decode_bans(self._pipeline, name, found.data) if ban.seq > before]
            await self.store.put(name, encode_bans(self._pipeline, name, left), if_version=found.version, weight=KEEP)

    async def move_tag(self, tag: str) -> Generation:
        """Invalidate by tag: a new epoch, then the generation, which it answers."""
        await self.store.put(self.space.tag_name(tag), encode_epoch(new_epoch()), weight=KEEP)
        return await self.bump(cut=True, forget=tag)


def _unread(generation: Generation | None) -> tuple[Ban, ...] | None:
    """The bans under a generation whose list was not read: none where it speaks of none, else unknown."""
    return () if generation is not None and generation.bans == 0 else None


def _older(generation: Generation, known: Generation) -> bool:
    """Whether a generation comes before another of its lineage."""
    return generation.lineage == known.lineage and generation.seq < known.seq

"""Which entries of a tenant were invalidated, for maintenance: by namespace prefix, without knowing its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from agentcache_core.authority import banned
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.records import decode_bans, decode_epoch, decode_generation
from agentcache_core.space import Ban, Generation, Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.store.ledger import PREFIX_SIZE

MOST_REMEMBERED: Final = 100_000
"""Epochs, and retired epochs and lineages, that are kept of a namespace; beyond that they are asked for again."""


@dataclass(slots=True)
class _State:
    """What is known of a namespace. `retired` are the lineages and epochs that entries named when others were in force;
    they are random and never come back."""

    generation: Generation | None
    bans: tuple[Ban, ...]
    epochs: dict[str, bytes] = field(default_factory=dict)
    retired: set[bytes] = field(default_factory=set)


class Verdicts:
    """What the authority's store says about the entries of the tenant of `space`.

    A namespace is read when it is first asked about. Others go on invalidating and storing meanwhile, so what differs
    from that reading may be newer than it instead of older: before an entry is called dead, what it names is read
    once more, after the entry was. An answer of True is then for good. Where a namespace has no generation nothing
    is said to be dead: perhaps its authority is a store that was not named. `tags=False` leaves tags out, for a
    tenant whose secret is not known.
    """

    def __init__(self, store: Any, space: Space, pipeline: Pipeline, *, tags: bool = True) -> None:
        self._pipeline = pipeline
        self._store = store
        self._space = space
        self._tags = tags
        self._states: dict[bytes, _State] = {}
        self._first: dict[bytes, tuple[Generation | None, tuple[Ban, ...]]] = {}

    async def dead(self, name: bytes, record: EntryRecord) -> bool:
        """Whether the entry stored under `name`, as it was read before this is asked, was invalidated. Raises
        `BackendError`."""
        prefix = name[:PREFIX_SIZE]
        state = self._states.get(prefix)
        if state is None:
            state = self._states[prefix] = _State(*await self._read(prefix))
            self._first[prefix] = (state.generation, state.bans)
        if state.generation is None:
            return False
        if record.lineage != state.generation.lineage:
            if record.lineage in state.retired:
                return True
            state.generation, state.bans = await self._read(prefix)
            if state.generation is None:
                return False
            if record.lineage != state.generation.lineage:
                _remember(state.retired, record.lineage)
                return True
        # A ban stands for good against entries of its lineage with a smaller seq, however new they are here.
        if state.bans and banned(state.bans, record.plain, record.seq):
            return True
        for tag, epoch in record.tags if self._tags else ():
            if await self._moved(prefix, state, tag, epoch):
                return True
        return False

    def seen(self, prefix: bytes) -> tuple[Generation | None, tuple[Ban, ...]]:
        """The generation and bans of a namespace when it was first asked about; nothing when it was not."""
        return self._first.get(prefix, (None, ()))

    async def _read(self, prefix: bytes) -> tuple[Generation | None, tuple[Ban, ...]]:
        # The generation first: a ban added after it was read is newer than anything judged here needs.
        found = await self._store.get(prefix + b"/g")
        try:
            generation = decode_generation(found.data) if found else None
            if generation is None or not generation.bans:
                return generation, ()  # a list that no generation speaks of is not obeyed by readers either
            bans = await self._store.get(prefix + b"/b")
            return generation, decode_bans(self._pipeline, prefix + b"/b", bans.data) if bans else ()
        except CorruptFrame:
            return None, ()

    async def _moved(self, prefix: bytes, state: _State, tag: str, epoch: bytes) -> bool:
        """Whether a tag's epoch is no longer the one an entry names."""
        if state.epochs.get(tag) == epoch:
            return False
        if epoch in state.retired:
            return True
        current = await self._epoch(prefix, tag)
        if len(state.epochs) >= MOST_REMEMBERED:
            state.epochs.clear()
        state.epochs[tag] = current
        if current == epoch:
            return False
        _remember(state.retired, epoch)
        return True

    async def _epoch(self, prefix: bytes, tag: str) -> bytes:
        found = await self._store.get(self._space.tag_name(tag, prefix=prefix))
        try:
            return decode_epoch(found.data) if found else b""
        except CorruptFrame:
            return b""


def _remember(retired: set[bytes], value: bytes) -> None:
    if len(retired) >= MOST_REMEMBERED:
        retired.clear()
    retired.add(value)

"""Which entries of a tenant were invalidated, for maintenance: by namespace prefix, without knowing its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentcache_core.authority import banned, decode_bans, decode_epoch, decode_generation
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.space import Ban, Generation, Space
from agentcache_core.store.entries import EntryRecord
from agentcache_core.store.ledger import PREFIX_SIZE

MOST_TAGS = 100_000


@dataclass(slots=True)
class _State:
    generation: Generation | None
    bans: tuple[Ban, ...]
    epochs: dict[str, bytes] = field(default_factory=dict)


class Verdicts:
    """What the authority's store says about the entries of the tenant of `space`, read once for each namespace.

    An answer of True is for good: lineages and epochs are random and never come back. Where a namespace has no
    generation nothing is said to be dead: perhaps its authority is a store that was not named. `tags=False` leaves
    tags out, for a tenant whose secret is not known.
    """

    def __init__(self, store: Any, space: Space, pipeline: Pipeline, *, tags: bool = True) -> None:
        self._pipeline = pipeline
        self._store = store
        self._space = space
        self._tags = tags
        self._states: dict[bytes, _State] = {}

    async def dead(self, name: bytes, record: EntryRecord) -> bool:
        """Whether the entry stored under `name` was invalidated. Raises `BackendError`."""
        prefix = name[:PREFIX_SIZE]
        state = self._states.get(prefix)
        if state is None:
            state = self._states[prefix] = await self._read(prefix)
        if state.generation is None:
            return False
        if record.lineage != state.generation.lineage:
            return True
        if state.bans and banned(state.bans, record.plain, record.seq):
            return True
        for tag, epoch in record.tags if self._tags else ():
            if epoch != await self._epoch(prefix, state, tag):
                return True
        return False

    def seen(self, prefix: bytes) -> tuple[Generation | None, tuple[Ban, ...]]:
        """The generation and bans of a namespace when it was first asked about; nothing when it was not."""
        state = self._states.get(prefix)
        return (state.generation, state.bans) if state is not None else (None, ())

    async def _read(self, prefix: bytes) -> _State:
        # The generation first: a ban added after it was read is newer than anything judged here needs.
        generation = await self._store.get(prefix + b"/g")
        bans = await self._store.get(prefix + b"/b")
        try:
            return _State(
                decode_generation(generation.data) if generation else None,
                decode_bans(self._pipeline, prefix + b"/b", bans.data) if bans else (),
            )
        except CorruptFrame:
            return _State(None, ())

    async def _epoch(self, prefix: bytes, state: _State, tag: str) -> bytes:
        known = state.epochs.get(tag)
        if known is None:
            found = await self._store.get(self._space.tag_name(tag, prefix=prefix))
            if len(state.epochs) >= MOST_TAGS:
                state.epochs.clear()
            try:
                known = state.epochs[tag] = decode_epoch(found.data) if found else b""
            except CorruptFrame:
                known = state.epochs[tag] = b""
        return known

"""The beginning of a computation whose answer is stored later, by hand: what is invalidated in between is not kept.

`get_or_compute` needs none of this. It is for answers that cannot be waited for in one call, such as streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentcache_core.cuts import Cuts
from agentcache_core.engine import Engine, Wish
from agentcache_core.keys import Key
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space, Stamp
from agentcache_core.tier import Trouble


class Beginning:
    """The moment a computation began in one view. Hand it to `set(…, began=…)`, or `end` it when nothing is stored."""

    __slots__ = ("_cuts", "_open", "since", "stamp")

    def __init__(self, cuts: Cuts, since: int, stamp: Stamp | Trouble | None) -> None:
        self._cuts, self._open = cuts, True
        self.since, self.stamp = since, stamp

    def end(self) -> None:
        """The computation is over. Calling twice is fine."""
        if self._open:
            self._open = False
            self._cuts.end()

    def __del__(self) -> None:
        self.end()


async def begin(engine: Engine, rt: Runtime, space: Space, tags: Sequence[str]) -> Beginning:
    """Note what is known now, for an answer that will carry `tags`."""
    cuts = Cuts(space)
    since = cuts.begin()
    began = Beginning(cuts, since, None)
    if engine.settings.writes:
        began.stamp = await engine.tiers.stamp(rt, space, tags, fresh=False)
    return began


async def store_begun(
    engine: Engine, rt: Runtime, space: Space, key: Key, value: Any, wish: Wish, *, began: Beginning, request: object
) -> bool:
    """Store an answer whose computation began then; answers whether it is stored."""
    try:
        stamp = began.stamp
        if stamp is None:
            return False
        if isinstance(stamp, Trouble):
            return engine._not_written(space, key, wish, stamp.error)
        known = await engine._stamp_more(rt, space, wish, stamp)
        if known is None:
            return engine._outdated(space, key)
        return await engine.store(rt, space, key, value, wish, request=request, stamp=known, since=began.since)
    finally:
        began.end()

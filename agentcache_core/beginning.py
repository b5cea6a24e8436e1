"""The beginning of a computation whose answer is stored later, by hand: what is invalidated in between is not kept.

`get_or_compute` needs none of this. It is for answers that cannot be waited for in one call, such as streams.
"""

from __future__ import annotations

from typing import Any

from agentcache_core.cuts import Cuts
from agentcache_core.errors import ConfigurationError
from agentcache_core.keys import Key
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space, Stamp
from agentcache_core.tier import Trouble
from agentcache_core.wish import Wish
from agentcache_core.writing import Writer


class Beginning:
    """The moment a computation began in one view. Hand it to `set(…, began=…)`, or `end` it when nothing is stored."""

    __slots__ = ("_cuts", "_open", "since", "stamp")

    def __init__(self, cuts: Cuts) -> None:
        self._cuts = cuts
        self._open = True
        self.since = cuts.begin()
        self.stamp: Stamp | Trouble | None = None

    def end(self) -> None:
        """The computation is over. Calling twice is fine."""
        if self._open:
            self._open = False
            self._cuts.end()

    def __del__(self) -> None:
        self.end()


async def begin(writer: Writer, rt: Runtime, space: Space, wish: Wish) -> Beginning:
    """Note what is known now, for an answer that will carry the wish's tags."""
    began = Beginning(Cuts(space))
    if writer.settings.writes:
        began.stamp = await writer.tiers.stamp(rt, space, wish.tags, fresh=False)
    return began


async def store_begun(
    writer: Writer, rt: Runtime, space: Space, key: Key, value: Any, wish: Wish, *, began: Beginning, request: object
) -> bool:
    """Store an answer whose computation began then; answers whether it is stored."""
    try:
        stamp = began.stamp
        if stamp is None:
            return False
        if isinstance(stamp, Trouble):
            return writer.not_written(space, key, wish, stamp.error)
        late = set(wish.tags) - {tag for tag, _ in stamp.tags}
        if late:
            raise ConfigurationError(f"name every tag at the beginning already: cache.begin(tags={sorted(late)})")
        return await writer.store(rt, space, key, value, wish, request=request, stamp=stamp, since=began.since)
    finally:
        began.end()

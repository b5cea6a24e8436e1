"""Invalidations seen by this process while computations are in progress, to hold against their answers.

An answer whose computation began before an invalidation that concerns it is not kept after it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from agentcache_core.authority import compiled, text_of
from agentcache_core.space import Space

Selector = Literal["namespace", "request", "tag", "pattern"]


class Cuts:
    """The recent invalidations of one space. They are kept only while something is being computed in it."""

    __slots__ = ("_space",)

    def __init__(self, space: Space) -> None:
        self._space = space

    def begin(self) -> int:
        """A computation begins; answers the point in time to hand to `stands`."""
        with self._space.lock:
            self._space.computing += 1
            return self._space.cut_seq

    def end(self) -> None:
        with self._space.lock:
            self._space.computing -= 1
            if not self._space.computing:
                self._space.cuts.clear()

    def stands(self, since: int, address: Hashable, plain: str | bytes | None, tags: Sequence[str]) -> bool:
        """Whether nothing invalidated since `since` concerns this key or these tags."""
        with self._space.lock:
            recent = [cut for cut in self._space.cuts if cut[0] > since]
        text = text_of(plain)
        for _, selector, what in recent:
            if (
                selector == "namespace"
                or (selector == "request" and what == address)
                or (selector == "tag" and what in tags)
                or (selector == "pattern" and text is not None and compiled(str(what)).match(text))
            ):
                return False
        return True

    def note(self, selector: Selector, what: Hashable) -> None:
        """An invalidation happened; everything promoted or computed from before it must not be kept."""
        space = self._space
        with space.lock:
            space.cut_seq += 1
            space.version += 1
            if space.computing:
                space.cuts.append((space.cut_seq, selector, what))

"""How content is cut into parts: at fixed places, or where the content itself says so.

Content-defined cuts are FastCDC's (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach for
Data Deduplication", 2016): a byte inserted in front moves only the first cuts, so that what is equal stays equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, cast

PART_SIZE: Final = 4 * 1024 * 1024
AVERAGE: Final = 8 * 1024
CONTENT_FROM: Final = 256 * 1024
"""Content shorter than this is one part: there is too little of it for cuts to pay."""


class Cutter(Protocol):
    """How content is cut into parts. Cutters keep no state between calls; `window` is how much they want to see."""

    @property
    def window(self) -> int: ...
    @property
    def packs(self) -> bool:
        """Whether the parts are small, so that several of them should share one stored object."""
        ...

    def cut(self, buffer: bytes, *, last: bool) -> list[int]:
        """The sizes of the parts at the front of `buffer` that are certain, at least one of them when the buffer
        holds `window` bytes; with `last`, all of them, summing up to the buffer."""
        ...


@dataclass(frozen=True, slots=True)
class FixedCuts:
    """Parts of `size` bytes each, the last one shorter. Finds again what is equal from the front on."""

    size: int = PART_SIZE
    packs: bool = False

    @property
    def window(self) -> int:
        return self.size

    def cut(self, buffer: bytes, *, last: bool) -> list[int]:
        whole, rest = divmod(len(buffer), self.size)
        return [self.size] * whole + ([rest] if last and rest else [])


@dataclass(frozen=True, slots=True)
class ContentCuts:
    """Parts of `average` bytes, a quarter to eight times of it, cut by FastCDC. Needs the package `fastcdc`."""

    average: int = AVERAGE
    packs: bool = True

    @property
    def window(self) -> int:
        return PART_SIZE

    def cut(self, buffer: bytes, *, last: bool) -> list[int]:
        split = _fastcdc()
        assert split is not None, "ContentCuts needs the extra agentcache[assets]"
        found = split(buffer, min_size=self.average // 4, avg_size=self.average, max_size=self.average * 8)
        sizes = [chunk.length for chunk in found]
        # Without what follows, the last cut is not certain: it stands at the buffer's end.
        return sizes if last or len(sizes) < 2 else sizes[:-1]


@lru_cache(maxsize=1)
def _fastcdc() -> Callable[..., Iterable[Any]] | None:
    try:
        from fastcdc import fastcdc  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        return None
    return cast("Callable[..., Iterable[Any]]", fastcdc)


def best_cuts(*, short: bool) -> Cutter:
    """The cutter for new content: content-defined where that pays and `fastcdc` is installed, else fixed."""
    return FixedCuts() if short or _fastcdc() is None else ContentCuts()

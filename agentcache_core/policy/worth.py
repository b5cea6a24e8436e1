"""What an answer is worth keeping near: by what it saved, by its size, and by whether it is asked for again. Pure.

Worth is counted in millionths of a dollar saved for each KiB, a second of waiting as `SECOND` of them. That is the
ratio of GreedyDual-Size (P. Cao and S. Irani, "Cost-Aware WWW Proxy Caching Algorithms", 1997). Its inflation, which
lets old worth fade, is the clock here: a weight is the time until which an answer has earned its place.
"""

from __future__ import annotations

from math import log2
from typing import Final

from agentcache_core.model import Cost

SECOND: Final = 100.0
"""What a second that nobody had to wait counts for, in millionths of a dollar: 36 cents an hour."""
DEAR: Final = 100.0
"""From this worth on an answer is copied into hotter tiers when it is first read; others when they are read again."""
WINDOW: Final = 3600.0
"""Seconds within which a second reading counts as one."""
DOUBLING: Final = 6 * 3600.0
"""Seconds that each doubling of its worth keeps an answer longer in a bounded store."""
KEEP: Final = 1e12
"""The weight of what makes entries servable at all (generations, epochs, dictionaries): it goes last."""
_LEAST_SIZE: Final = 512


def worth(cost: Cost, size: int) -> float:
    """Millionths of a dollar that a hit saves, for each KiB of `size` bytes. Whatever is tiny counts as 512 bytes."""
    return (cost.usd_micros + SECOND * cost.seconds) * 1024 / max(size, _LEAST_SIZE)


def earns_copy(cost: Cost, size: int, *, again: bool) -> bool:
    """Whether an answer just read from a colder tier is to be copied into a hotter one. `again`: it was read before,
    within `WINDOW`."""
    return again or worth(cost, size) >= DEAR


def weight(cost: Cost, size: int, *, now: float) -> float:
    """What a bounded store is told of an answer stored now: the wall-clock second until which it has earned its
    place. Of two answers the one with the smaller weight goes first."""
    return now + DOUBLING * log2(1.0 + worth(cost, size))

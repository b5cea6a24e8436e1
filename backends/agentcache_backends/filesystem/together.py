"""The reads or writes of one batch: one after another while that is quick, side by side on threads where it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE: Final = 16
QUICK: Final = 0.005
"""Seconds that a batch may take alone. What lies in the page cache is done by then; threads would slow it down."""


def together(work: Callable[[T], R], items: Sequence[T], *, quick: float = QUICK) -> list[R]:
    """What `work` answers for every item, in order. The first exception is raised once all that began have ended."""
    answers: list[R] = []
    until = time.monotonic() + quick
    for item in items:
        answers.append(work(item))
        if time.monotonic() >= until:
            break
    rest = items[len(answers) :]
    if rest:
        with ThreadPoolExecutor(min(AT_ONCE, len(rest)), thread_name_prefix="agentcache-files") as threads:
            answers.extend(threads.map(work, rest))
    return answers

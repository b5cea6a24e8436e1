"""What a forked child must make anew: locks another thread may have held, and work nobody in the child is doing."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something with state of its process."""

    def after_fork(self) -> None:
        """Called once in a forked child, before anything else runs there."""


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch(thing: Forked) -> None:
    """Call `thing.after_fork()` in every child forked from now on, for as long as `thing` lives."""
    _watched.add(thing)


def _after_fork() -> None:
    for thing in list(_watched):
        thing.after_fork()


os.register_at_fork(after_in_child=_after_fork)

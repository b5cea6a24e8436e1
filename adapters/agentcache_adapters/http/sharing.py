"""One upstream answer shared by every caller that asks the same at the same time: what both faces have in common.

Whoever needs the next chunk pulls it: nobody waits for a slow first caller, and the first caller may leave.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from agentcache_core.beginning import Beginning
from agentcache_core.forking import watch

F = TypeVar("F", bound="Departed")
_REMEMBERED = 1024


class Departed(Protocol):
    """What every flight has: when its computation began, for the cache."""

    began: Beginning | None


class OpenFlights(Generic[F]):
    """The flights that may still be joined, by identity. Safe from any thread."""

    def __init__(self) -> None:
        self.landed = 0
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """A forked child has none of the threads and tasks that fly these flights, and none of their sockets."""
        self._open: dict[Hashable, F] = {}
        self._recent: dict[Hashable, int] = {}
        self._lock = threading.Lock()

    def landed_since(self, mark: int, identity: Hashable) -> bool:
        """Whether a flight of `identity` ended after `landed` stood at `mark`, so that a look-up from then is outdated.

        Remembers the last 1,024 endings; beyond that a caller may call upstream once more than it had to.
        """
        return self._recent.get(identity, 0) > mark

    def join(self, identity: Hashable, fresh: F) -> tuple[F, bool]:
        """The open flight of `identity` and False, or `fresh`, now open, and True."""
        with self._lock:
            flight = self._open.setdefault(identity, fresh)
            return flight, flight is fresh

    def land(self, identity: Hashable, flight: F) -> None:
        """`flight` has ended: its answer is stored by now, or never will be. Calling twice is fine."""
        self.close(identity, flight)
        if flight.began is not None:
            flight.began.end()

    def close(self, identity: Hashable, flight: F) -> None:
        """Let nobody join `flight` any more. Calling twice is fine."""
        with self._lock:
            if self._open.get(identity) is flight:
                del self._open[identity]
                self.landed += 1
                self._recent.pop(identity, None)
                self._recent[identity] = self.landed
                if len(self._recent) > _REMEMBERED:
                    del self._recent[next(iter(self._recent))]


def copied(error: BaseException) -> BaseException:
    """A copy of the exception with the original as its cause, so that two callers never share a traceback."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - an exception type that cannot be copied is shared as it is
        return error
    twin.__cause__ = error
    return twin

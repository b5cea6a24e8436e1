"""Single flight: of all callers that miss on one identity at the same time, one computes and the others wait.

A flight knows which flights its own computation waits for, so that a caller about to wait can walk that graph and
compute alone instead of closing a circle. Cancellation and interpreter exits are never shared: the next waiting
caller takes over.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Hashable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import Any, Literal

from agentcache_core.errors import LeaderFailed, RecursiveComputation
from agentcache_core.forking import watch
from agentcache_core.runtime import Gate, running_loop

Role = Literal["leader", "follower", "alone"]


@dataclass(frozen=True, slots=True)
class Landed:
    """How a flight ended well: whatever the leader hands to its followers."""

    outcome: Any


@dataclass(frozen=True, slots=True)
class Crashed:
    """How a flight ended badly: the leader's exception."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The leader was cancelled or gave up without a result that may be shared; a follower takes over."""


class Flight:
    """One computation in progress, and the gate its followers wait at. `since` and `stamp` are what its leader knew
    of invalidations when it began, here (`Cuts`) and on the authority; None until then. `begun`: monotonic seconds;
    `tags`: what its answer will be tagged with, as far as is known."""

    __slots__ = ("begun", "end", "followers", "gate", "identity", "loop", "since", "stamp", "tags", "waits_for")

    def __init__(self, identity: Hashable, loop: object | None) -> None:
        self.identity = identity
        self.loop = loop
        self.gate = Gate()
        self.end: Landed | Crashed | Abandoned = Abandoned()
        self.followers = 0
        self.waits_for: set[Flight] = set()
        self.begun = 0.0
        self.since: int | None = None
        self.stamp: Any = None
        self.tags: tuple[str, ...] = ()


_leading: ContextVar[tuple[Flight, ...]] = ContextVar("agentcache_leading", default=())


class Flights:
    """The open flights of one process. All methods are quick and safe to call from any thread."""

    def __init__(self) -> None:
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """Start with no flight: in a forked child no leader survived."""
        self._lock = threading.Lock()
        self._open: dict[Hashable, Flight] = {}

    def join(self, identity: Hashable, *, fresh: bool = False, waits: bool = True) -> tuple[Flight, Role]:
        """Take part in the flight of `identity`.

        Answers the flight and the caller's role: `leader` computes and must call `land`; `follower` waits at the
        flight's gate between `begin_wait` and `end_wait`; `alone` computes without sharing. `fresh` never joins an
        earlier flight and becomes the one later callers join. `waits=False` is for a caller that would block the
        event loop it runs on. Raises `RecursiveComputation` when the caller's own computation asks for its own key.
        """
        ancestors = _leading.get()
        loop = running_loop()
        with self._lock:
            flight = self._open.get(identity)
            if flight is not None and flight in ancestors:
                raise RecursiveComputation(f"the computation of {identity!r} asked for its own key")
            if flight is None or fresh:
                flight = self._open[identity] = Flight(identity, loop)
                return flight, "leader"
            blocks_its_loop = not waits and loop is not None and flight.loop is loop
            if blocks_its_loop or self._closes_circle(flight, ancestors):
                return Flight(identity, loop), "alone"
            flight.followers += 1
            return flight, "follower"

    @staticmethod
    def _closes_circle(flight: Flight, ancestors: tuple[Flight, ...]) -> bool:
        if not ancestors:
            return False
        seen: set[int] = set()
        frontier = [flight]
        while frontier:
            at = frontier.pop()
            if at in ancestors:
                return True
            if id(at) not in seen:
                seen.add(id(at))
                frontier.extend(at.waits_for)
        return False

    def begin_wait(self, flight: Flight) -> bool:
        """Note that every flight this caller is computing for now waits for `flight`; False if that closes a circle
        that arose since `join`, in which case the caller computes alone."""
        ancestors = _leading.get()
        with self._lock:
            if self._closes_circle(flight, ancestors):
                return False
            for ancestor in ancestors:
                ancestor.waits_for.add(flight)
        return True

    def end_wait(self, flight: Flight) -> None:
        with self._lock:
            flight.followers -= 1
            for ancestor in _leading.get():
                ancestor.waits_for.discard(flight)

    def land(self, flight: Flight, end: Landed | Crashed | Abandoned) -> None:
        """End a flight and let its followers through."""
        with self._lock:
            if self._open.get(flight.identity) is flight:
                del self._open[flight.identity]
            flight.end = end
            flight.waits_for.clear()
        flight.gate.open()

    def open_count(self) -> int:
        """How many computations are in progress."""
        return len(self._open)


def is_leading() -> bool:
    """Whether the calling context is computing for some flight."""
    return bool(_leading.get())


def enter(flight: Flight) -> Token[tuple[Flight, ...]]:
    """Mark the calling context as computing for `flight`; undo with `leave`."""
    return _leading.set((*_leading.get(), flight))


def leave(token: Token[tuple[Flight, ...]]) -> None:
    _leading.reset(token)


def copy_of(error: Exception) -> Exception:
    """A follower's own copy of the leader's exception, with the leader's as `__cause__`.

    An exception that cannot be copied faithfully becomes `LeaderFailed` with the same cause.
    """
    try:
        twin = copy.copy(error)
        faithful = type(twin) is type(error) and twin is not error and twin.args == error.args
    except Exception:  # noqa: BLE001 - a foreign class may do anything in its copy protocol
        faithful = False
    if not faithful:
        twin = LeaderFailed(f"the computation this call waited for failed: {type(error).__name__}: {error}")
    twin.__traceback__ = None
    twin.__cause__ = error
    return twin

"""A backend around a backend that bounds what its trouble may cost: a deadline for every call, and a breaker.

Each request is charged to the allowance of the user's call it belongs to (`allowance`), so that all of them together
cost at most one deadline; one that moves much gets the time that `BYTES_PER_SECOND` needs on top. A store that bounds
its own requests in time (`native_deadline`) is called directly while that is the time it may take, and is told of any
other (`SupportsWithin`). Everything else is called on a watched daemon thread, or under the event loop's timeout.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, ParamSpec, TypeVar

from agentcache_core.allowance import BYTES_PER_SECOND, SILENT, Allowance, current
from agentcache_core.backend import Put, Stored
from agentcache_core.errors import BackendError, BackendFull, BackendReadOnly, BackendUnavailable, CorruptFrame
from agentcache_core.forking import watch
from agentcache_core.policy.breaker import CLOSED, Breaker
from agentcache_core.powers import SupportsWithin, supports
from agentcache_core.watched import WatchedThreads
from agentcache_core.wrapping import Around, AsyncAround

P = ParamSpec("P")
T = TypeVar("T")
MANY = 32
"""Names of a batch that one deadline covers; a larger batch gets it once more for every so many."""

Told = Callable[[str], None]
_UNHURRIED = ("scan", "sweep")
"""Verbs of maintenance, for which outside of a call nobody waits."""
_READS = ("get", "get_many", "get_views")
_HARMLESS = (CorruptFrame, BackendFull, BackendReadOnly)


class Circuit:
    """The breaker of one store and the time it may take, shared by its callers.

    `told` hears "breaker_open" and "breaker_closed". The breaker goes by `monotonic`, a request is timed by `timer`.
    """

    def __init__(
        self,
        name: str,
        *,
        deadline: float,
        monotonic: Callable[[], float],
        told: Told,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.deadline = deadline
        self.slack = deadline / 20
        self.timer = timer
        self._monotonic = monotonic
        self._told = told
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """A child finds out for itself."""
        self._lock = threading.Lock()
        self._state: Breaker = CLOSED

    @property
    def is_open(self) -> bool:
        """Whether the store is given a rest."""
        return self._state.is_open

    def admit(self) -> None:
        """Let a call pass or refuse it at once."""
        if self._state is CLOSED:
            return
        with self._lock:
            now = self._monotonic()
            if not self._state.allows(now):
                raise BackendUnavailable(f"{self.name} failed {self._state.failures} times and is given a rest")
            self._state = self._state.probing(now)

    def succeeded(self) -> None:
        if self._state is CLOSED:
            return
        with self._lock:
            was_open, self._state = self._state.is_open, CLOSED
        if was_open:
            self._told("breaker_closed")

    def failed(self, error: BaseException) -> None:
        if isinstance(error, _HARMLESS):
            return
        with self._lock:
            was_open = self._state.is_open
            self._state = self._state.failed(self._monotonic())
            is_open = self._state.is_open
        if is_open and not was_open:
            self._told("breaker_open")

    # Time

    def left(self, allowance: Allowance | None) -> float:
        """Seconds the call may still wait for this store. Raises `BackendUnavailable` when there are none."""
        if not allowance:
            return self.deadline
        left = allowance.left(self.name, self.deadline)
        if left <= 0.0:
            raise BackendUnavailable(f"{self.name} has used up the time of this call")
        return left

    def grace(self, verb: str, args: tuple[Any, ...]) -> float:
        """Seconds on top of what is left for a request with these arguments: it writes much, or names many."""
        if verb in _READS and (verb == "get" or len(args[0]) < MANY):
            return 0.0
        grace = 0.0
        for argument in args:
            if isinstance(argument, bytes):
                grace += len(argument) / BYTES_PER_SECOND
            elif isinstance(argument, int) and not isinstance(argument, bool):
                grace += argument / BYTES_PER_SECOND
            elif isinstance(argument, list | tuple):
                grace += self.deadline * (len(argument) // MANY)
                grace += sum(len(put.data) for put in argument if isinstance(put, Put)) / BYTES_PER_SECOND
        return grace

    def charge(self, allowance: Allowance | None, left: float, spent: float, answer: object = None) -> None:
        """Take what a request spent from the call's time, but for what it took to move a large answer."""
        if allowance is not None and not allowance.lifted:
            if spent > self.slack:
                spent -= _seconds_to_move(answer)
            allowance[self.name] = left - spent if spent > 0.0 else left

    def overdue(self, allowance: Allowance | None, left: float, spent: float) -> None:
        """Take what a request spent that failed; a store whose time was over is silent for the rest of the call."""
        if allowance is not None and left - spent <= self.slack:
            allowance[self.name] = SILENT
        else:
            self.charge(allowance, left, spent)

    def late(self, verb: str, limit: float) -> BackendError:
        return BackendUnavailable(f"{self.name} did not answer {verb} within {limit:.3g} s")


class Guarded(Around):
    """A blocking backend behind a circuit."""

    def __init__(self, inner: Any, circuit: Circuit) -> None:
        super().__init__(inner)
        self._circuit = circuit
        self._threads = WatchedThreads()
        self._native = inner.capabilities.native_deadline
        self._within = inner.within if self._native and supports(inner, SupportsWithin) else None

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        circuit, allowance = self._circuit, current()
        left = circuit.left(allowance)
        circuit.admit()
        grace = circuit.grace(verb, args)
        began = circuit.timer()
        try:
            if self._native and abs(left + grace - circuit.deadline) <= circuit.slack:
                answer = call(*args, **kwargs)
            elif verb in _UNHURRIED and (allowance is None or allowance.lifted):
                answer = self._bounded(verb, None, call, *args, **kwargs)
            else:
                answer = self._bounded(verb, left + grace, call, *args, **kwargs)
        except BaseException as error:
            circuit.failed(error)
            circuit.overdue(allowance, left, circuit.timer() - began - grace)
            raise
        circuit.succeeded()
        circuit.charge(allowance, left, circuit.timer() - began - grace, answer)
        return answer

    def _bounded(self, verb: str, limit: float | None, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if limit is None and self._native:
            return call(*args, **kwargs)
        if limit is not None and self._within is not None:
            with self._within(limit):
                return call(*args, **kwargs)
        future = self._threads.submit(call, *args, **kwargs)
        try:
            return future.result(limit)
        except FutureTimeout:
            if future.done():
                raise
            future.cancel()
            raise self._circuit.late(verb, limit or 0.0) from None


class AsyncGuarded(AsyncAround):
    """An async backend behind a circuit."""

    def __init__(self, inner: Any, circuit: Circuit) -> None:
        super().__init__(inner)
        self._circuit = circuit

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        circuit, allowance = self._circuit, current()
        left = circuit.left(allowance)
        circuit.admit()
        grace = circuit.grace(verb, args)
        unhurried = verb in _UNHURRIED and (allowance is None or allowance.lifted)
        began = circuit.timer()
        try:
            async with asyncio.timeout(None if unhurried else left + grace) as timeout:
                answer = await call(*args, **kwargs)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            late = isinstance(error, TimeoutError) and timeout.expired()
            problem = circuit.late(verb, left + grace) if late else error
            circuit.failed(problem)
            circuit.overdue(allowance, left, circuit.timer() - began - grace)
            if late:
                raise problem from None
            raise
        circuit.succeeded()
        circuit.charge(allowance, left, circuit.timer() - began - grace, answer)
        return answer


def _seconds_to_move(answer: object) -> float:
    """How long the bytes of an answer may take to arrive."""
    if isinstance(answer, Stored):
        return len(answer.data) / BYTES_PER_SECOND
    if isinstance(answer, bytes):
        return len(answer) / BYTES_PER_SECOND
    return sum(map(_seconds_to_move, answer)) if isinstance(answer, list) else 0.0

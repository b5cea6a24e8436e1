"""A backend around a backend that bounds what its trouble may cost: a deadline for every call, and a breaker.

A store that bounds its own calls in time (`native_deadline`) is called directly. Any other is called on a watched
daemon thread, or under the event loop's timeout; a call that writes much gets the time that `BYTES_PER_SECOND` needs.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, ParamSpec, TypeVar

from agentcache_core.backend import Stat
from agentcache_core.errors import BackendError, BackendFull, BackendReadOnly, BackendUnavailable, CorruptFrame
from agentcache_core.forking import watch
from agentcache_core.policy.breaker import CLOSED, Breaker
from agentcache_core.watched import WatchedThreads
from agentcache_core.wrapping import Around, AsyncAround

P = ParamSpec("P")
T = TypeVar("T")
BYTES_PER_SECOND = 2 * 1024 * 1024
MANY = 32
"""Names of a batch that one deadline covers; a larger batch gets it once more for every so many."""

Told = Callable[[str], None]
_UNHURRIED = ("scan", "sweep")
"""Verbs of maintenance, for which no caller waits."""
_HARMLESS = (CorruptFrame, BackendFull, BackendReadOnly)


class Circuit:
    """The breaker of one store, shared by its callers. `told` hears "breaker_open" and "breaker_closed"."""

    def __init__(self, name: str, *, deadline: float, monotonic: Callable[[], float], told: Told) -> None:
        self.name = name
        self.deadline = deadline
        self._monotonic = monotonic
        self._told = told
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """A child finds out for itself."""
        self._lock = threading.Lock()
        self._state: Breaker = CLOSED

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

    def patience(self, args: tuple[Any, ...]) -> float:
        """Seconds a call with these arguments may take."""
        patience = self.deadline
        for argument in args:
            if isinstance(argument, bytes):
                patience += len(argument) / BYTES_PER_SECOND
            elif isinstance(argument, int) and not isinstance(argument, bool):
                patience += argument / BYTES_PER_SECOND
            elif isinstance(argument, list | tuple):
                patience += self.deadline * (len(argument) // MANY)
                patience += sum(len(getattr(put, "data", b"")) for put in argument) / BYTES_PER_SECOND
        return patience

    def late(self, verb: str, patience: float) -> BackendError:
        return BackendUnavailable(f"{self.name} did not answer {verb} within {patience:.3g} s")


class Guarded(Around):
    """A blocking backend behind a circuit."""

    def __init__(self, inner: Any, circuit: Circuit) -> None:
        super().__init__(inner)
        self._circuit = circuit
        self._threads = None if inner.capabilities.native_deadline else WatchedThreads()

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        circuit = self._circuit
        circuit.admit()
        try:
            if self._threads is None:
                answer = call(*args, **kwargs)
            else:
                answer = self._watched(verb, call, *args, **kwargs)
        except BaseException as error:
            circuit.failed(error)
            raise
        circuit.succeeded()
        return answer

    def _watched(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        assert self._threads is not None
        patience = self._circuit.patience(args)
        future = self._threads.submit(call, *args, **kwargs)
        try:
            return future.result(None if verb in _UNHURRIED else patience)
        except FutureTimeout:
            if future.done():
                raise
            future.cancel()
            raise self._circuit.late(verb, patience) from None


class AsyncGuarded(AsyncAround):
    """An async backend behind a circuit."""

    def __init__(self, inner: Any, circuit: Circuit) -> None:
        super().__init__(inner)
        self._circuit = circuit

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        circuit = self._circuit
        circuit.admit()
        patience = None if verb in _UNHURRIED else circuit.patience(args)
        try:
            async with asyncio.timeout(patience) as timeout:
                answer = await call(*args, **kwargs)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if isinstance(error, TimeoutError) and timeout.expired():
                late = circuit.late(verb, patience or 0.0)
                circuit.failed(late)
                raise late from None
            circuit.failed(error)
            raise
        circuit.succeeded()
        return answer

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        self._circuit.admit()
        try:
            async for stat in self.inner.scan(prefix, after=after):
                yield stat
        except BackendError as error:
            self._circuit.failed(error)
            raise

"""A backend that cannot hold its callers up: a deadline on every call, and a breaker while the store is down."""

from __future__ import annotations

import concurrent.futures
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import (
    BackendClosed,
    BackendFull,
    BackendReadOnly,
    BackendUnavailable,
    CorruptFrame,
    ForeignStore,
)
from agentcache_core.forking import watch
from agentcache_core.policy.breaker import CLOSED, BreakerRules, BreakerState, Closed, HalfOpen, Open, ask, told
from agentcache_core.watched import WatchedThreads
from agentcache_core.wrapping import Around, AsyncAround

P = ParamSpec("P")
T = TypeVar("T")
_UNHURRIED = {"scan": 20.0, "close": 20.0}  # maintenance asks for pages of a listing; nobody waits for an answer
_BYTES_PER_SECOND = 10_000_000
_ANSWERED = (BackendFull, BackendReadOnly, BackendClosed, ForeignStore, CorruptFrame)


class Breaker:
    """The state of one store's breaker, shared by threads; `on_change` hears "open" and "closed"."""

    def __init__(self, clock: Clock, rules: BreakerRules, on_change: Callable[[str], None] | None) -> None:
        self.state: BreakerState = CLOSED
        self._now = clock.monotonic
        self._rules = rules
        self._on_change = on_change
        self._lock = threading.Lock()
        watch(self)

    def check(self) -> None:
        """Raise `BackendUnavailable` while the breaker is open."""
        with self._lock:
            allowed, self.state = ask(self.state, self._now(), self._rules)
        if not allowed:
            raise BackendUnavailable("the store failed repeatedly and is left alone for a moment")

    def tell(self, *, well: bool) -> None:
        """Note how a call went."""
        with self._lock:
            before = self.state
            self.state = told(before, well=well, now=self._now(), rules=self._rules)
            after = self.state
        if self._on_change is not None and before is not after:
            if isinstance(after, Open):
                self._on_change("open")
            elif isinstance(after, Closed) and not isinstance(before, Closed):
                self._on_change("closed")

    def abandon(self) -> None:
        """Note that a call was given up by its caller: if it was the probe, the next call is one."""
        with self._lock:
            if isinstance(self.state, HalfOpen):
                self.state = Open(self._now(), self.state.pause)

    def note(self, error: BaseException) -> None:
        """Note how a call failed."""
        if isinstance(error, Exception):
            self.tell(well=isinstance(error, _ANSWERED))
        else:
            self.abandon()

    def after_fork(self) -> None:
        self._lock = threading.Lock()


def _seconds(verb: str, deadline: float, args: tuple[Any, ...]) -> float:
    """How long a call may take: the deadline, and for large writes the time that sending them takes."""
    size = sum(len(arg) for arg in args if isinstance(arg, bytes))
    if verb == "put_many":
        size = sum(len(put.data) for put in args[0])
    return deadline * _UNHURRIED.get(verb, 1.0) + size / _BYTES_PER_SECOND


class Guarded(Around):
    """A blocking backend behind a breaker and, where it does not bound its own calls, a deadline in seconds.

    A call that misses the deadline goes on in its daemon thread; the caller gets `BackendUnavailable` in time.
    """

    def __init__(
        self,
        inner: Any,
        *,
        deadline: float,
        clock: Clock = SYSTEM_CLOCK,
        rules: BreakerRules | None = None,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(inner)
        self.breaker = Breaker(clock, rules or BreakerRules(), on_change)
        self._deadline = deadline
        self._threads = None if inner.capabilities.native_deadline else WatchedThreads(line=0)
        self._get = inner.get

    def get(self, name: bytes) -> Any:
        if self.breaker.state is not CLOSED or self._threads is not None:
            return self.run("get", self._get, name)
        try:  # the common case, without the cost of `run`
            return self._get(name)
        except BaseException as error:
            self.breaker.note(error)
            raise

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        breaker = self.breaker
        if breaker.state is not CLOSED:
            breaker.check()
        try:
            if self._threads is None:
                answer = call(*args, **kwargs)
            else:
                answer = self._in_time(_seconds(verb, self._deadline, args), call, *args, **kwargs)
        except BaseException as error:
            breaker.note(error)
            raise
        if breaker.state is not CLOSED:
            breaker.tell(well=True)
        return answer

    def _in_time(self, seconds: float, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        assert self._threads is not None
        future = self._threads.submit(call, *args, **kwargs)
        try:
            return future.result(seconds)
        except concurrent.futures.TimeoutError as error:
            if future.done():
                raise  # the store's own TimeoutError
            future.cancel()
            raise BackendUnavailable(f"no answer within the deadline of {seconds:g} seconds") from error

    def close(self) -> None:
        if self._threads is None:
            self.inner.close()
        else:
            self._in_time(_seconds("close", self._deadline, ()), self.inner.close)


class AsyncGuarded(AsyncAround):
    """`Guarded` for an event loop; a call that misses the deadline is cancelled."""

    def __init__(
        self,
        inner: Any,
        *,
        deadline: float,
        clock: Clock = SYSTEM_CLOCK,
        rules: BreakerRules | None = None,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(inner)
        self.breaker = Breaker(clock, rules or BreakerRules(), on_change)
        self._deadline = deadline
        self._native = inner.capabilities.native_deadline

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        breaker = self.breaker
        if breaker.state is not CLOSED:
            breaker.check()
        try:
            if self._native:
                answer = await call(*args, **kwargs)
            else:
                answer = await _in_time(_seconds(verb, self._deadline, args), call(*args, **kwargs))
        except BaseException as error:
            breaker.note(error)
            raise
        if breaker.state is not CLOSED:
            breaker.tell(well=True)
        return answer

    async def close(self) -> None:
        await _in_time(_seconds("close", self._deadline, ()), self.inner.close())


async def _in_time(seconds: float, call: Awaitable[T]) -> T:
    import asyncio  # importing the engine must not load it

    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            return await call
    except TimeoutError as error:
        if not bound.expired():
            raise
        raise BackendUnavailable(f"no answer within the deadline of {seconds:g} seconds") from error


def guarded(
    backend: Any,
    *,
    deadline: float,
    clock: Clock = SYSTEM_CLOCK,
    rules: BreakerRules | None = None,
    on_change: Callable[[str], None] | None = None,
) -> Any:
    """A backend, blocking or asynchronous, behind a deadline and a breaker, with the same powers."""
    kind = AsyncGuarded if inspect.iscoroutinefunction(getattr(backend, "get", None)) else Guarded
    return kind(backend, deadline=deadline, clock=clock, rules=rules, on_change=on_change)

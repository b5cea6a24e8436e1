"""Backends that misbehave on purpose: slow, faulty, torn. Each has a blocking and an asynchronous form."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar, cast

from agentcache_core.backend import Stored
from agentcache_core.errors import BackendUnavailable
from agentcache_core.wrapping import Around, AsyncAround

P = ParamSpec("P")
T = TypeVar("T")
Tear = Literal["cut", "flip", "empty", "garbage"]


class SlowBackend(Around):
    """A backend whose verbs take `seconds` longer, or wait until `let_go()` once `hold()` was called.

    `wait` is what passes the time: hand in `clock.advance` and no time really passes. `verbs` limits it to some.
    """

    def __init__(
        self,
        inner: Any,
        seconds: float = 0.0,
        *,
        wait: Callable[[float], object] = time.sleep,
        verbs: tuple[str, ...] = (),
    ) -> None:
        super().__init__(inner)
        self.seconds = seconds
        self._wait = wait
        self._verbs = verbs
        self._open = threading.Event()
        self._open.set()

    def hold(self) -> None:
        """Let every call from now on hang until `let_go()`."""
        self._open.clear()

    def let_go(self) -> None:
        """Let the calls that hang, and all later ones, go on."""
        self._open.set()

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._verbs or verb in self._verbs:
            if self.seconds:
                self._wait(self.seconds)
            self._open.wait()
        return call(*args, **kwargs)


class AsyncSlowBackend(AsyncAround):
    """`SlowBackend` for an event loop: a held call waits without blocking the loop."""

    def __init__(self, inner: Any, seconds: float = 0.0, *, verbs: tuple[str, ...] = ()) -> None:
        super().__init__(inner)
        self.seconds = seconds
        self._verbs = verbs
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Let every call from now on hang until `let_go()`."""
        self._open.clear()

    def let_go(self) -> None:
        """Let the calls that hang, and all later ones, go on."""
        self._open.set()

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._verbs or verb in self._verbs:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            await self._open.wait()
        return await call(*args, **kwargs)


@dataclass(slots=True)
class _Fault:
    verb: str
    error: BaseException
    times: int
    after: bool


class Faults:
    """A plan of failures: which verbs fail, how often, with what, and before or after the store did the work."""

    def __init__(self, rate: float, seed: int) -> None:
        self._rate = rate
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._planned: list[_Fault] = []
        self._lock = threading.Lock()
        self.calls: dict[str, int] = {}

    def plan(self, verb: str, error: BaseException | None, times: int, after: bool) -> None:
        error = error if error is not None else BackendUnavailable("a planned failure")
        self._planned.append(_Fault(verb, error, times, after))

    def clear(self) -> None:
        self._planned.clear()
        self._rate = 0.0

    def next(self, verb: str) -> _Fault | None:
        with self._lock:
            self.calls[verb] = self.calls.get(verb, 0) + 1
            for fault in self._planned:
                if fault.verb in ("", verb) and fault.times != 0:
                    fault.times -= 1
                    return fault
            if self._random.random() < self._rate:
                lost = self._random.random() < 0.5
                return _Fault(verb, BackendUnavailable("a random failure"), 1, lost)
            return None


class FaultyBackend(Around):
    """A backend whose verbs raise: as planned with `fail`, or at random (`rate` of the calls, by `seed`).

    A random failure, and one planned with `after=True`, may have done its work before it raises, as when a reply is
    lost. `calls` counts by verb what was asked.
    """

    def __init__(self, inner: Any, *, rate: float = 0.0, seed: int = 0) -> None:
        super().__init__(inner)
        self._faults = Faults(rate, seed)

    @property
    def calls(self) -> dict[str, int]:
        return self._faults.calls

    def fail(self, verb: str = "", *, error: BaseException | None = None, times: int = -1, after: bool = False) -> None:
        """Let `verb` (every verb when empty) fail `times` times (for ever when negative) with `error`."""
        self._faults.plan(verb, error, times, after)

    def heal(self) -> None:
        """Fail no more."""
        self._faults.clear()

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        fault = self._faults.next(verb)
        if fault is None:
            return call(*args, **kwargs)
        if fault.after:
            call(*args, **kwargs)
        raise fault.error


class AsyncFaultyBackend(AsyncAround):
    """`FaultyBackend` for an event loop."""

    def __init__(self, inner: Any, *, rate: float = 0.0, seed: int = 0) -> None:
        super().__init__(inner)
        self._faults = Faults(rate, seed)

    @property
    def calls(self) -> dict[str, int]:
        return self._faults.calls

    def fail(self, verb: str = "", *, error: BaseException | None = None, times: int = -1, after: bool = False) -> None:
        """Let `verb` (every verb when empty) fail `times` times (for ever when negative) with `error`."""
        self._faults.plan(verb, error, times, after)

    def heal(self) -> None:
        """Fail no more."""
        self._faults.clear()

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        fault = self._faults.next(verb)
        if fault is None:
            return await call(*args, **kwargs)
        if fault.after:
            await call(*args, **kwargs)
        raise fault.error


def torn(data: bytes, how: Tear, random_: random.Random) -> bytes:
    """`data` as a broken store might give it back: cut short, one bit flipped, empty, or other bytes altogether."""
    if how == "cut":
        return data[: random_.randrange(len(data))] if data else b"?"
    if how == "flip":
        at = random_.randrange(len(data)) if data else 0
        return data[:at] + bytes([data[at] ^ (1 << random_.randrange(8))]) + data[at + 1 :] if data else b"?"
    return b"" if how == "empty" and data else random_.randbytes(len(data) + 1)


class TornBackend(Around):
    """A backend that gives back damaged bytes while `how` is set; what it stores stays whole.

    `how` is "cut", "flip", "empty", "garbage" or None (whole); `prefix` limits the damage to names that start so.
    """

    def __init__(self, inner: Any, how: Tear | None = "cut", *, prefix: bytes = b"", seed: int = 0) -> None:
        super().__init__(inner)
        self.how: Tear | None = how
        self._prefix = prefix
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cast(T, self._damaged(verb, args, call(*args, **kwargs)))

    def _damaged(self, verb: str, args: tuple[Any, ...], answer: Any) -> Any:
        if verb == "get":
            return self._tear(args[0], answer)
        if verb == "get_many":
            return [self._tear(name, stored) for name, stored in zip(args[0], answer, strict=True)]
        if verb == "get_range" and isinstance(answer, bytes) and self.how and args[0].startswith(self._prefix):
            return torn(answer, self.how, self._random)
        return answer

    def _tear(self, name: bytes, stored: Any) -> Any:
        if isinstance(stored, Stored) and self.how and name.startswith(self._prefix):
            return Stored(torn(stored.data, self.how, self._random), stored.version)
        return stored

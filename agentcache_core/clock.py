"""Time as a value: the engine asks a `Clock`, so that tests can hand in their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """A source of time. `now` is wall-clock seconds since the epoch (what is stored), `monotonic` never runs back."""

    @property
    def now(self) -> Callable[[], float]: ...

    @property
    def monotonic(self) -> Callable[[], float]: ...


class SystemClock:
    """The machine's clock. Both readings are the C functions themselves, so that a reading costs one call."""

    __slots__ = ()
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class ManualClock:
    """A clock that moves only when told to, for tests: `clock.advance(60)`.

    It starts at `start` seconds, by default at the present: a store that expires names by its own clock must not find
    a test's entries long gone.
    """

    __slots__ = ("_elapsed", "_start")

    def __init__(self, start: float | None = None) -> None:
        self._start = time.time() if start is None else start
        self._elapsed = 0.0

    def now(self) -> float:
        return self._start + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move time forward by `seconds` (never back: `ValueError`)."""
        if seconds < 0:
            raise ValueError(f"time only moves forward, got {seconds}")
        self._elapsed += seconds


SYSTEM_CLOCK = SystemClock()

"""How long one call of a user may wait for each store, all requests together: its deadline.

A call that misses asks a store several times (look, lease, stamp, write). The face opens an allowance for the call,
every request is charged to it below the seam (`guarding`), and a store that has used up its part is not asked again in
this call. Outside of a call (background work, maintenance, assets) nothing is open, and each request has a deadline of
its own.

Time is the machine's here: what bounds input and output is the patience of a socket or a thread, which a clock that
was handed in can neither stretch nor shorten.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from math import inf

SILENT = -inf
"""What is left for a store that did not answer in time: nothing, whatever happens."""
BYTES_PER_SECOND = 2 * 1024 * 1024
"""What moves many bytes may take longer than a deadline: as long as they need at this rate."""


class Allowance(dict[str, float]):
    """The seconds that one call has left for each store, by the name of its tier; a store not named has all of it.

    While `lifted` is above zero each request has the whole deadline again, but for a store that is silent.
    """

    lifted = 0

    def left(self, name: str, deadline: float) -> float:
        """Seconds that may still be waited for a store; 0 or less when it must not be asked."""
        left = self.get(name, deadline)
        return deadline if self.lifted and left != SILENT else left


_open: ContextVar[Allowance | None] = ContextVar("agentcache_allowance", default=None)
current = _open.get
"""The allowance of the call that runs here, if any."""


class one_call:
    """A context in which one call of the user runs; within another's it belongs to that call."""

    __slots__ = ("_token",)
    _token: Token[Allowance | None]

    def __enter__(self) -> None:
        outer = _open.get()
        self._token = _open.set(Allowance() if outer is None else outer)

    def __exit__(self, *exc: object) -> None:
        _open.reset(self._token)


class no_call:
    """A context for what is not the user's waiting: background work, and the user's own code."""

    __slots__ = ("_token",)
    _token: Token[Allowance | None]

    def __enter__(self) -> None:
        self._token = _open.set(None)

    def __exit__(self, *exc: object) -> None:
        _open.reset(self._token)


class each_request:
    """A context within a call in which every request has a deadline of its own: for what must be done or be told."""

    __slots__ = ("_allowance",)
    _allowance: Allowance | None

    def __enter__(self) -> None:
        self._allowance = _open.get()
        if self._allowance is not None:
            self._allowance.lifted += 1

    def __exit__(self, *exc: object) -> None:
        if self._allowance is not None:
            self._allowance.lifted -= 1


def replenish() -> None:
    """Give the call its whole time again, but for stores that did not answer in time."""
    allowance = _open.get()
    if allowance:
        for name in [name for name, left in allowance.items() if left != SILENT]:
            del allowance[name]


def used_up(name: str) -> bool:
    """Whether the call that runs here has waited for a store as long as it may."""
    allowance = _open.get()
    return allowance is not None and allowance.get(name, inf) <= 0.0

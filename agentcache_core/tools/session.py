"""One run of an agent: whose tool calls belong together, on whose behalf, and in which world.

`scope="shared"`: the one world all runs look at; what is stored may be served to every run. `scope="session"`: a world
private to the run that starts equal for every run (an evaluation, a sandbox); results then belong to the *history*, a
digest of the run's writes so far, and runs that did the same share them. The run id names a run to people and never
enters a key.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, get_args

from blake3 import blake3

from agentcache_core.errors import ConfigurationError

Scope = Literal["shared", "session"]
Actor = str | Callable[[], Any] | None

_current: ContextVar[tuple[ToolSession, ...]] = ContextVar("agentcache_tool_sessions", default=())


class ToolSession:
    """A run, entered with `with` or `async with`; calls made inside it belong to it, also in tasks it starts.

    A thread does not inherit the run unless its context is copied (`contextvars.copy_context().run`); `session.call`
    belongs to the run from anywhere.
    """

    __slots__ = ("_call", "_entered", "_lock", "_writing", "actor", "history", "run_id", "scope")

    def __init__(
        self,
        run_id: str,
        *,
        scope: Scope = "shared",
        actor: Actor = None,
        call: Callable[..., Any] | None = None,
    ) -> None:
        if scope not in get_args(Scope):
            raise ConfigurationError(f'scope must be "shared" or "session", got {scope!r}')
        self.run_id = run_id
        self.scope: Scope = scope
        self.actor = actor
        self.history = b""
        self._call = call
        self._lock = threading.Lock()
        self._entered = 0
        self._writing = 0

    def call(self, name: str, arguments: Any, execute: Callable[..., Any]) -> Any:
        """`tools.call` inside this run, from whatever thread or task."""
        if self._call is None:
            raise RuntimeError("this session belongs to no tools; make it with tools.session(...)")
        return self._call(name, arguments, execute, session=self)

    @property
    def writing(self) -> bool:
        """Whether a write of this run is under way, so that what is read now may be half changed."""
        return self._writing > 0

    def begin_write(self, call: bytes | None) -> None:
        """Count a write into the history when it begins: one that fails has happened as well.

        `call` is the digest of its name and arguments, None when it has none. A write without a digest, or one that
        overlaps another, leads to a world that no other run can be known to share.
        """
        with self._lock:
            step = os.urandom(32) if call is None or self._writing else call
            self.history = blake3(self.history + step).digest()
            self._writing += 1

    def end_write(self) -> None:
        with self._lock:
            self._writing -= 1

    def diverge(self) -> None:
        """From here on this run shares nothing with any other."""
        with self._lock:
            self.history = os.urandom(32)

    def _enter(self) -> ToolSession:
        _current.set((*_current.get(), self))
        with _sandboxes_lock:
            self._entered += 1
            if self.scope == "session":
                _sandboxes.add(self)
        return self

    def _exit(self) -> None:
        runs = list(_current.get())
        if self in runs:
            runs.reverse()
            runs.remove(self)
            runs.reverse()
            _current.set(tuple(runs))
        with _sandboxes_lock:
            self._entered -= 1
            if not self._entered:
                _sandboxes.discard(self)

    def __enter__(self) -> ToolSession:
        return self._enter()

    async def __aenter__(self) -> ToolSession:
        return self._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit()


_sandboxes: set[ToolSession] = set()
_sandboxes_lock = threading.Lock()


def current_session() -> ToolSession | None:
    """The innermost run that the calling context is in."""
    runs = _current.get()
    return runs[-1] if runs else None


def open_sandboxes() -> list[ToolSession]:
    """The private worlds that are open in this process.

    A call from outside every run (from a thread that did not inherit its run, say) may belong to any of them.
    """
    with _sandboxes_lock:
        return list(_sandboxes)

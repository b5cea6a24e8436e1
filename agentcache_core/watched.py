"""Daemon threads that run blocking calls on behalf of callers who will not wait for ever."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from agentcache_core.errors import BackendUnavailable

P = ParamSpec("P")
T = TypeVar("T")
_IDLE_SECONDS = 30.0
_Job = tuple["Future[Any]", Callable[[], Any]]


class WatchedThreads:
    """Up to `most` daemon threads, started when needed, that end when idle; one that hangs never hinders an exit.

    When all of them are busy (a hung store holds its threads) up to `line` calls wait; beyond that `submit` raises
    `BackendUnavailable` at once. A forked child starts with none.
    """

    def __init__(self, most: int = 16, *, line: int = 10_000) -> None:
        self._most = most
        self._line = line
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._threads = 0
        self._waiting = 0  # jobs in line or running

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a call on a thread; its outcome arrives in the future. A cancelled future's call may still run."""
        if self._pid != os.getpid():
            self._begin()
        future: Future[T] = Future()
        with self._lock:
            if self._waiting >= self._most + self._line:
                raise BackendUnavailable("too many calls are waiting for a store that does not answer")
            self._waiting += 1
            start = self._threads < min(self._waiting, self._most)
            self._threads += start
        self._jobs.put((future, lambda: call(*args, **kwargs)))
        if start:
            threading.Thread(target=self._work, name="agentcache-storage", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            try:
                future, call = self._jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        return
                continue
            self._perform(future, call)
            del future, call  # else a value would stay alive until the next job

    def _perform(self, future: Future[Any], call: Callable[[], Any]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                try:
                    outcome = call()
                except BaseException as error:  # noqa: BLE001 - whatever happened belongs to the caller
                    future.set_exception(error)
                else:
                    future.set_result(outcome)
        finally:
            with self._lock:
                self._waiting -= 1

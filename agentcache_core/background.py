"""Work that the caller does not wait for: refresh ahead, write-back, log following, maintenance.

Blocking faces share one lazily started daemon thread per process; async faces use tasks of the loop they run on. The
queue is bounded: when it is full, work is dropped and told. Nothing is accepted after `close()`, which drains.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from agentcache_core.allowance import no_call
from agentcache_core.forking import watch
from agentcache_core.runtime import Runtime, drive

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger("agentcache")
Body = Callable[[], Coroutine[Any, Any, Any]]
QUEUE_LIMIT = 1000


class _Worker:
    """The one daemon thread of a process. Jobs are (owner, run) pairs; an owner can wait for its own to be done."""

    def __init__(self) -> None:
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        self._condition = threading.Condition()
        self._jobs: deque[tuple[Background, Callable[[], None]]] = deque()
        self._thread: threading.Thread | None = None

    def put(self, owner: Background, run: Callable[[], None]) -> bool:
        with self._condition:
            if len(self._jobs) >= QUEUE_LIMIT:
                return False
            self._jobs.append((owner, run))
            owner.pending += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="agentcache-background", daemon=True)
                self._thread.start()
            self._condition.notify_all()
        return True

    def wait_for(self, owner: Background, timeout: float | None) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: owner.pending == 0, timeout)

    def on_worker(self) -> bool:
        return threading.current_thread() is self._thread

    def _loop(self) -> None:
        while True:
            with self._condition:
                while not self._jobs:
                    if not self._condition.wait(timeout=5.0) and not self._jobs:
                        self._thread = None
                        return
                owner, run = self._jobs.popleft()
            try:
                run()
            except Exception:  # noqa: BLE001 - a background job has no caller to tell
                _log.exception("background work failed")
            finally:
                with self._condition:
                    owner.pending -= 1
                    self._condition.notify_all()


_worker = _Worker()


class Background:
    """The background of one cache. `enabled=False` makes the caller pay: work runs at once, in `submit`."""

    def __init__(self, *, enabled: bool, dropped: Callable[[str], None]) -> None:
        self.enabled = enabled
        self.pending = 0
        self._dropped = dropped
        self._closed = False
        self._keys: set[object] = set()
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        watch(self)

    def after_fork(self) -> None:
        """The parent does its own work."""
        self.pending = 0
        self._keys = set()

    @property
    def stopped(self) -> bool:
        """Whether the cache is closing: long work should come to an end."""
        return self._closed

    async def submit(self, rt: Runtime, name: str, body: Body, *, key: object = None) -> bool:
        """Run `body()` later on the face of `rt`, in a copy of the caller's context; answers whether it was taken.

        Work with a `key` that is already waiting or running is not taken twice.
        """
        if self._closed:
            return False
        if key is not None:
            if key in self._keys:
                return False
            self._keys.add(key)
        if not self.enabled:
            await self._run(name, body, key)
            return True
        if rt.face == "async":
            return self._submit_task(name, body, key)
        context = contextvars.copy_context()
        taken = _worker.put(self, lambda: context.run(drive, self._run(name, body, key)))
        if not taken:
            self._keys.discard(key)
            self._dropped(name)
        return taken

    def start(self, rt: Runtime, name: str, body: Body) -> None:
        """`submit` for those who cannot await: a task of the running loop, or the thread of the blocking faces."""
        if rt.face == "async" and not self._closed:
            self._submit_task(name, body, None)
        else:
            drive(self.submit(rt, name, body))

    def _submit_task(self, name: str, body: Body, key: object) -> bool:
        import asyncio

        if len(self._tasks) >= QUEUE_LIMIT:
            self._keys.discard(key)
            self._dropped(name)
            return False
        task = asyncio.get_running_loop().create_task(self._run(name, body, key), name=f"agentcache {name}")
        self._tasks.add(task)
        _alive.add(task)
        task.add_done_callback(_alive.discard)
        return True

    async def _run(self, name: str, body: Body, key: object) -> None:
        try:
            with no_call():
                await body()
        except Exception:  # noqa: BLE001 - a background job has no caller to tell
            _log.exception("background %s failed", name)
        finally:
            self._keys.discard(key)

    def drain(self, timeout: float | None = None) -> bool:
        """Block until everything submitted from blocking faces is done; answers whether it is."""
        if self.pending == 0 or _worker.on_worker():
            return True
        return _worker.wait_for(self, timeout)

    async def drain_async(self) -> None:
        """Wait for the tasks submitted on the running loop, then for blocking work, without blocking the loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        mine = [task for task in self._tasks if task.get_loop() is loop and task is not asyncio.current_task()]
        if mine:
            await asyncio.gather(*mine, return_exceptions=True)
        if self.pending:
            await asyncio.to_thread(self.drain)

    def stop(self) -> None:
        """Accept nothing more."""
        self._closed = True


class Repeated:
    """Work repeated at an interval until told to stop, on a daemon thread or as a task, by face."""

    @staticmethod
    def start(
        rt: Runtime,
        body: Callable[[], Coroutine[Any, Any, bool]],
        *,
        every: float,
        ended: Callable[[], None] | None = None,
    ) -> Callable[[], None]:
        """Run `body()` every so many seconds for as long as it answers True; answers a function that stops it.

        `ended()` is called when it stops, for whatever reason.
        """
        if rt.face == "async":
            return _repeat_task(body, every, ended)
        stop = threading.Event()

        def loop() -> None:
            try:
                while not stop.wait(every) and drive(body()):
                    pass
            finally:
                if ended is not None:
                    ended()

        threading.Thread(target=loop, name="agentcache-repeated", daemon=True).start()
        return stop.set


def _repeat_task(
    body: Callable[[], Coroutine[Any, Any, bool]], every: float, ended: Callable[[], None] | None
) -> Callable[[], None]:
    import asyncio

    async def loop() -> None:
        going = True
        with no_call():
            while going:
                await asyncio.sleep(every)
                going = await body()

    task = asyncio.get_running_loop().create_task(loop(), name="agentcache repeated")
    _alive.add(task)
    task.add_done_callback(_alive.discard)
    if ended is not None:
        task.add_done_callback(lambda _: ended())

    def stop() -> None:
        task.cancel()

    return stop


_alive: set[asyncio.Task[Any]] = set()

"""One body, two faces: rooms that do I/O are written once as `async def`; here is how each face runs them.

The blocking face drives a coroutine by hand: nothing in it ever suspends, because everything awaited there answers
at once. The async face awaits the same coroutine on its event loop. Only this room and `background` know threads
and event loops; asyncio is imported when an async face is first used.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from agentcache_core.backend import Backend, Capabilities, Stat, Stored, Version
from agentcache_core.errors import ConfigurationError
from agentcache_core.model import Missing

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Face = Literal["blocking", "async"]


def drive(body: Coroutine[Any, Any, T]) -> T:
    """Run a body that never suspends, and answer its result. `RuntimeError` if it does suspend: a bug of ours."""
    try:
        body.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    body.close()
    raise RuntimeError("a blocking body suspended; something awaited in it belongs to the async face")


class Gate:
    """A one-shot gate that threads and tasks of any loop may wait at. `open` lets everybody through, for good."""

    __slots__ = ("_event", "_lock", "_loops", "opened")

    def __init__(self) -> None:
        self.opened = False
        self._lock = threading.Lock()
        self._event: threading.Event | None = None
        self._loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def open(self) -> None:
        with self._lock:
            self.opened = True
            event, loops, self._loops = self._event, self._loops, []
        if event is not None:
            event.set()
        for loop, future in loops:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_release, future)

    def wait(self, seconds: float | None = None) -> bool:
        """Block this thread until the gate opens or `seconds` pass; answers whether it is open."""
        with self._lock:
            if self.opened:
                return True
            if self._event is None:
                self._event = threading.Event()
        return self._event.wait(seconds)

    async def wait_async(self, seconds: float | None = None) -> bool:
        """Suspend this task until the gate opens or `seconds` pass; answers whether it is open."""
        import asyncio

        loop = asyncio.get_running_loop()
        with self._lock:
            if self.opened:
                return True
            future = loop.create_future()
            self._loops.append((loop, future))
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            return self.opened
        return True


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def running_loop() -> object | None:
    """The event loop this thread is running, if any; asks without importing asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio._get_running_loop() if asyncio is not None else None


class Runtime(Protocol):
    """What a face offers to the bodies it runs."""

    face: Face

    async def call(self, function: Callable[[], Any]) -> Any: ...
    async def offload(self, function: Callable[[], Any]) -> Any: ...
    async def wait(self, gate: Gate, seconds: float | None = None) -> bool: ...
    async def sleep(self, seconds: float) -> None: ...


class BlockingRuntime:
    """The face of threads: everything awaited answers at once, waiting blocks the thread."""

    __slots__ = ()
    face: Face = "blocking"

    async def call(self, function: Callable[[], Any]) -> Any:
        value = function()
        if isinstance(value, CoroutineType):
            value.close()
            raise ConfigurationError(
                "compute answered a coroutine, which a blocking cache cannot await; "
                "use `await cache.aio.get_or_compute(…)` or an AsyncCache"
            )
        return value

    async def offload(self, function: Callable[[], Any]) -> Any:
        return function()

    async def wait(self, gate: Gate, seconds: float | None = None) -> bool:
        return gate.wait(seconds)

    async def sleep(self, seconds: float) -> None:
        threading.Event().wait(seconds)


class AsyncRuntime:
    """The face of event loops: waiting suspends the task; a plain function as computation is called as it is."""

    __slots__ = ()
    face: Face = "async"

    async def call(self, function: Callable[[], Any]) -> Any:
        answer = function()
        if isinstance(answer, Awaitable):
            return await answer
        return answer

    async def offload(self, function: Callable[[], Any]) -> Any:
        """Run a function that may block on a thread, unless it is an async one."""
        import asyncio

        answer = await asyncio.to_thread(function)
        if isinstance(answer, Awaitable):
            return await answer
        return answer

    async def wait(self, gate: Gate, seconds: float | None = None) -> bool:
        return await gate.wait_async(seconds)

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)


def spread(items: Iterable[T], work: Callable[[T], object], *, concurrency: int) -> None:
    """Call `work` for every item, at most `concurrency` at once, on threads with a copy of the caller's context.

    Items are taken as they are needed. What `work` or the iterable raises stops the rest and is raised here.
    """
    source, lock, stop = iter(items), threading.Lock(), threading.Event()
    raised: list[BaseException] = []

    def take() -> None:
        while not stop.is_set():
            try:
                with lock:
                    item = next(source)
                work(item)
            except StopIteration:
                return
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                raised.append(error)
                stop.set()

    threads = [threading.Thread(target=copy_context().run, args=(take,), daemon=True) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        stop.set()
    if raised:
        raise raised[0]


async def spread_async(items: Iterable[T], work: Callable[[T], Awaitable[object]], *, concurrency: int) -> None:
    """Await `work` for every item, at most `concurrency` at once; otherwise as `spread`."""
    import asyncio

    source = iter(items)

    async def take() -> None:
        for item in source:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(take())


BLOCKING = BlockingRuntime()
ASYNC = AsyncRuntime()


def offload_of(rt: Runtime) -> Callable[[Callable[[], Any]], Awaitable[Any]] | None:
    """How a face does aside what takes long: on a thread where a loop would be held up; None where the caller pays."""
    return rt.offload if rt.face == "async" else None


class Immediate:
    """A blocking backend in the shape of an async one whose every answer is there at once, for `drive`.

    Further powers (batch, log, lease …) appear on it exactly where the backend has them.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.capabilities: Capabilities = backend.capabilities
        # Bound here and now: isinstance with a runtime-checkable protocol does not ask `__getattr__`.
        for power in dir(backend):
            if power.startswith("_") or power in _VERBS or hasattr(type(self), power):
                continue
            if callable(method := getattr(backend, power)):
                self.__dict__[power] = _awaitable(method)

    async def get(self, name: bytes) -> Stored | Missing:
        return self.backend.get(name)

    async def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        return self.backend.put(
            name, data, expires_at=expires_at, if_absent=if_absent, if_version=if_version, weight=weight
        )

    async def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        return self.backend.delete(name, if_version=if_version)

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        for stat in self.backend.scan(prefix, after=after):
            yield stat

    async def close(self) -> None:
        self.backend.close()


_VERBS = frozenset({"get", "put", "delete", "scan", "close", "capabilities"})


def _awaitable(method: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def answer(*args: Any, **options: Any) -> Any:
        return method(*args, **options)

    return answer

"""A network that loses and reorders, between caches and their stores: every request is a message that waits in flight.

Nothing here moves by itself: no thread, no time. What arrives, when, and whose answer is lost is decided by whoever
plays the network, so that a state machine can explore histories and shrink one that went wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar

from agentcache_core.backend import Stat
from agentcache_core.errors import BackendUnavailable
from agentcache_core.wrapping import AsyncAround

P = ParamSpec("P")
T = TypeVar("T")
Fate = Literal["answered", "late", "lost", "unanswered"]
"""What becomes of a message: it arrives and its answer too; its sender gives up, and it arrives later; it is lost; it
arrives and its answer is lost."""
FATES: tuple[Fate, ...] = ("answered", "late", "lost", "unanswered")
_ONLY_READ = ("get", "get_many", "get_range", "scan", "read", "tail")
_TURNS = 200


@dataclass(slots=True, eq=False)
class Message:
    """A request on its way. `sender` is None once the sender has given up."""

    verb: str
    about: bytes
    perform: Callable[[], Any]
    sender: asyncio.Future[Any] | None

    def __str__(self) -> str:
        return f"{self.verb} {self.about[-12:]!r}{'' if self.sender else ' (given up)'}"


class Network:
    """The messages in flight between some caches and some stores, and the event loop on which the caches run.

    The loop turns only in `settle`, until everybody waits for a message.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.in_flight: list[Message] = []

    def settle(self) -> None:
        """Let every task go on until it waits for a message or ends."""
        for _ in range(_TURNS):
            self.loop.run_until_complete(asyncio.sleep(0))
            if not self.loop._ready:  # type: ignore[attr-defined]  # there is no public way to ask
                return
        raise AssertionError("the tasks do not come to rest")

    def start(self, call: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a call and let it go on until its first message is in flight."""
        task = self.loop.create_task(call)
        self.settle()
        return task

    def deliver(self, place: int, fate: Fate = "answered") -> Message:
        """Decide about one message, not necessarily the oldest; a message given up can only arrive or be lost."""
        message = self.in_flight.pop(place)
        sender = message.sender
        outcome: Any = BackendUnavailable(f"{message.verb}: no answer")
        if fate in ("answered", "unanswered"):
            try:
                done = message.perform()
                outcome = done if fate == "answered" else outcome
            except Exception as error:  # noqa: BLE001 - what the store raised belongs to the sender
                outcome = error if fate == "answered" else outcome
        elif fate == "late" and message.verb not in _ONLY_READ:
            message.sender = None
            self.in_flight.append(message)
        if sender is not None and not sender.done():
            if isinstance(outcome, Exception):
                sender.set_exception(outcome)
            else:
                sender.set_result(outcome)
            self.settle()
        return message

    def calm(self) -> None:
        """Let everything arrive and be answered, in order, until nothing is in flight."""
        while self.in_flight:
            self.deliver(0)

    def close(self) -> None:
        """Give up every call and end the loop."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.loop.close()


class Linked(AsyncAround):
    """A blocking backend at the far end of a network, in the form of an asynchronous one."""

    def __init__(self, inner: Any, network: Network) -> None:
        super().__init__(inner)
        self._network = network

    async def run(self, verb: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        sender = asyncio.get_running_loop().create_future()
        about = next((arg for arg in args if isinstance(arg, bytes)), b"")
        self._network.in_flight.append(Message(verb, about, lambda: call(*args, **kwargs), sender))
        answer: T = await sender
        return answer

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        def listed() -> Any:
            return list(self.inner.scan(prefix, after=after))

        for stat in await self.run("scan", listed):
            yield stat

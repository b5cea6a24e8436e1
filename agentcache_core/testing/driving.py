"""Backends driven by hand: an asynchronous one from blocking code, so that one suite proves both kinds, and one that
stops before every call, so that others can act between any two steps of what runs on it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from agentcache_core.backend import AsyncBackend, Backend, Stat
from agentcache_core.runtime import Immediate
from agentcache_core.wrapping import SCAN_PAGE, Around

P = ParamSpec("P")
T = TypeVar("T")


class Driven(Around):
    """A blocking backend over an asynchronous one: every verb runs to its end on one private event loop.

    For tests and scripts of one thread. Closing it closes the backend and the loop.
    """

    def __init__(self, inner: AsyncBackend | Any) -> None:
        super().__init__(inner)
        self._asynchronous: AsyncBackend = inner
        self._runner = asyncio.Runner()

    def run(self, verb: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def verb_on_the_loop() -> T:
            return await cast(Awaitable[T], call(*args, **kwargs))

        return self._runner.run(verb_on_the_loop())

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        stats = aiter(self._asynchronous.scan(prefix, after=after))

        async def page() -> list[Stat]:
            found: list[Stat] = []
            async for stat in stats:
                found.append(stat)
                if len(found) == SCAN_PAGE:
                    break
            return found

        while found := self._runner.run(page()):
            yield from found

    def close(self) -> None:
        self._runner.run(self._close())

    async def _close(self) -> None:
        await self._asynchronous.close()

    def stop(self) -> None:
        """Close the private loop; nothing can be asked afterwards."""
        self._runner.close()


def driven(backend: AsyncBackend | Any) -> Driven:
    """A blocking form of an asynchronous backend, with the same powers."""
    return Driven(backend)


class Stepwise:
    """A blocking backend in the shape of an async one that stops before every call, and before every name of a scan.

    A body over it is a coroutine whose every `send(None)` takes one step, until it raises `StopIteration`. `lags`
    stops once more while each answer is on its way.
    """

    def __init__(self, inner: Backend | Any, *, lags: bool = False) -> None:
        self._inner = Immediate(inner)
        self._lags = lags
        self.capabilities = inner.capabilities

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._inner, verb)

        async def stopping(*args: Any, **options: Any) -> Any:
            await _pause()
            answer = await call(*args, **options)
            if self._lags:
                await _pause()
            return answer

        return stopping

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        async for stat in self._inner.scan(prefix, after=after):
            await _pause()
            yield stat


@types.coroutine
def _pause() -> Generator[None, None, None]:
    """Suspend whoever is driven by hand until the next step."""
    yield

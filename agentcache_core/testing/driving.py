"""An asynchronous backend driven by hand from blocking code, so that one suite proves both kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from agentcache_core.backend import AsyncBackend, Stat
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

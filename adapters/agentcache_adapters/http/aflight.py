"""The shared upstream answer of the async face: many tasks of one event loop read one stream as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Protocol

from agentcache_adapters.http.exchange import Opened
from agentcache_adapters.http.recorder import Discard, Recorder, Store
from agentcache_adapters.http.sharing import copied
from agentcache_core.beginning import Beginning


class AsyncSource(Protocol):
    """A body as an async client library gives it."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class AsyncFlight:
    """One upstream answer and every task that reads it.

    Sending and each fetch run in tasks of their own, so that a reader that is cancelled takes nobody else down. When
    the last reader leaves, what is still running is cancelled and the upstream body closed.
    """

    def __init__(
        self,
        record: Callable[[Opened[AsyncSource]], Recorder],
        *,
        settle: Callable[[AsyncFlight, Store | Discard], Awaitable[None]],
        landed: Callable[[AsyncFlight], None],
        now: Callable[[], float],
    ) -> None:
        self._record, self._settle, self._landed, self._now = record, settle, landed, now
        self._opened: Opened[AsyncSource] | None = None
        self._work: asyncio.Task[None] | None = None
        self._chunks: list[bytes] = []
        self._error: Exception | None = None
        self._ended = self._settled = False
        self._readers = 1
        self.began: Beginning | None = None

    def board(self) -> bool:
        """Become a reader; False when everybody has left already and the body is gone."""
        if self._readers == 0 or (self._opened is not None and not self._recorder.watching):
            return False
        self._readers += 1
        return True

    def depart(self, send: Callable[[], Awaitable[Opened[AsyncSource]]]) -> None:
        """Start sending the call upstream; the leader calls this once, before anything suspends."""
        self._work = asyncio.create_task(self._open(send))

    async def opened(self, *, leader: bool, patience: float | None = None) -> Opened[AsyncSource] | None:
        """The answer's head, as soon as it is there. The leader sees upstream's exception itself, followers a copy.

        None when the answer did not begin within `patience` seconds.
        """
        if self._opened is None and self._error is None and self._work is not None:
            await asyncio.wait([self._work], timeout=patience)
        if self._opened is not None or self._error is None:
            return self._opened
        raise self._error if leader else copied(self._error)

    async def _open(self, send: Callable[[], Awaitable[Opened[AsyncSource]]]) -> None:
        try:
            opened = await send()
            self._recorder, self._iterator = self._record(opened), opened.source.__aiter__()
            self._opened = opened
            if not self._recorder.watching:
                self._landed(self)
        except Exception as error:  # noqa: BLE001 - raised again in every reader, by `opened`
            self._error = error
        finally:
            self._work = None
            if self._opened is None:
                self._landed(self)

    async def chunk(self, index: int) -> bytes | None:
        """Chunk `index`, None after the last; starts fetching it when nobody else has."""
        if index and self._readers == 1 and not self._recorder.watching:
            self._chunks[index - 1] = b""  # nobody can join any more: what was read need not be kept
        while index >= len(self._chunks):
            if self._error is not None:
                raise copied(self._error)
            if self._ended:
                return None
            if self._work is None:
                self._work = asyncio.create_task(self._fetch())
            await asyncio.shield(self._work)
        return self._chunks[index]

    async def _fetch(self) -> None:
        try:
            chunk = await anext(self._iterator, None)
            if chunk is not None:
                self._recorder.feed(chunk, self._now())
                self._chunks.append(chunk)
                if not self._recorder.watching:
                    self._landed(self)
                return
            await self._finish(complete=True)
            self._ended = True
        except Exception as error:  # noqa: BLE001 - raised again in every reader, by `chunk`
            self._error = error
            await self._finish(complete=False)
        finally:
            self._work = None

    async def leave(self) -> None:
        """Stop reading. An answer that has passed its terminal event is settled; the last reader closes upstream."""
        self._readers -= 1
        last = self._readers == 0
        if last and self._work is not None:
            work = self._work
            work.cancel()
            await asyncio.wait([work])
        if self._opened is None:
            return
        try:
            if last or self._recorder.terminal:
                await self._finish(complete=False)
        finally:
            if last:
                await self._opened.source.aclose()

    async def _finish(self, *, complete: bool) -> None:
        if self._settled:
            return
        self._settled = True
        try:
            await self._settle(self, self._recorder.finish(self._now(), complete=complete))
        finally:
            self._landed(self)


class AsyncLiveBody:
    """One reader's view of a flight: iterate once, close always."""

    def __init__(self, flight: AsyncFlight) -> None:
        self._flight = flight
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        index = 0
        while (chunk := await self._flight.chunk(index)) is not None:
            yield chunk
            index += 1

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._flight.leave()


class AsyncReplayedBody:
    """A recording handed out part by part, at full speed or at the pace it was recorded."""

    def __init__(self, parts: Iterator[tuple[float, bytes]], sleep: Callable[[float], Awaitable[None]] | None) -> None:
        self._parts, self._sleep = parts, sleep

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for delay, part in self._parts:
            if self._sleep is not None and delay > 0:
                await self._sleep(delay)
            yield part

    async def aclose(self) -> None:
        """Nothing is held open."""

"""The shared upstream answer of the blocking face: many threads read one stream as it arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from agentcache_adapters.http.exchange import Opened
from agentcache_adapters.http.recorder import Discard, Recorder, Store
from agentcache_adapters.http.sharing import copied
from agentcache_core.beginning import Beginning


class Source(Protocol):
    """A body as a blocking client library gives it."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class Flight:
    """One upstream answer and everybody who reads it.

    The leader calls `open` once; followers wait in `opened`. Then each reader asks for chunk 0, 1, 2 …; whoever needs a
    chunk that is not there yet fetches it for all. The last reader to leave closes the upstream body.
    """

    def __init__(
        self,
        record: Callable[[Opened[Source]], Recorder],
        *,
        settle: Callable[[Flight, Store | Discard], None],
        landed: Callable[[Flight], None],
        now: Callable[[], float],
    ) -> None:
        self._record, self._settle, self._landed, self._now = record, settle, landed, now
        self._turn = threading.Condition()
        self._opened: Opened[Source] | None = None
        self._chunks: list[bytes] = []
        self._error: BaseException | None = None
        self._ended = self._fetching = self._settled = False
        self._readers = 1
        self.began: Beginning | None = None

    def open(self, send: Callable[[], Opened[Source]]) -> Opened[Source]:
        """Send the call upstream, as its leader. What `send` raises reaches the leader as it is."""
        try:
            opened = send()
            recorder = self._record(opened)
        except BaseException as error:
            self._fail(error)
            self._landed(self)
            raise
        with self._turn:
            self._recorder, self._iterator = recorder, iter(opened.source)
            self._opened = opened
            self._turn.notify_all()
        if not recorder.watching:
            self._landed(self)
        return opened

    def abandon(self) -> None:
        """Give up before anything was sent: whoever waits leads anew. Does nothing once the answer is open."""
        if self._opened is None and self._error is None:
            self._fail(_Abandoned())
            self._landed(self)

    def board(self) -> bool:
        """Become a reader; False when everybody has left already and the body is gone."""
        with self._turn:
            if self._readers == 0 or (self._opened is not None and not self._recorder.watching):
                return False
            self._readers += 1
            return True

    def opened(self, patience: float | None = None) -> Opened[Source] | None:
        """The answer's head, as soon as it is there.

        None when somebody must lead anew: the leader gave up, or its answer did not begin within `patience` seconds.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._opened is not None or self._error is not None, patience)
            if self._opened is not None or self._error is None:
                return self._opened
        assert self._error is not None
        if not isinstance(self._error, Exception):
            return None
        raise copied(self._error)

    def chunk(self, index: int) -> bytes | None:
        """Chunk `index`, None after the last; fetches it when nobody else is fetching."""
        with self._turn:
            if index and self._readers == 1 and not self._recorder.watching:
                self._chunks[index - 1] = b""  # nobody can join any more: what was read need not be kept
            while True:
                if index < len(self._chunks):
                    return self._chunks[index]
                if self._error is not None:
                    raise copied(self._error) if isinstance(self._error, Exception) else ConnectionAbortedError
                if self._ended:
                    return None
                if not self._fetching:
                    self._fetching = True
                    break
                self._turn.wait()
        return self._fetch()

    def _fetch(self) -> bytes | None:
        try:
            chunk = next(self._iterator, None)
            if chunk is not None:
                self._pass(chunk)
                return chunk
        except BaseException as error:
            self._fail(error)
            self._finish(complete=False)
            raise
        try:
            self._finish(complete=True)
        finally:
            with self._turn:
                self._ended, self._fetching = True, False
                self._turn.notify_all()
        return None

    def _pass(self, chunk: bytes) -> None:
        with self._turn:
            self._recorder.feed(chunk, self._now())
            self._chunks.append(chunk)
            self._fetching = False
            self._turn.notify_all()
            watching = self._recorder.watching
        if not watching:
            self._landed(self)

    def _fail(self, error: BaseException) -> None:
        with self._turn:
            self._error, self._fetching = error, False
            self._turn.notify_all()

    def leave(self) -> None:
        """Stop reading. An answer that has passed its terminal event is settled; the last reader closes upstream."""
        with self._turn:
            self._readers -= 1
            last = self._readers == 0
            opened = self._opened
        if opened is None:
            return
        if last or self._recorder.terminal:
            self._finish(complete=False)
        if last:
            opened.source.close()

    def _finish(self, *, complete: bool) -> None:
        with self._turn:
            if self._settled:
                return
            self._settled = True
            outcome = self._recorder.finish(self._now(), complete=complete)
        try:
            self._settle(self, outcome)
        finally:
            self._landed(self)


class _Abandoned(BaseException):
    """Marks a flight whose leader found an answer elsewhere; never leaves this module."""


class LiveBody:
    """One reader's view of a flight: iterate once, close always."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        index = 0
        while (chunk := self._flight.chunk(index)) is not None:
            yield chunk
            index += 1

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._flight.leave()


class ReplayedBody:
    """A recording handed out part by part, at full speed or at the pace it was recorded."""

    def __init__(self, parts: Iterator[tuple[float, bytes]], sleep: Callable[[float], None] | None) -> None:
        self._parts, self._sleep = parts, sleep

    def __iter__(self) -> Iterator[bytes]:
        for delay, part in self._parts:
            if self._sleep is not None and delay > 0:
                self._sleep(delay)
            yield part

    def close(self) -> None:
        """Nothing is held open."""

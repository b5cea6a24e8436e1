"""The conformance suite: what every backend must do, as pytest classes to subclass.

    class TestMyBackend(BackendSuite):
        def open(self, place, clock):
            return MyBackend(place / "store", clock=clock)

`place` is an empty folder of the test; opening twice at one place must reach the same store where the backend says
that it is durable or shared. Powers that a backend lacks are skipped, what it claims in `capabilities` is tested.
An asynchronous backend subclasses `AsyncBackendSuite` and defines `open_async`. A store that cannot be given a clock
sets `real_time = True`, one whose leases alone run on the server's time `leases_in_real_time = True`; the suite
then lets short spans really pass.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.clock import SYSTEM_CLOCK, Clock, ManualClock
from agentcache_core.errors import BackendClosed
from agentcache_core.model import MISSING
from agentcache_core.testing.children import in_child
from agentcache_core.testing.concurrency import ThreadLaws
from agentcache_core.testing.driving import Driven, driven
from agentcache_core.testing.powers import PowerLaws
from agentcache_core.testing.verbs import VerbLaws


class _Suite(VerbLaws, PowerLaws):
    """What both kinds share: the fixtures, and the laws of closing, reopening and forking."""

    real_time = False
    leases_in_real_time = False

    def open(self, place: Path, clock: Clock) -> Any:
        """Open the backend under test at `place`, with `clock` as its source of time."""
        raise NotImplementedError("a suite defines open(place, clock), or open_async(place, clock)")

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        return tmp_path

    @pytest.fixture
    def clock(self) -> Clock:
        return SYSTEM_CLOCK if self.real_time else ManualClock(time.time())

    @pytest.fixture
    def opened(self, place: Path, clock: Clock) -> Iterator[Callable[[], Backend]]:
        """Opens the backend at the test's place, any number of times; all are closed at the end."""
        backends: list[Backend] = []

        def another() -> Backend:
            backends.append(self.open(place, clock))
            return backends[-1]

        yield another
        for backend in backends:
            backend.close()
            if isinstance(backend, Driven):
                backend.stop()

    @pytest.fixture
    def backend(self, opened: Callable[[], Backend]) -> Backend:
        return opened()

    @pytest.fixture
    def pass_time(self, clock: Clock) -> Callable[[float], None]:
        """Lets seconds pass: at once on a manual clock, really (and at least 50 ms) where the store has its own."""

        def passes(seconds: float) -> None:
            if isinstance(clock, ManualClock):
                clock.advance(seconds)
            else:
                time.sleep(max(seconds, 0.05))

        return passes

    @pytest.fixture
    def lease_span(self) -> float:
        """The length in seconds that stands for one unit of time in the laws of leases."""
        return 0.5 if self.real_time or self.leases_in_real_time else 1.0

    @pytest.fixture
    def pass_lease_time(self, pass_time: Callable[[float], None], lease_span: float) -> Callable[[float], None]:
        """Lets units of lease time pass."""
        real = self.real_time or self.leases_in_real_time
        return lambda units: time.sleep(units * lease_span) if real else pass_time(units)

    def in_the_child(self, backend: Any) -> Any:
        """How a child process uses the backend it was born with."""
        return backend

    def test_closing_twice_is_allowed_and_every_verb_then_says_closed(self, backend: Any) -> None:
        backend.put(b"k", b"v")
        backend.close()
        backend.close()
        calls: list[Callable[[], object]] = [
            lambda: backend.get(b"k"),
            lambda: backend.put(b"k", b"w"),
            lambda: backend.delete(b"k"),
            lambda: list(backend.scan(b"")),
        ]
        for call in calls:
            with pytest.raises(BackendClosed):
                call()

    def test_what_was_stored_is_there_after_reopening(self, opened: Callable[[], Backend]) -> None:
        first = opened()
        if not first.capabilities.durable:
            pytest.skip("this backend does not claim to be durable")
        version = first.put(b"a/k", b"v")
        first.close()
        second = opened()
        assert second.get(b"a/k") == (b"v", version)
        assert [stat.name for stat in second.scan(b"")] == [b"a/k"]

    def test_two_openings_of_a_shared_store_see_each_other(self, opened: Callable[[], Backend]) -> None:
        left, right = opened(), opened()
        if not left.capabilities.shared:
            pytest.skip("this backend does not claim to be shared")
        version = left.put(b"a/k", b"left")
        assert right.get(b"a/k") == (b"left", version)
        assert right.put(b"a/k", b"right", if_version=version) is not None
        assert left.put(b"a/k", b"left again", if_version=version) is None
        assert right.delete(b"a/k") is True
        assert left.get(b"a/k") is MISSING

    def test_a_forked_child_and_its_parent_use_the_same_object_side_by_side(self, backend: Backend) -> None:
        backend.put(b"a/parent", b"parent")
        assert backend.get(b"a/parent")

        def child() -> None:
            own = self.in_the_child(backend)
            for turn in range(100):
                assert own.get(b"a/parent").data == b"parent"
                assert own.put(b"a/child", b"child %d" % turn) is not None
                assert own.get(b"a/child").data == b"child %d" % turn

        with in_child(child):
            for turn in range(100):
                assert backend.put(b"a/mine", b"mine %d" % turn) is not None
                mine, theirs = backend.get(b"a/mine"), backend.get(b"a/parent")
                assert mine
                assert mine.data == b"mine %d" % turn
                assert theirs
                assert theirs.data == b"parent"
        if backend.capabilities.shared:
            child_wrote = backend.get(b"a/child")
            assert child_wrote
            assert child_wrote.data == b"child 99"


class BackendSuite(_Suite, ThreadLaws):
    """The laws of a blocking backend. Subclass it and define `open(place, clock)`."""


class AsyncBackendSuite(_Suite):
    """The laws of an asynchronous backend. Subclass it and define `open_async(place, clock)`."""

    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        raise NotImplementedError("a suite defines open_async(place, clock)")

    def open(self, place: Path, clock: Clock) -> Any:
        return driven(self.open_async(place, clock))

    def in_the_child(self, backend: Any) -> Any:
        return driven(backend.inner)

    def test_many_tasks_use_it_at_once(self, place: Path, clock: Clock) -> None:
        backend = self.open_async(place, clock)

        async def one(number: int) -> None:
            name, data = b"t/%d" % number, os.urandom(200)
            for _ in range(3):
                version = await backend.put(name, data)
                assert await backend.get(name) == (data, version)

        async def all_of_them() -> None:
            await asyncio.gather(*(one(number) for number in range(40)))
            assert len([stat async for stat in backend.scan(b"t/")]) == 40
            await backend.close()

        asyncio.run(all_of_them())

    def test_one_object_serves_several_loops_in_turn(self, place: Path, clock: Clock) -> None:
        backend = self.open_async(place, clock)

        async def write(number: int) -> None:
            await backend.put(b"l/%d" % number, b"%d" % number)

        async def read(number: int) -> None:
            stored = await backend.get(b"l/%d" % number)
            assert stored
            assert stored.data == b"%d" % number

        for number in range(3):
            asyncio.run(write(number))
            asyncio.run(read(number))
        asyncio.run(backend.close())

    def test_a_cancelled_call_leaves_the_backend_usable(self, place: Path, clock: Clock) -> None:
        backend = self.open_async(place, clock)

        async def cancel_some() -> None:
            for turns_before_cancelling in range(6):
                await backend.put(b"c/keep", b"keep %d" % turns_before_cancelling)
                calls = [asyncio.create_task(_get(backend, b"c/keep")) for _ in range(5)]
                calls.append(asyncio.create_task(_put(backend, b"c/other", b"x" * 50_000)))
                for _ in range(turns_before_cancelling):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                stored = await backend.get(b"c/keep")
                assert stored
                assert stored.data == b"keep %d" % turns_before_cancelling
                other = await backend.get(b"c/other")
                assert other is MISSING or other.data == b"x" * 50_000
            await backend.close()

        asyncio.run(cancel_some())


async def _get(backend: AsyncBackend, name: bytes) -> object:
    return await backend.get(name)


async def _put(backend: AsyncBackend, name: bytes, data: bytes) -> object:
    return await backend.put(name, data)

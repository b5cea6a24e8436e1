"""The laws of threads: nothing torn, nothing lost, one winner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentcache_core.backend import Backend
from agentcache_core.model import MISSING
from agentcache_core.powers import SupportsCounter, SupportsLease

THREADS = 8


def at_once(work: Callable[[int], object]) -> list[Any]:
    """What `work(0) ... work(7)` answer when eight threads start them together."""
    start = threading.Barrier(THREADS)

    def one(number: int) -> object:
        start.wait(30)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


class ThreadLaws:
    """What a blocking backend promises to many threads."""

    def test_threads_write_and_read_their_own_names(self, backend: Backend) -> None:
        def own(number: int) -> None:
            for turn in range(30):
                name, data = b"t/%d/%d" % (number, turn % 5), b"%d %d" % (number, turn)
                version = backend.put(name, data)
                assert backend.get(name) == (data, version)

        at_once(own)
        assert len(list(backend.scan(b"t/"))) == THREADS * 5

    @pytest.mark.parametrize("size", [500, 90_000])
    def test_a_reader_sees_whole_values_and_never_a_mixture(self, backend: Backend, size: int) -> None:
        backend.put(b"x/k", b"0" * size)

        def write_or_read(number: int) -> None:
            for _ in range(25):
                if number < 3:
                    assert backend.put(b"x/k", b"%d" % number * size) is not None
                else:
                    stored = backend.get(b"x/k")
                    assert stored is not MISSING
                    assert stored.data == stored.data[:1] * size

        at_once(write_or_read)

    def test_one_of_many_conditional_puts_wins(self, backend: Backend) -> None:
        if not backend.capabilities.conditional_put:
            pytest.skip("this backend does not claim conditional puts")
        for turn in range(5):
            name = b"w/%d" % turn
            answers = at_once(lambda number, name=name: backend.put(name, b"%d" % number, if_absent=True))  # type: ignore[misc]  # a lambda's default
            winners = [number for number, answer in enumerate(answers) if answer is not None]
            assert len(winners) == 1
            assert backend.get(name) == (b"%d" % winners[0], answers[winners[0]])

    def test_no_update_over_a_version_is_lost(self, backend: Backend) -> None:
        if not backend.capabilities.conditional_put:
            pytest.skip("this backend does not claim conditional puts")
        backend.put(b"v/n", b"0")

        def increment(_: int) -> None:
            for _ in range(5):
                while True:
                    stored = backend.get(b"v/n")
                    assert stored is not MISSING
                    if backend.put(b"v/n", b"%d" % (int(stored.data) + 1), if_version=stored.version) is not None:
                        break

        at_once(increment)
        stored = backend.get(b"v/n")
        assert stored is not MISSING
        assert stored.data == b"%d" % (THREADS * 5)

    def test_one_of_many_deletes_counts(self, backend: Backend) -> None:
        if not backend.capabilities.conditional_put:
            pytest.skip("this backend does not claim conditional puts")
        for turn in range(5):
            backend.put(b"d/%d" % turn, b"v")
            assert sum(at_once(lambda _, turn=turn: backend.delete(b"d/%d" % turn))) == 1  # type: ignore[misc]  # a lambda's default

    def test_counters_lose_nothing(self, backend: Any) -> None:
        if not isinstance(backend, SupportsCounter):
            pytest.skip("this backend has no SupportsCounter")
        at_once(lambda _: [backend.add(b"c/n", 1) for _ in range(25)])
        assert backend.add(b"c/n", 0) == THREADS * 25

    def test_a_lease_is_granted_to_one_thread(self, backend: Any) -> None:
        if not isinstance(backend, SupportsLease):
            pytest.skip("this backend has no SupportsLease")
        grants = [grant for grant in at_once(lambda _: backend.acquire(b"l/k", 60.0)) if grant is not None]
        assert len(grants) == 1

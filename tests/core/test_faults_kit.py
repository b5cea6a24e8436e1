"""The misbehaving backends do what they say, and keep every power of what they wrap."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from agentcache_core.clock import Clock, ManualClock
from agentcache_core.errors import BackendUnavailable
from agentcache_core.model import MISSING
from agentcache_core.powers import SupportsBatch, SupportsLog
from agentcache_core.testing import BackendSuite, DictBackend, FaultyBackend, SlowBackend, TornBackend, against_a_dict

TestDictBackendAgainstADict = against_a_dict(lambda clock: DictBackend(clock=clock))


class TestSlowBackendConforms(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return SlowBackend(DictBackend(clock=clock), 0.0)


def test_a_slow_backend_lets_time_pass_on_a_manual_clock() -> None:
    clock = ManualClock()
    backend = SlowBackend(DictBackend(clock=clock), 2.0, wait=clock.advance, verbs=("get",))
    backend.put(b"k", b"v")
    assert clock.monotonic() == 0.0
    assert backend.get(b"k")
    assert clock.monotonic() == 2.0


def test_a_held_backend_hangs_until_it_is_released() -> None:
    backend = SlowBackend(DictBackend())
    backend.hold()
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(backend.get(b"k")))
    thread.start()
    assert answers == []
    backend.let_go()
    thread.join(30)
    assert answers == [MISSING]


def test_a_planned_failure_happens_as_often_as_planned() -> None:
    backend = FaultyBackend(DictBackend())
    backend.fail("put", times=2)
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            backend.put(b"k", b"v")
    assert backend.put(b"k", b"v") is not None
    assert backend.calls["put"] == 3


def test_a_failure_after_the_work_loses_only_the_answer() -> None:
    backend = FaultyBackend(DictBackend())
    backend.fail("put", times=1, after=True, error=TimeoutError("no answer"))
    with pytest.raises(TimeoutError):
        backend.put(b"k", b"v")
    stored = backend.get(b"k")
    assert stored
    assert stored.data == b"v"


def test_random_failures_follow_their_seed_until_healed() -> None:
    def outcome(seed: int) -> list[bool]:
        backend = FaultyBackend(DictBackend(), rate=0.5, seed=seed)
        outcomes = []
        for _ in range(40):
            try:
                backend.get(b"k")
                outcomes.append(True)
            except BackendUnavailable:
                outcomes.append(False)
        backend.heal()
        assert backend.get(b"k") is MISSING
        return outcomes

    assert outcome(1) == outcome(1) != outcome(2)
    assert 5 < sum(outcome(1)) < 35


@pytest.mark.parametrize("how", ["cut", "flip", "empty", "garbage"])
@pytest.mark.parametrize("data", [b"", b"x", b"some longer value"])
def test_a_torn_backend_never_gives_back_what_was_stored(how: Any, data: bytes) -> None:
    backend = TornBackend(DictBackend(), how)
    backend.put(b"k", data)
    stored = backend.get(b"k")
    assert stored is not MISSING
    assert stored.data != data
    assert isinstance(backend, SupportsBatch)
    assert backend.get_many([b"k"])[0].data != data  # type: ignore[union-attr]  # present, as asserted above
    backend.how = None
    whole = backend.get(b"k")
    assert whole
    assert whole.data == data


def test_a_wrapper_has_the_powers_of_what_it_wraps_and_no_others() -> None:
    class OnlyVerbs:
        capabilities = DictBackend.capabilities

    assert isinstance(SlowBackend(FaultyBackend(DictBackend())), SupportsLog)
    assert not isinstance(SlowBackend(OnlyVerbs()), SupportsLog)

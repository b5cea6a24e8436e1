"""The reference backend passes its own suite, blocking and driven through an asynchronous face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agentcache_core.clock import Clock
from agentcache_core.testing import BackendSuite, DictBackend


class TestDictBackend(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return DictBackend(clock=clock)


def test_a_log_that_was_cut_short_is_a_gap_to_a_slow_reader() -> None:
    backend = DictBackend(log_length=3)
    first = backend.append(b"t", b"1")
    for number in range(3):
        backend.append(b"t", b"%d" % number)
    assert backend.read(b"t", first) is None


def test_the_testing_kit_names_what_it_does_not_have() -> None:
    import agentcache_core.testing as kit

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kit.nothing

"""A Hypothesis state machine that holds a backend against a plain dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import TestCase

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from agentcache_core.backend import Backend, Version
from agentcache_core.clock import Clock, ManualClock
from agentcache_core.model import MISSING
from agentcache_core.powers import SupportsBatch, SupportsTouch

NAMES = st.sampled_from([b"a", b"a/1", b"a/2", b"b/1", b"b/\x00", b"b/\xff", b"c"])
BYTES = st.one_of(st.binary(max_size=20), st.sampled_from([b"", b"x" * 40_000, b"y" * 90_000]))
LIFE = st.one_of(st.none(), st.floats(min_value=0.5, max_value=20))


@dataclass(slots=True)
class _Expected:
    data: bytes
    version: Version
    expires_at: float | None


def against_a_dict(opens: Callable[[Clock], Backend], *, reopens: bool = False, examples: int = 30) -> type[TestCase]:
    """A test case that compares a backend with a plain dict, step by step.

    `opens` opens the backend on an *empty* place at its first call with a new clock, and again on the same place when
    called with a clock it has seen (only where `reopens`).
    """

    class Machine(_Machine):
        def open(self, clock: Clock) -> Backend:
            return opens(clock)

        may_reopen = reopens

    chosen = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
    )

    class AgainstADict(TestCase):
        def test_it_behaves_like_a_dict(self) -> None:
            run_state_machine_as_test(Machine, settings=chosen)

    return AgainstADict


class _Machine(RuleBasedStateMachine):
    may_reopen = False

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.backend: Any = self.open(self.clock)
        self.expected: dict[bytes, _Expected] = {}
        self.old_versions: list[Version] = [b"never given"]

    def open(self, clock: Clock) -> Backend:
        raise NotImplementedError

    def alive(self, name: bytes) -> _Expected | None:
        value = self.expected.get(name)
        gone = value is None or (value.expires_at is not None and value.expires_at <= self.clock.now())
        return None if gone else value

    def wrote(self, name: bytes, data: bytes, life: float | None, version: Version) -> None:
        assert version not in self.old_versions
        self.old_versions.append(version)
        self.expected[name] = _Expected(data, version, None if life is None else self.clock.now() + life)

    def until(self, life: float | None) -> float | None:
        return None if life is None else self.clock.now() + life

    @rule(name=NAMES, data=BYTES, life=LIFE, weight=st.one_of(st.none(), st.floats(-5, 5)))
    def put(self, name: bytes, data: bytes, life: float | None, weight: float | None) -> None:
        self.wrote(name, data, life, self.backend.put(name, data, expires_at=self.until(life), weight=weight))

    @rule(name=NAMES, data=BYTES, life=LIFE)
    def put_where_nothing_is(self, name: bytes, data: bytes, life: float | None) -> None:
        version = self.backend.put(name, data, expires_at=self.until(life), if_absent=True)
        assert (version is None) == (self.alive(name) is not None)
        if version is not None:
            self.wrote(name, data, life, version)

    @rule(name=NAMES, data=BYTES, life=LIFE, pick=st.integers(0, 5))
    def put_over_a_version(self, name: bytes, data: bytes, life: float | None, pick: int) -> None:
        present = self.alive(name)
        named = self.old_versions[-1 - pick % len(self.old_versions)]
        if pick > 2 and present is not None:
            named = present.version
        version = self.backend.put(name, data, expires_at=self.until(life), if_version=named)
        assert (version is not None) == (present is not None and present.version == named)
        if version is not None:
            self.wrote(name, data, life, version)

    @rule(name=NAMES, right=st.booleans())
    def delete(self, name: bytes, right: bool) -> None:
        present = self.alive(name)
        named = None if right else b"wrong"
        assert self.backend.delete(name, if_version=named) == (present is not None and named is None)
        if named is None:
            self.expected.pop(name, None)

    @rule(name=NAMES)
    def get(self, name: bytes) -> None:
        present = self.alive(name)
        found = self.backend.get(name)
        assert found == (MISSING if present is None else (present.data, present.version))

    @precondition(lambda self: isinstance(self.backend, SupportsBatch))
    @rule(names=st.lists(NAMES, max_size=6))
    def get_many(self, names: list[bytes]) -> None:
        expected = [(p.data, p.version) if (p := self.alive(name)) else MISSING for name in names]
        assert self.backend.get_many(names) == expected

    @precondition(lambda self: isinstance(self.backend, SupportsTouch))
    @rule(name=NAMES, life=LIFE)
    def touch(self, name: bytes, life: float | None) -> None:
        present = self.alive(name)
        assert self.backend.touch(name, self.until(life)) == (present is not None)
        if present is not None:
            if life is None or present.expires_at is None:
                present.expires_at = None
            else:
                present.expires_at = max(present.expires_at, self.clock.now() + life)
            found = self.backend.get(name)
            assert found is not MISSING
            self.wrote_by_touch(present, found.version)

    def wrote_by_touch(self, present: _Expected, version: Version) -> None:
        assert version not in self.old_versions
        self.old_versions.append(version)
        present.version = version

    @rule(prefix=st.sampled_from([b"", b"a", b"a/", b"b/", b"zz"]), after=st.sampled_from([b"", b"a/1", b"b/\x00"]))
    def scan(self, prefix: bytes, after: bytes) -> None:
        names = [stat.name for stat in self.backend.scan(prefix, after=after)]
        expected = sorted(n for n in self.expected if n.startswith(prefix) and n > after and self.alive(n))
        assert sorted(names) == expected
        assert not self.backend.capabilities.ordered_scan or names == expected

    @rule(seconds=st.floats(min_value=0.1, max_value=15))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.may_reopen)
    @rule()
    def reopen(self) -> None:
        self.backend.close()
        self.backend = self.open(self.clock)

    def teardown(self) -> None:
        self.backend.close()

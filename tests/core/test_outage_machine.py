"""Two caches, one shared authority and a shared middle tier, over links that fail before or after the work is done.

No stale answer after the bound, no durable write lost, nothing torn, and the caller never fails.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from agentcache_core import MISSING, Cache
from agentcache_core.clock import ManualClock
from agentcache_core.errors import NotWritten
from agentcache_core.policy.breaker import LONGEST_REST
from agentcache_core.testing import DictBackend, FaultyBackend

KEYS = st.sampled_from(["a", "b"])
WHICH = st.integers(0, 1)
TAGS = st.sampled_from([[], ["t"]])
VERBS = st.sampled_from(["", "get", "put", "get_many", "put_many", "delete", "append"])


class Outages(RuleBasedStateMachine):
    """`possible` holds, for each key, what a look-up may rightly answer; MISSING is among it unless a durable write
    was acknowledged since."""

    @initialize()
    def open(self) -> None:
        self.clock = ManualClock()
        middle, authority = DictBackend(clock=self.clock), DictBackend(clock=self.clock)
        self.links = [[FaultyBackend(middle), FaultyBackend(authority)] for _ in range(2)]
        self.caches = [
            # A deadline goes by the machine's clock: on one that stalls it would lose answers that the plan does not.
            Cache(["memory://", *links], clock=self.clock, max_staleness=0, background=False, deadline="1h")
            for links in self.links
        ]
        self.possible: dict[str, set[Any]] = {"a": {MISSING}, "b": {MISSING}}
        self.tagged: dict[str, bool] = {"a": False, "b": False}
        self.owed: list[set[str]] = [set(), set()]
        self.count = 0

    @rule(which=WHICH, tier=st.integers(0, 1), verb=VERBS, after=st.booleans(), times=st.integers(1, 4))
    def fail(self, which: int, tier: int, verb: str, after: bool, times: int) -> None:
        self.links[which][tier].fail(verb, times=times, after=after)

    @rule(which=WHICH)
    def heal(self, which: int) -> None:
        for link in self.links[which]:
            link.heal()
        self.clock.advance(LONGEST_REST)

    @rule(which=WHICH, key=KEYS, tags=TAGS, durable=st.booleans())
    def set(self, which: int, key: str, tags: list[str], durable: bool) -> None:
        self.count += 1
        value = f"{key}{self.count}"
        try:
            stored = self.caches[which].set(key, value, tags=tags, durable=durable)
        except NotWritten:
            assert durable
            stored = False
        if stored:
            self.possible[key] = {value} if durable and not self._may_be_removed(key, tags) else {value, MISSING}
        else:
            self.possible[key] |= {value, MISSING}
        self.tagged[key] = bool(tags) if stored else True

    @rule(which=WHICH, key=KEYS)
    def get(self, which: int, key: str) -> None:
        got = self.caches[which].get(key)
        assert got is MISSING or got in self.possible[key]

    @rule(key=KEYS)
    def get_when_all_is_well(self, key: str) -> None:
        for which in (0, 1):
            self.heal(which)
        # Looking makes good what a cache has journalled; of that, one that was asked before cannot know.
        before = [cache.get(key) for cache in self.caches]
        assert not any(self._owes(which) for which in (0, 1))
        got = [cache.get(key) for cache in self.caches]
        assert {*before, *got} <= self.possible[key]
        assert got[0] == got[1]
        self.possible[key] = {got[0]} if got[0] is not MISSING else self.possible[key]

    @rule(which=WHICH, key=KEYS)
    def delete(self, which: int, key: str) -> None:
        self.caches[which].delete(key)
        if self._owes(which):
            self.possible[key].add(MISSING)
            self.owed[which].add(f"key {key}")
        else:
            self.possible[key] = {MISSING}

    @rule(which=WHICH)
    def invalidate(self, which: int) -> None:
        self.caches[which].invalidate(tag="t")
        if self._owes(which):
            self.owed[which].add("tag t")
        for key, tagged in self.tagged.items():
            if tagged:
                self.possible[key].add(MISSING)

    def _owes(self, which: int) -> bool:
        return bool(self.caches[which].stats().further["pending_invalidations"])

    def _may_be_removed(self, key: str, tags: list[str]) -> bool:
        """Whether a removal that a cache has journalled may yet concern what is stored now."""
        for which in (0, 1):
            if not self._owes(which):
                self.owed[which].clear()
        return any(f"key {key}" in owed or (tags and "tag t" in owed) for owed in self.owed)


Outages.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestOutages = Outages.TestCase

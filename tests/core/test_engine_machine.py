"""The whole cache against a plain model: set, get, expire, invalidate, restart; two caches, one store, two tenants."""

from __future__ import annotations

import fnmatch
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentcache_core import MISSING, Cache
from agentcache_core.clock import ManualClock
from agentcache_core.testing import DictBackend

TENANTS = st.sampled_from(["", "acme"])
NAMESPACES = st.sampled_from(["", "n"])
KEYS = st.sampled_from(["user:1", "user:2", "x", b"user:3", '{"model":"m","messages":[]}'])
VALUES = st.sampled_from([None, 0, "text", [1, 2], {"a": (1, 2)}, b"\x00"])
TAGS = st.lists(st.sampled_from(["t", "u"]), unique=True, max_size=2)
TTLS = st.sampled_from([None, 10.0, 1000.0])
WHICH = st.integers(0, 1)


class WholeCache(RuleBasedStateMachine):
    """Two caches on one store, one of them with a memory tier that confirms before every answer."""

    @initialize()
    def open(self) -> None:
        self.clock = ManualClock()
        self.store = DictBackend(clock=self.clock)
        self.caches = [self._open(0), self._open(1)]
        self.model: dict[tuple[str, str, Any], tuple[Any, float | None, list[str]]] = {}

    def _open(self, which: int) -> Cache:
        tiers: list[Any] = [self.store] if which else ["memory://?max_entries=3", self.store]
        return Cache(tiers, clock=self.clock, max_staleness=0, background=False, deadline="1h")

    def view(self, which: int, tenant: str, namespace: str) -> Cache:
        cache = self.caches[which]
        return (cache.tenant(tenant) if tenant else cache).namespace(namespace)

    def alive(self, place: tuple[str, str, Any]) -> Any:
        entry = self.model.get(place)
        if entry is None or (entry[1] is not None and self.clock.now() >= entry[1]):
            return MISSING
        return entry[0]

    def forget(self, tenant: str, namespace: str, concerned: Any) -> int:
        places = [
            place
            for place, entry in self.model.items()
            if place[:2] == (tenant, namespace) and self.alive(place) is not MISSING and concerned(place[2], entry[2])
        ]
        for place in places:
            del self.model[place]
        return len(places)

    @rule(which=WHICH, tenant=TENANTS, namespace=NAMESPACES, key=KEYS, value=VALUES, tags=TAGS, ttl=TTLS)
    def set(self, which: int, tenant: str, namespace: str, key: Any, value: Any, tags: list[str], ttl: Any) -> None:
        assert self.view(which, tenant, namespace).set(key, value, tags=tags, ttl=ttl)
        self.model[tenant, namespace, key] = (value, None if ttl is None else self.clock.now() + ttl, tags)

    @rule(which=WHICH, tenant=TENANTS, namespace=NAMESPACES, key=KEYS)
    def get(self, which: int, tenant: str, namespace: str, key: Any) -> None:
        got = self.view(which, tenant, namespace).get(key)
        wanted = self.alive((tenant, namespace, key))
        assert (got, type(got)) == (wanted, type(wanted))

    @rule(which=WHICH, tenant=TENANTS, namespace=NAMESPACES, key=KEYS, value=VALUES, tags=TAGS)
    def get_or_compute(self, which: int, tenant: str, namespace: str, key: Any, value: Any, tags: list[str]) -> None:
        got = self.view(which, tenant, namespace).get_or_compute(key, lambda: value, tags=tags)
        place = (tenant, namespace, key)
        wanted = self.alive(place)
        if wanted is MISSING:
            wanted = value
            self.model[place] = (value, None, tags)
        assert (got, type(got)) == (wanted, type(wanted))

    @rule(which=WHICH, tenant=TENANTS, namespace=NAMESPACES, key=KEYS)
    def delete(self, which: int, tenant: str, namespace: str, key: Any) -> None:
        place = (tenant, namespace, key)
        assert self.view(which, tenant, namespace).delete(key) is (self.alive(place) is not MISSING)
        self.model.pop(place, None)

    @rule(which=WHICH, tenant=TENANTS, namespace=NAMESPACES, tag=st.sampled_from(["t", "u"]), count=st.booleans())
    def invalidate_tag(self, which: int, tenant: str, namespace: str, tag: str, count: bool) -> None:
        answer = self.view(which, tenant, namespace).invalidate(tag=tag, count=count)
        expected = self.forget(tenant, namespace, lambda key, tags: tag in tags)
        assert answer == (expected if count else None)

    @rule(which=WHICH, tenant=TENANTS, namespace=NAMESPACES, pattern=st.sampled_from(["user:*", "?", "*"]))
    def invalidate_pattern(self, which: int, tenant: str, namespace: str, pattern: str) -> None:
        answer = self.view(which, tenant, namespace).invalidate(pattern=pattern, count=True)

        def concerned(key: Any, tags: list[str]) -> bool:
            return fnmatch.fnmatchcase(key.decode() if isinstance(key, bytes) else key, pattern)

        assert answer == self.forget(tenant, namespace, concerned)

    @rule(which=WHICH, tenant=TENANTS, namespace=NAMESPACES)
    def invalidate_namespace(self, which: int, tenant: str, namespace: str) -> None:
        self.view(which, tenant, namespace).invalidate(namespace=namespace)
        self.forget(tenant, namespace, lambda key, tags: True)

    @rule(seconds=st.sampled_from([1.0, 9.0, 600.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=WHICH)
    def restart(self, which: int) -> None:
        self.caches[which] = self._open(which)

    @invariant()
    def nothing_went_wrong(self) -> None:
        for cache in getattr(self, "caches", ()):
            assert cache.stats().errors == 0


WholeCache.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWholeCache = WholeCache.TestCase

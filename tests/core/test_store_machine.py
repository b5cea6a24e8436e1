"""Blobs, assets and the sweep against a plain model: whatever happens in whatever order, what is stored can be read."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentcache_core import MISSING, Cache
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.codec.serialize import dumps
from agentcache_core.runtime import Immediate, drive
from agentcache_core.space import Space
from agentcache_core.store import ledger as ledger_room
from agentcache_core.store import paging
from agentcache_core.store.blobs import GRACE, Blobs
from agentcache_core.store.entries import BlobRef, EntryRecord
from agentcache_core.store.ledger import Ledger, tenants
from agentcache_core.store.sweep import sweep
from agentcache_core.store.verify import verify
from agentcache_core.testing import DictBackend, ManualClock
from agentcache_core.testing.driving import Stepwise
from agentcache_core.verdicts import Verdicts

KEYS = st.sampled_from(["a", "b", "c"])
CONTENTS = st.integers(0, 3)
SECONDS = st.sampled_from([60.0, 3600.0, GRACE / 3, GRACE * 2])


def value(number: int) -> dict[str, Any]:
    return {"number": number, "text": f"answer {number} " * 20}


def content(number: int) -> bytes:
    """Assets that have most of their bytes in common, long enough to be cut and packed."""
    common = random.Random(0).randbytes(300_000)
    return b"%d" % number + common if number else b"short"


class Plain:
    """The plain verbs of a store: no touch, no batch, no range."""

    def __init__(self, inner: DictBackend) -> None:
        self.get, self.put, self.delete, self.scan = inner.get, inner.put, inner.delete, inner.scan
        self.close, self.capabilities = inner.close, inner.capabilities


class Storage(RuleBasedStateMachine):
    """Two caches on one store, one of them on its plain verbs only; a third writer that dawdles; sweepers, one of which
    is stopped between any two of its steps while everybody else goes on."""

    @initialize()
    def open(self) -> None:
        # So that a sweep of few entries has many steps, and an asset of few parts several levels of pages.
        self.smaller = [mock.patch.object(ledger_room, "BATCH", 1), mock.patch.object(paging, "MOST_ROWS", 4)]
        for patch in self.smaller:
            patch.start()
        self.clock = ManualClock()
        self.inner = DictBackend(clock=self.clock)
        self.caches = [self._open(self.inner), self._open(Plain(self.inner))]
        self.values: dict[str, int] = {}
        self.tagged: set[str] = set()
        self.assets: dict[str, int] = {}
        self.sweeper: Coroutine[Any, Any, None] | None = None
        self.dawdling: tuple[float, str, int, BlobRef] | None = None

    def _open(self, backend: Any) -> Cache:
        return Cache(backend, clock=self.clock, inline_max=64, background=False, maintenance="manual", deadline="1h")

    @rule(which=st.integers(0, 1), key=KEYS, number=CONTENTS, tagged=st.booleans())
    def set(self, which: int, key: str, number: int, tagged: bool = False) -> None:
        assert self.caches[which].set(key, value(number), tags=["t"] if tagged else [])
        self.values[key] = number
        (self.tagged.add if tagged else self.tagged.discard)(key)

    @rule(which=st.integers(0, 1))
    def invalidate_the_tag(self, which: int) -> None:
        self.caches[which].invalidate(tag="t")
        self.values = {key: number for key, number in self.values.items() if key not in self.tagged}

    @rule(which=st.integers(0, 1))
    def invalidate_a_pattern(self, which: int) -> None:
        self.caches[which].invalidate(pattern="[ab]")
        self.values = {key: number for key, number in self.values.items() if key == "c"}
        self.assets = {key: number for key, number in self.assets.items() if key == "c"}

    @rule(which=st.integers(0, 1), key=KEYS)
    def delete(self, which: int, key: str) -> None:
        self.caches[which].delete(key)
        self.values.pop(key, None)

    @rule(which=st.integers(0, 1), key=KEYS, number=CONTENTS)
    def put_asset(self, which: int, key: str, number: int) -> None:
        assert self.caches[which].put_asset(key, content(number)).stored
        self.assets[key] = number

    @rule(which=st.integers(0, 1))
    def invalidate_everything(self, which: int) -> None:
        self.caches[which].invalidate(namespace="")
        self.values.clear()
        self.assets.clear()

    @rule(number=CONTENTS, key=KEYS)
    @precondition(lambda self: self.dawdling is None)
    def begin_writing(self, number: int, key: str) -> None:
        """A writer has placed its blob and not yet its entry."""
        digits = drive(tenants(Immediate(self.inner)))
        if digits:
            blobs = Blobs(Immediate(self.inner), Pipeline(), digits[0] + b"/x/")
            placed = drive(blobs.put(dumps(value(number)), now=self.clock.now()))
            self.dawdling = (self.clock.now(), key, number, placed.ref)

    @rule()
    @precondition(lambda self: self.dawdling is not None)
    def finish_writing(self) -> None:
        """It writes the entry within the grace age, relying on its blob being there."""
        assert self.dawdling is not None
        began, key, number, ref = self.dawdling
        self.dawdling = None
        if self.clock.now() - began < GRACE / 2:
            digits = drive(tenants(Immediate(self.inner)))[0]
            blobs = Blobs(Immediate(self.inner), Pipeline(), digits + b"/x/")
            assert drive(blobs.get(ref)) == dumps(value(number))
            self.set(0, key, number)

    @rule(most=st.sampled_from([2, 1000]))
    def sweep(self, most: int) -> None:
        for digits in drive(tenants(Immediate(self.inner))):
            ledger = Ledger(Immediate(self.inner), Pipeline(), digits)
            report = drive(sweep(ledger, now=self.clock.now(), max_marks=most))
            assert (report.missing, report.corrupt, report.unreadable) == (0, 0, 0)

    @rule(plain=st.booleans())
    @precondition(lambda self: self.sweeper is None)
    def begin_a_slow_sweep(self, plain: bool) -> None:
        self.sweeper = self._sweeping(Stepwise(Plain(self.inner) if plain else self.inner))

    async def _sweeping(self, store: Any) -> None:
        space = Space("", "", None)
        judged = Verdicts(store, space, Pipeline())
        await sweep(Ledger(store, Pipeline(), space.tenant_prefix), now=self.clock.now(), dead=judged.dead)

    @rule(steps=st.integers(1, 12))
    @precondition(lambda self: self.sweeper is not None)
    def the_slow_sweep_goes_on(self, steps: int) -> None:
        assert self.sweeper is not None
        try:
            for _ in range(steps):
                self.sweeper.send(None)
        except StopIteration:
            self.sweeper = None

    @rule(which=st.integers(0, 1))
    def maintain(self, which: int) -> None:
        assert self.caches[which].maintain().trouble == {}

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.caches[which] = self._open(Plain(self.inner) if which else self.inner)

    @invariant()
    def what_is_stored_can_be_read(self) -> None:
        for cache in getattr(self, "caches", ()):
            for key in ("a", "b", "c"):
                number = self.values.get(key)
                assert cache.get(key) == (MISSING if number is None else value(number))
            for key, number in self.assets.items():
                assert cache.open_asset(key).read() == content(number)

    def teardown(self) -> None:
        if not hasattr(self, "inner"):
            return
        for patch in self.smaller:
            patch.stop()
        if self.sweeper is not None:
            self.sweeper.close()
        for digits in drive(tenants(Immediate(self.inner))):
            ledger = Ledger(Immediate(self.inner), Pipeline(), digits)
            self.caches[0].maintain()
            assert drive(verify(ledger)).damaged == 0
            self.clock.advance(10 * GRACE)
            self.caches[0].maintain()
            named = {ref.digest for ref in self._named(ledger)}
            stored = {stat.name[19:] for stat in self.inner.scan(digits + b"/x/")}
            assert stored == named, "after long enough nothing is left that nothing names"

    def _named(self, ledger: Ledger) -> list[BlobRef]:
        async def collect() -> list[BlobRef]:
            found: list[BlobRef] = []
            async for line in ledger.lines():
                assert isinstance(line.record, EntryRecord)
                found += [ref async for ref in ledger.references(line.record)]
            return found

        return drive(collect())


Storage.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestStorage = Storage.TestCase

"""Two caches, a shared authority and a shared middle tier, over a network that loses and reorders every message.

Calls of both caches overlap in any way. No stale answer after the bound, no durable write lost, nothing torn, what was
removed or invalidated does not come back, and no caller fails.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any, Literal
from unittest import mock

import pytest
from hypothesis import Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agentcache_core import MISSING, AsyncCache, tiering
from agentcache_core.authority import StoredAuthority
from agentcache_core.clock import ManualClock
from agentcache_core.errors import NotWritten
from agentcache_core.following import Follower
from agentcache_core.pending import Pending
from agentcache_core.placing import Answer, Placing
from agentcache_core.runtime import ASYNC
from agentcache_core.testing import DictBackend
from agentcache_core.testing.network import FATES, Fate, Linked, Network

KEYS = ("a", "b")
KINDS = ("set", "compute", "delete", "invalidate", "follow", "wait")
"""What a history consists of beside look-ups. Each leaves some out: what goes wrong between two is rare among six."""
WHICH = st.integers(0, 1)
KEY = st.integers(0, 1)
AT_ONCE = 4


class Store(DictBackend):
    """A store without leases: waiting for one would need time that passes by itself."""

    acquire = None  # type: ignore[assignment]  # as if it had none


@dataclass(slots=True, eq=False)
class Deed:
    """One call that may change something, with its beginning and end in steps, and the time of its end."""

    kind: Literal["write", "computed", "removal"]
    which: int
    keys: tuple[str, ...]
    begun: int
    tag: bool = False
    durable: bool = False
    end: float = float("inf")
    """When it returned, acknowledged or not."""
    done: bool = False
    """Whether it was acknowledged."""
    at: float = 0.0
    open: bool = True
    """Whether its effect may still be on its way, as that of a journalled invalidation is."""
    closed: float = float("inf")
    """When it was no longer so."""


@dataclass(slots=True, eq=False)
class Call:
    """A call under way."""

    task: asyncio.Task[Any]
    which: int
    begun: int
    at: float
    errors: int
    deed: Deed | None = None
    key: str = ""


def may(kind: str) -> Callable[[Any], bool]:
    """Whether a machine may begin one more call of a kind."""
    return lambda machine: len(machine.calls) < AT_ONCE and (kind == "get" or kind in machine.kinds)


class Interleaved(RuleBasedStateMachine):
    @initialize(
        staleness=st.sampled_from([0, 5]),
        near=st.booleans(),
        middle=st.booleans(),
        kinds=st.frozensets(st.sampled_from(KINDS), min_size=1),
        keys=st.sampled_from([KEYS, KEYS[:1]]),
    )
    def open(self, **how: Any) -> None:
        self._open(**how)

    def _open(self, *, staleness: int, near: bool, middle: bool, kinds: Set[str], keys: tuple[str, ...]) -> None:
        self.kinds, self.keys = kinds, keys
        self.clock = ManualClock()
        self.network = Network()
        self.staleness = staleness
        self.step = 0
        self.deeds: list[Deed] = []
        self.calls: list[Call] = []
        self.gates: list[asyncio.Future[None]] = []
        stores = [Store(clock=self.clock) for _ in range(1 + middle)]
        stores[-1]._log_length = 2
        self.caches: list[AsyncCache] = []
        self.followers: list[Follower] = []
        for _ in range(2):
            tiers: list[Any] = [Linked(store, self.network) for store in stores]
            cache = AsyncCache(
                ["memory://"] * near + tiers,
                clock=self.clock,
                max_staleness=staleness,
                background=False,
                maintenance="manual",
                deadline="1h",
                inline_max=200,
            )
            follower = Follower(cache._core.tiers, enabled=True)
            follower._stop = lambda: None  # it follows when the machine says so
            cache._core.tiers.follower = follower
            self.followers.append(follower)
            self.caches.append(cache)

    def teardown(self) -> None:
        if hasattr(self, "network"):
            self.network.close()

    # What is asked

    def _begin(self, which: int, body: Any, deed: Deed | None = None, key: str = "") -> None:
        self.step += 1
        if deed is not None:
            deed.begun = self.step
            self.deeds.append(deed)
        cache = self.caches[which]
        for tier in cache._core.tiers.stored:
            tier.circuit.after_fork()  # a breaker would hide what lies behind it
        call = Call(self.network.start(body), which, self.step, self.clock.monotonic(), cache.stats().errors, deed, key)
        self.calls.append(call)
        self._look()

    def _key(self, number: int) -> str:
        return self.keys[number % len(self.keys)]

    def _value(self, deed: Deed, large: bool) -> dict[str, Any]:
        return {"key": deed.keys[0], "deed": len(self.deeds), "fill": "x" * (300 if large else 3)}

    @precondition(may("set"))
    @rule(which=WHICH, key=KEY, tag=st.booleans(), durable=st.booleans(), large=st.booleans())
    def store(self, which: int, key: int, tag: bool, durable: bool, large: bool) -> None:
        deed = Deed("write", which, (self._key(key),), 0, tag=tag, durable=durable)
        value = self._value(deed, large)
        self._begin(which, self.caches[which].set(self._key(key), value, tags=["t"] * tag, durable=durable), deed)

    @precondition(may("get"))
    @rule(which=WHICH, key=KEY)
    def look_up(self, which: int, key: int) -> None:
        self._begin(which, self.caches[which].get(self._key(key)), key=self._key(key))

    @precondition(may("compute"))
    @rule(which=WHICH, key=KEY, tag=st.booleans())
    def compute(self, which: int, key: int, tag: bool) -> None:
        named = self._key(key)
        deed = Deed("computed", which, (named,), 0, tag=tag)
        value = self._value(deed, large=False)

        async def computed() -> Any:
            deed.begun = self.step
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            await gate
            return value

        self._begin(which, self.caches[which].get_or_compute(named, computed, tags=["t"] * tag), deed, named)

    @precondition(lambda self: any(not gate.done() for gate in self.gates))
    @rule(place=st.integers(0, 3))
    def end_a_computation(self, place: int) -> None:
        open_gates = [gate for gate in self.gates if not gate.done()]
        open_gates[place % len(open_gates)].set_result(None)
        self.network.settle()
        self._look()

    @precondition(may("delete"))
    @rule(which=WHICH, key=KEY)
    def delete(self, which: int, key: int) -> None:
        named = self._key(key)
        self._begin(which, self.caches[which].delete(named), Deed("removal", which, (named,), 0))

    @precondition(may("invalidate"))
    @rule(which=WHICH)
    def invalidate(self, which: int) -> None:
        self._begin(which, self.caches[which].invalidate(tag="t"), Deed("removal", which, KEYS, 0, tag=True))

    @precondition(lambda self: may("follow")(self) and any(follower._seen for follower in self.followers))
    @rule(which=WHICH)
    def follow(self, which: int) -> None:
        self._begin(which, self.followers[which].step(ASYNC))

    @precondition(lambda self: "wait" in self.kinds)
    @rule(seconds=st.sampled_from([1, 3, 6]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # What becomes of it

    @precondition(lambda self: self.network.in_flight)
    @rule(place=st.integers(0, 7), fate=st.sampled_from(FATES))
    def one_message(self, place: int, fate: Fate) -> None:
        self.network.deliver(place % len(self.network.in_flight), fate)
        self._look()

    @precondition(lambda self: self.network.in_flight)
    @rule(count=st.integers(1, 12))
    def some_messages(self, count: int) -> None:
        for _ in range(count):
            if self.network.in_flight:
                self.network.deliver(0)
                self._look()

    @precondition(lambda self: self.network.in_flight)
    @rule()
    def nothing_in_flight(self) -> None:
        self.network.calm()
        self._look()

    # What must hold

    @invariant()
    def nothing_waits_without_a_message(self) -> None:
        waiting = [call for call in getattr(self, "calls", []) if not call.task.done()]
        assert not waiting or self.network.in_flight or any(not gate.done() for gate in self.gates)

    def _look(self) -> None:
        """Take note of the calls that have come to an end, and hold their answers against the laws."""
        self.step += 1
        for call in [call for call in self.calls if call.task.done()]:
            self.calls.remove(call)
            self._ended(call)
        for which, cache in enumerate(self.caches):
            if not cache.stats().further["pending_invalidations"]:
                for deed in self.deeds:
                    if deed.which == which and deed.end < float("inf") and deed.open:
                        deed.open, deed.closed = False, self.step

    def _ended(self, call: Call) -> None:
        deed, cache = call.deed, self.caches[call.which]
        try:
            answer = call.task.result()
        except NotWritten:
            assert deed is not None
            assert deed.durable
            answer = False
        if deed is not None:
            deed.end, deed.at = self.step, self.clock.monotonic()
            if deed.kind == "removal":
                deed.done = not cache.stats().further["pending_invalidations"]
            elif deed.kind == "write":
                deed.done = answer is True
        if call.key and not (deed is not None and answer is not MISSING and answer["deed"] == self.deeds.index(deed)):
            trouble = cache.stats().errors != call.errors
            self._hold(call, answer, trouble)

    def _hold(self, call: Call, answer: Any, trouble: bool) -> None:
        key = call.key
        if answer is MISSING:
            assert trouble or not self._durable(key, call), "a durable write is lost"
            return
        written = self.deeds[answer["deed"]]
        assert written.keys == (key,)
        assert answer == {"key": key, "deed": answer["deed"], "fill": answer["fill"]}
        assert answer["fill"] in ("x" * 3, "x" * 300)
        for deed in self.deeds:
            if deed is written or key not in deed.keys or not deed.done or deed.end >= call.begun:
                continue
            if deed.kind == "removal" and deed.tag and not written.tag:
                continue
            at_once = deed.which == call.which or self.staleness == 0
            if not at_once and call.at - deed.at <= self.staleness:
                continue
            before = written.end < deed.begun or (
                written.kind == "computed" and deed.kind == "removal" and written.begun < deed.begun
            )
            assert not before, f"{answer} of {written} is served to {call} after {deed}"

    def _durable(self, key: str, call: Call) -> Deed | None:
        """A durable write that must still be there."""
        for written in self.deeds:
            if not (written.kind == "write" and written.keys == (key,) and written.durable and written.done):
                continue
            if written.end >= call.begun:
                continue
            # What was written over it, or may have been, can be removed in its place.
            last = [
                deed for deed in self.deeds if deed.kind != "removal" and key in deed.keys and deed.end > written.begun
            ]
            removed = any(
                deed.kind == "removal"
                and key in deed.keys
                and deed.closed > written.begun
                and (not deed.tag or any(other.tag for other in last))
                for deed in self.deeds
            )
            if not removed:
                return written
        return None


TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(
    max_examples=250 * int(os.environ.get("AGENTCACHE_FUZZ", "1")),
    stateful_step_count=60,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # to shrink what is wrong takes many minutes: take it out to look for the shortest history
    print_blob=False,
)


# What the machine is worth: each of these broken rules it must notice, in the kind of history that shows it.


async def _missed_is_forgotten(self: Pending, *what: Any) -> None:
    """What a tier did not take is not remembered."""


_write, _observe, _write_authority = Placing.write, StoredAuthority.observe, Placing._write_authority


async def _acknowledged_unseen(self: Placing, *what: Any, **how: Any) -> Answer:
    """A write that the authority did not take is acknowledged."""
    answer = await _write(self, *what, **how)
    return answer if answer.trouble is None else Answer(True)


async def _late_answers_replace(self: Placing, *what: Any, **how: Any) -> Answer:
    """A computed answer replaces what was written or removed after its computation began."""
    return await _write_authority(self, *what, **{**how, "computed": False})


def _trusted_for_ever(self: StoredAuthority, found: Any) -> None:
    """Near copies are confirmed once and for all."""
    _observe(self, found)
    self.space.trusted_until = float("inf")


def _servable(record: Any, space: Any) -> Literal["servable"]:
    """Whatever is invalidated may be served."""
    return "servable"


BROKEN: dict[str, tuple[Any, str, Any, dict[str, Any]]] = {
    "generations are ignored": (tiering, "verdict", _servable, {"kinds": {"set", "invalidate"}}),
    "missed deletes are forgotten": (
        Pending,
        "missed",
        _missed_is_forgotten,
        {"middle": True, "kinds": {"set"}, "first": 4},
    ),
    "a durable write is acknowledged too early": (Placing, "write", _acknowledged_unseen, {"kinds": {"set"}}),
    "a late answer replaces a newer one": (
        Placing,
        "_write_authority",
        _late_answers_replace,
        {"kinds": {"compute", "delete"}},
    ),
    "near copies are trusted for ever": (
        StoredAuthority,
        "observe",
        _trusted_for_ever,
        {"near": True, "staleness": 5, "kinds": {"set", "wait"}},
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_machine_notices_when(broken: str) -> None:
    where, name, instead, history = BROKEN[broken]
    history = dict(history)
    first = history.pop("first", 1)  # where the search begins: where it soon finds what it looks for
    usual = {"staleness": 0, "near": False, "middle": False, "keys": KEYS[:1]}

    class Narrow(Interleaved):
        @initialize()
        def open(self) -> None:
            self._open(**{**usual, **history})

    once = settings(
        max_examples=2000,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        print_blob=False,
    )
    with mock.patch.object(where, name, instead), pytest.raises(AssertionError, match=r"is served to|is lost"):
        run_state_machine_as_test(seed(first)(Narrow), settings=once)


@pytest.mark.parametrize("how", ["delete", "tag", "pattern", "namespace"])
def test_what_a_look_up_reads_while_it_is_invalidated_is_not_kept_in_memory(how: str) -> None:
    network = Network()
    cache = AsyncCache(
        ["memory://", Linked(DictBackend(), network)], background=False, maintenance="manual", deadline="1h"
    )

    def done(call: Any) -> Any:
        task = network.start(call)
        network.calm()
        return task.result()

    assert done(cache.set("a", "old", tags=["t"]))
    cache._core.tiers.drop_near(cache._space)
    selectors: dict[str, Any] = {"tag": {"tag": "t"}, "pattern": {"pattern": "a*"}, "namespace": {"namespace": ""}}
    removal = network.start(cache.delete("a") if how == "delete" else cache.invalidate(**selectors[how]))
    look = network.start(cache.get("a"))
    while not look.done():
        network.deliver(len(network.in_flight) - 1)  # nothing of the removal arrives before it is answered
    assert look.result() == "old"
    network.calm()
    assert removal.done()
    assert done(cache.get("a")) is MISSING
    network.close()


def _pair(network: Network, **how: Any) -> tuple[AsyncCache, AsyncCache]:
    store = Store()
    one, two = (
        AsyncCache([Linked(store, network)], background=False, maintenance="manual", deadline="1h", **how)
        for _ in range(2)
    )
    return one, two


def _done(network: Network, call: Any) -> Any:
    task = network.start(call)
    network.calm()
    return task.result()


def test_an_answer_computed_before_a_removal_replaces_nothing_that_was_written_after_it() -> None:
    network = Network()
    one, two = _pair(network, max_staleness=0)
    assert _done(network, one.set("other", "there is a generation"))
    gate = network.loop.create_future()

    async def computed() -> str:
        await gate
        return "computed before"

    computing = network.start(one.get_or_compute("a", computed))
    network.calm()
    writing = network.start(two.set("a", "written after"))
    while network.in_flight[0].verb != "put":
        network.deliver(0)
    removal = network.start(two.delete("a"))
    while not removal.done():
        network.deliver(1)  # the write, which began before, arrives after it
    network.calm()
    assert writing.result()
    gate.set_result(None)
    network.settle()
    network.calm()
    assert computing.result() == "computed before"
    assert _done(network, two.get("a")) == "written after"
    network.close()


@pytest.mark.parametrize("staleness", [0, 5])
def test_a_computation_that_began_without_the_authority_is_joined_no_longer_than_the_bound(staleness: int) -> None:
    network, clock, calls = Network(), ManualClock(), []
    one, _ = _pair(network, max_staleness=staleness, clock=clock)
    gates = [network.loop.create_future() for _ in range(3)]

    async def computed() -> int:
        calls.append(len(calls))
        mine = calls[-1]
        await gates[mine]
        return mine

    def begun() -> asyncio.Task[Any]:
        task = network.start(one.get_or_compute("a", computed))
        while network.in_flight:
            network.deliver(0, "lost")
        return task

    first, second = begun(), begun()
    assert len(calls) == (2 if staleness == 0 else 1)
    clock.advance(staleness + 1)
    third = begun()
    assert len(calls) == (3 if staleness == 0 else 2)
    for gate in gates:
        gate.set_result(None)
    network.settle()
    while network.in_flight:
        network.deliver(0, "lost")
    assert [task.result() for task in (first, second, third)] == ([0, 1, 2] if staleness == 0 else [0, 0, 1])
    network.close()

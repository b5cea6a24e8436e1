"""The wall between tenants: no figure, event or timing of one tells another anything about it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import Cache
from agentcache_core.errors import ConfigurationError
from agentcache_core.testing import DictBackend, FaultyBackend

LARGE = "a large answer, " * 4000


@pytest.fixture(params=["memory", "memory and sqlite", "sqlite"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    url = f"sqlite:///{tmp_path}/cache.db"
    tiers = {
        "memory": ["memory://"],
        "sqlite": [url],
        "memory and sqlite": ["memory://", url],
    }
    return Cache(tiers[request.param], background=False, maintenance="manual")


def _use(view: Cache) -> None:
    """A little of everything that leaves a trace in figures and events."""
    view.set("k", LARGE)
    view.get("k")
    view.get("absent")
    for number in range(50):
        view.set(f"k{number}", number)
    view.get_or_compute("computed", lambda: 1)
    view.put_asset("asset", LARGE.encode())
    view.invalidate(tag="t")
    view.delete("k")


def test_what_one_tenant_does_changes_no_figure_of_another(cache: Cache) -> None:
    one, other = cache.tenant("one"), cache.tenant("other")
    other.set("mine", 1)
    other.get("mine")
    before = other.stats()
    _use(one)
    after = other.stats()
    assert {
        field.name: (getattr(before, field.name), getattr(after, field.name))
        for field in dataclasses.fields(before)
        if getattr(before, field.name) != getattr(after, field.name)
    } == {}
    operator = cache.stats().tiers[0]
    assert operator.entries is None or operator.entries > 1


def test_a_tenant_sees_figures_of_its_own(cache: Cache) -> None:
    one = cache.tenant("one")
    one.set("k", 1)
    one.namespace("n").set("k", 1)
    fresh = cache.tenant("one")
    for tier in fresh.stats().tiers:
        assert tier.entries == (2 if tier.name == "memory" else None)
        assert (tier.size_bytes, tier.evictions) == (None, None)
    stored = [tier for tier in fresh.stats().tiers if tier.name != "memory"]
    for tier in stored:
        assert tier.hits == 0
        assert tier.errors == 0


def test_hits_and_errors_on_a_tier_are_told_to_the_tenant_that_had_them() -> None:
    store = FaultyBackend(DictBackend())
    cache = Cache(store, background=False)
    one, other = cache.tenant("one"), cache.tenant("other")
    one.set("k", 1)
    one.get("k")
    one.get_many(["k", "k"])
    store.fail(times=1)
    one.get("k")
    (mine,), (theirs,), (all_of_them,) = (view.stats().tiers for view in (one, other, cache))
    assert (mine.hits, mine.errors) == (3, 1)
    assert (theirs.hits, theirs.errors) == (0, 0)
    assert (all_of_them.hits, all_of_them.errors) == (3, 1)


def test_invalidations_that_wait_are_counted_for_their_own_tenant() -> None:
    store = FaultyBackend(DictBackend())
    cache = Cache(store, background=False)
    one, other = cache.tenant("one"), cache.tenant("other")
    store.fail()
    one.invalidate(tag="t")
    counts = [view.stats().further["pending_invalidations"] for view in (one, other, cache)]
    assert counts == [1, 0, 1]


def test_a_tenant_hears_its_own_events_and_the_operator_all(cache: Cache) -> None:
    one, other = cache.tenant("one"), cache.tenant("other").namespace("n")
    heard: dict[str, list[Any]] = {"one": [], "other": [], "all": []}
    one.events.subscribe(heard["one"].append)
    other.events.subscribe(heard["other"].append)
    stop = cache.events.subscribe(heard["all"].append)
    _use(one)
    assert {event.tenant for event in heard["one"]} == {"one"}
    assert heard["other"] == []
    assert [event for event in heard["all"] if event.tenant == "one"] == heard["one"]
    other.set("k", 1)
    other.events.tell("not_stored", reason="an adapter's word")
    assert {(event.tenant, event.namespace) for event in heard["other"]} == {("other", "n")}
    stop()
    count = len(heard["all"])
    other.set("k", 2)
    assert len(heard["all"]) == count
    with pytest.raises(ConfigurationError):
        one.events.subscribe(3)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "ask",
    [
        lambda view: view.set("k", LARGE),
        lambda view: view.get("k"),
        lambda view: view.set_many([("k", LARGE), ("j", LARGE + "!")]),
        lambda view: view.put_asset("a", LARGE.encode()),
        lambda view: view.get_or_compute("k", lambda: LARGE),
        lambda view: view.delete("k"),
        lambda view: view.invalidate(tag="t"),
        lambda view: view.keys(),
    ],
    ids=["set", "get", "set_many", "put_asset", "get_or_compute", "delete", "invalidate", "keys"],
)
def test_what_another_tenant_holds_makes_nothing_quicker(ask: Callable[[Cache], Any]) -> None:
    """The same requests to the store, in the same order, whether or not another tenant has the same content."""

    def requests_of(before: Callable[[Cache], Any]) -> tuple[Any, Counter[str]]:
        store = FaultyBackend(DictBackend())
        cache = Cache(store, background=False, maintenance="manual", secret="s")
        before(cache.tenant("one"))
        store.calls.clear()
        return ask(cache.tenant("other")), Counter(store.calls)

    alone = requests_of(lambda view: None)
    assert alone == requests_of(_use)
    assert alone == requests_of(ask)

"""Invalidation by every selector, the race with a computation, and what one process hears of another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentcache_core import MISSING, Cache
from agentcache_core.authority import MAX_BANS
from agentcache_core.clock import ManualClock
from agentcache_core.errors import CorruptFrame, NotWritten
from agentcache_core.records import decode_generation, encode_generation
from agentcache_core.space import Generation
from agentcache_core.testing import DictBackend, FaultyBackend

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(params=["memory", "sqlite", "both"])
def tiers(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    url = f"sqlite:///{tmp_path}/cache.db"
    return {"memory": ["memory://"], "sqlite": [url], "both": ["memory://", url]}[request.param]


def test_a_tag_takes_all_its_entries_and_no_other(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        cache.set("a", 1, tags=["x", "y"])
        cache.set(CHAT, 2, tags=["y"])
        cache.set("c", 3, tags=["z"])
        assert cache.invalidate(tag="y") is None
        assert cache.get_many(["a", CHAT, "c"]) == [MISSING, MISSING, 3]
        cache.set("a", 4, tags=["y"])
        assert cache.get("a") == 4


def test_a_source_is_a_tag_of_its_own(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        cache.set("a", 1, sources=["https://example.org/doc"])
        cache.set("b", 2, tags=["https://example.org/doc"])
        assert cache.invalidate(source="https://example.org/doc", count=True) == 1
        assert cache.get_many(["a", "b"]) == [MISSING, 2]


def test_a_pattern_takes_plain_keys_that_match_and_no_request(tiers: list[str]) -> None:
    with Cache(tiers) as cache:
        for key in ("user:1", "user:2", "User:3", b"user:4", "x"):
            cache.set(key, 1)
        cache.set(CHAT, 1)
        assert cache.invalidate(pattern="user:?", count=True) == 3
        assert cache.get_many(["user:1", "user:2", "User:3", b"user:4", "x", CHAT]) == [
            MISSING,
            MISSING,
            1,
            MISSING,
            1,
            1,
        ]
        cache.set("user:1", 2)
        assert cache.get("user:1") == 2


def test_a_namespace_is_emptied_and_its_neighbour_is_not(tiers: list[str]) -> None:
    with Cache(tiers, namespace="n") as cache:
        cache.set("a", 1)
        cache.set(CHAT, 1)
        cache.namespace("other").set("a", 2)
        assert cache.invalidate(namespace="n", count=True) == 2
        assert cache.get_many(["a", CHAT]) == [MISSING, MISSING]
        assert cache.namespace("other").get("a") == 2


def test_many_bans_become_a_new_lineage(tmp_path: Path) -> None:
    with Cache(f"sqlite:///{tmp_path}/cache.db") as cache:
        cache.set("a", 1)
        for number in range(MAX_BANS + 1):
            cache.invalidate(pattern=f"nothing-{number}")
        assert cache.get("a") is MISSING  # a ban list is never grown without bound; the namespace starts anew
        cache.set("a", 2)
        assert cache.get("a") == 2


SELECTORS: list[tuple[str, Callable[[Cache], Any]]] = [
    ("tag", lambda cache: cache.invalidate(tag="t")),
    ("source", lambda cache: cache.invalidate(source="s")),
    ("pattern", lambda cache: cache.invalidate(pattern="k*")),
    ("namespace", lambda cache: cache.invalidate(namespace="")),
    ("request", lambda cache: cache.delete("k")),
]


@pytest.mark.parametrize(("name", "invalidate"), SELECTORS, ids=[name for name, _ in SELECTORS])
def test_an_answer_whose_computation_began_before_an_invalidation_is_not_served_after_it(
    tiers: list[str], name: str, invalidate: Callable[[Cache], Any]
) -> None:
    with Cache(tiers) as cache:

        def compute() -> str:
            invalidate(cache)
            return "outdated"

        assert cache.get_or_compute("k", compute, tags=["t"], sources=["s"]) == "outdated"
        assert cache.get("k") is MISSING
        assert cache.get_or_compute("k", lambda: "new", tags=["t"], sources=["s"]) == "new"
        assert cache.get("k") == "new"


@pytest.mark.parametrize(("name", "invalidate"), SELECTORS, ids=[name for name, _ in SELECTORS])
def test_the_race_is_closed_between_processes_too(
    tmp_path: Path, name: str, invalidate: Callable[[Cache], Any]
) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(["memory://", url], max_staleness=0) as mine, Cache(url) as other:

        def compute() -> str:
            invalidate(other)
            return "outdated"

        assert mine.get_or_compute("k", compute, tags=["t"], sources=["s"]) == "outdated"
        assert other.get("k") is MISSING
        assert mine.get("k") is MISSING


def test_an_unrelated_invalidation_does_not_hinder_storing(tiers: list[str]) -> None:
    with Cache(tiers) as cache:

        def compute() -> str:
            cache.invalidate(tag="unrelated")
            cache.invalidate(pattern="other*")
            cache.set("z", 1)
            cache.delete("z")
            return "kept"

        cache.get_or_compute("k", compute, tags=["t"])
        assert cache.get("k") == "kept"


def test_tags_that_only_the_computation_knew_are_held_against_invalidations_meanwhile(tiers: list[str]) -> None:
    from agentcache_core import Computed

    with Cache(tiers) as cache:

        def compute() -> Computed:
            cache.invalidate(tag="late")
            return Computed("x", tags=("late",))

        cache.get_or_compute("k", compute)
        assert cache.get("k") is MISSING
        cache.get_or_compute("k", lambda: Computed("y", tags=("late",)))
        assert cache.get("k") == "y"
        cache.invalidate(tag="late")
        assert cache.get("k") is MISSING


@pytest.mark.parametrize(("name", "invalidate"), SELECTORS, ids=[name for name, _ in SELECTORS])
def test_a_near_copy_outlives_another_process_change_by_at_most_max_staleness(
    tmp_path: Path, name: str, invalidate: Callable[[Cache], Any]
) -> None:
    url, clock = f"sqlite:///{tmp_path}/cache.db", ManualClock()
    with Cache(["memory://", url], clock=clock, max_staleness="5s") as near, Cache(url, clock=clock) as other:
        near.set("k", 1, tags=["t"], sources=["s"])
        assert near.get("k") == 1
        invalidate(other)
        clock.advance(5.01)
        assert near.get("k") is MISSING


def test_an_overwrite_elsewhere_reaches_near_copies_within_max_staleness(tmp_path: Path) -> None:
    url, clock = f"sqlite:///{tmp_path}/cache.db", ManualClock()
    with Cache(["memory://", url], clock=clock) as near, Cache(url, clock=clock) as other:
        near.set("k", 1)
        near.set("j", 1)
        other.set("k", 2)
        clock.advance(5.01)
        assert near.get("k") == 2
        assert near.get("j") == 1


def test_near_copies_are_not_served_while_the_authority_cannot_be_asked() -> None:
    store, clock = FaultyBackend(DictBackend()), ManualClock()
    with Cache(["memory://", store], clock=clock) as cache:
        cache.set("k", 1)
        assert cache.get("k") == 1
        store.fail()
        assert cache.get("k") == 1
        clock.advance(5.01)
        assert cache.get("k") is MISSING
        store.heal()
        clock.advance(60)
        assert cache.get("k") == 1


def test_an_invalidation_the_authority_cannot_record_is_applied_here_journalled_and_retried() -> None:
    store, clock = FaultyBackend(DictBackend()), ManualClock()
    events: list[str] = []
    with Cache(["memory://", store], clock=clock) as cache:
        cache.events.subscribe(lambda event: events.append(event.name))
        cache.set("k", 1, tags=["t"])
        store.fail()
        cache.invalidate(tag="t")
        assert cache.get("k") is MISSING
        assert cache.stats().further["pending_invalidations"] == 1
        assert "pending" in events
        store.heal()
        clock.advance(60)
        assert cache.get("k") is MISSING
        assert cache.stats().further["pending_invalidations"] == 0


def test_a_strict_cache_raises_when_a_write_or_invalidation_is_not_taken() -> None:
    store = FaultyBackend(DictBackend())
    with Cache(store, strict=True) as cache:
        store.fail()
        with pytest.raises(NotWritten):
            cache.set("k", 1)
        with pytest.raises(NotWritten):
            cache.invalidate(tag="t")
        store.heal()
    store = FaultyBackend(DictBackend())
    with Cache(store) as cache:
        store.fail()
        assert cache.set("k", 1) is False
        with pytest.raises(NotWritten):
            cache.set("k", 1, durable=True)


def test_a_flushed_store_never_brings_invalidated_entries_back() -> None:
    store = DictBackend()
    with Cache(store) as cache:
        cache.set("k", 1, tags=["t"])
        name = cache._space.entry_name(cache.key("k"))
        kept = store.get(name)
        cache.invalidate(tag="t")
        for stat in list(store.scan(b"")):
            store.delete(stat.name)
        assert kept
        store.put(name, kept.data)
        assert cache.get("k") is MISSING
        cache.set("other", 1, tags=["t"])
        assert cache.get("k") is MISSING


def test_generation_records_are_checked() -> None:
    generation = Generation(b"l" * 16, 3, 2, 1, 0)
    record = encode_generation(generation)
    assert decode_generation(record) == generation
    for broken in (b"", record[:-1], record[:-1] + b"x", b"XXX" + record[3:]):
        with pytest.raises(CorruptFrame):
            decode_generation(broken)


def test_an_answer_that_another_process_outran_is_not_kept_in_memory_by_one_that_knows() -> None:
    store = DictBackend()
    here, there = (Cache(["memory://", store], max_staleness=0, background=False, deadline="1h") for _ in range(2))
    there.set("b", 1, tags=["t"])

    def computed() -> int:
        there.invalidate(tag="t")
        assert here.get("b") is MISSING  # by which this process learns of the invalidation, and drops its copies
        return 1

    assert here.get_or_compute("a", computed, tags=["t"]) == 1
    assert here.get("a") is MISSING

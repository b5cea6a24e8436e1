"""Tiers between memory and the authority: what they missed is not served, and they heal by what is read again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from agentcache_core import MISSING, Cache, Tier, pending
from agentcache_core.errors import BackendUnavailable
from agentcache_core.model import Cost
from agentcache_core.testing import DictBackend, FaultyBackend
from agentcache_core.wrapping import Around

DEAR = Cost(usd_micros=10_000, seconds=3.0)
"""The cost of an answer that a middle tier takes at its first read."""


class Between(Around):
    """A backend around a backend that calls `before[verb](name)`, and `after`, around the verbs a test asks for."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.before: dict[str, Callable[[bytes], None]] = {}
        self.after: dict[str, Callable[[bytes], None]] = {}

    def run(self, verb: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        name = args[0] if args and isinstance(args[0], bytes) else b""
        if verb in self.before:
            self.before[verb](name)
        answer = call(*args, **kwargs)
        if verb in self.after:
            self.after[verb](name)
        return answer


def _tier(cache: Cache, key: str) -> str | None:
    hit = cache.lookup(key)
    return None if hit is None else hit.tier


def _two(**options: Any) -> tuple[FaultyBackend, DictBackend, Callable[[], Cache]]:
    middle, cold = FaultyBackend(DictBackend()), DictBackend()
    return middle, cold, lambda: Cache([Tier(middle), cold], background=False, maintenance="manual", **options)


def test_a_missed_write_is_served_by_nobody_and_what_is_read_again_is_served_from_the_middle_tier() -> None:
    middle, _, open_cache = _two()
    writer, reader = open_cache(), open_cache()
    for number in range(5):
        writer.set(f"k{number}", "old", cost=DEAR)
    assert [_tier(reader, f"k{number}") for number in range(5)] == ["FaultyBackend"] * 5
    middle.fail("put", times=1)
    writer.set("k0", "new", cost=DEAR)  # and the writer is not heard of again
    middle.heal()
    reader.distrust()
    assert [reader.get("k0") for _ in range(2)] == ["new", "new"]
    assert [_tier(reader, f"k{number}") for number in range(1, 5)] == ["DictBackend"] * 4
    assert [_tier(reader, f"k{number}") for number in range(5)] == ["FaultyBackend"] * 5
    assert [_tier(open_cache(), f"k{number}") for number in range(5)] == ["FaultyBackend"] * 5
    assert reader.get("k0") == "new"


def test_a_middle_tier_that_is_written_around_fills_again_after_an_overwrite() -> None:
    middle, cold = DictBackend(), DictBackend()
    cache = Cache([Tier(middle, write="around"), cold], background=False)
    cache.set("k", 1, cost=DEAR)
    assert [cache.get("k"), cache.get("k")] == [1, 1]
    cache.set("k", 2, cost=DEAR)
    assert [cache.get("k") for _ in range(2)] == [2, 2]
    middle_holds = Cache([Tier(middle), cold], background=False)
    cold.put(cache._space.entry_name(cache.key("k")), b"not an entry")
    assert middle_holds.get("k") == 2


def test_a_copy_read_before_an_overwrite_and_promoted_after_it_does_not_stand() -> None:
    middle, cold = DictBackend(), Between(DictBackend())
    writer = Cache([middle, cold], background=False)
    writer.set("k", "old", cost=DEAR)
    middle.delete(writer._space.entry_name(writer.key("k")))
    reader = Cache([middle, cold], background=False)
    reader.get("other")

    def overwrite(name: bytes) -> None:
        cold.after.clear()
        writer.set("k", "new", cost=DEAR)

    cold.after["get_many"] = overwrite  # the reader has the old answer in its hands, and then the writer comes
    assert reader.get("k") == "old"
    reader.distrust()
    assert reader.get("k") == "new"
    assert writer.get("k") == "new"


def test_of_two_overwrites_at_once_the_middle_tier_keeps_what_the_authority_keeps() -> None:
    middle, cold = DictBackend(), DictBackend()
    slow_cold = Between(cold)
    first, second = Cache([middle, slow_cold], background=False), Cache([middle, cold], background=False)
    first.set("k", 0, cost=DEAR)

    def overtake(name: bytes) -> None:
        if name.endswith(b"/g"):  # the first has put its answer and is about to tell; the second does all of its own
            slow_cold.before.clear()
            second.set("k", "second", cost=DEAR)

    slow_cold.before["put"] = overtake
    first.set("k", "first", cost=DEAR)
    for cache in (first, second, Cache([middle, cold], background=False)):
        assert [cache.get("k") for _ in range(3)] == ["second"] * 3


def test_a_pattern_holds_against_the_copy_of_an_answer_whose_computation_began_before_it() -> None:
    middle, cold = DictBackend(), DictBackend()
    cache, other = Cache([middle, cold], background=False), Cache([middle, cold], background=False)
    cache.set("user:1", "old", cost=DEAR)
    began = cache.begin()
    other.invalidate(pattern="user:*")
    cache.set("user:1", "computed from what was invalidated", began=began, cost=DEAR)
    for view in (cache, other, Cache([middle, cold], background=False)):
        view.distrust()
        assert view.get("user:1") is MISSING


def test_an_answer_replaced_while_it_is_read_is_not_kept_in_memory() -> None:
    cold = Between(DictBackend())
    cache = Cache(["memory://", cold], background=False, max_staleness="1h")
    cache.set("k", "old")
    (cache._homes.get("text") or cache._home("text")).clear()
    about_to_write, has_read, written = threading.Event(), threading.Event(), threading.Event()

    def hold_the_writer(name: bytes) -> None:
        if b"/e/" in name:
            cold.before.clear()
            about_to_write.set()
            assert has_read.wait(60)

    def hold_the_reader(name: bytes) -> None:
        cold.after.clear()
        has_read.set()
        assert written.wait(60)

    def write() -> None:
        cache.set("k", "new")
        written.set()

    cold.before["put"] = hold_the_writer
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert about_to_write.wait(60)
    cold.after["get_many"] = hold_the_reader
    assert cache.get("k") == "old"  # read before the writer wrote, handed on after
    writer.join(60)
    assert cache.get("k") == "new"


def test_what_was_missed_is_put_right_and_then_every_copy_is_served_again() -> None:
    middle, _, open_cache = _two()
    writer, reader = open_cache(), open_cache()
    for number in range(300):
        writer.set(f"k{number}", "old", cost=DEAR)
    middle.fail()
    for number in range(250):
        writer.set(f"k{number}", "new", cost=DEAR)
        writer.set(f"k{number}", "newest", cost=DEAR)
    assert len(writer._core.tiers.pending) == 250
    middle.heal()
    _give_the_breaker_time(writer)
    middle.calls.clear()
    assert _tier(writer, "k299") == "DictBackend"  # nothing is read there while something is owed
    assert sum(middle.calls.values()) <= 5  # one batch of a hundred, and the copy of what was asked for
    for _ in range(2):
        writer.get("k299")
    assert len(writer._core.tiers.pending) == 0
    assert _tier(writer, "k299") == "FaultyBackend"
    reader.distrust()
    assert reader.get("k299") == "old"
    assert _tier(reader, "k299") == "FaultyBackend"
    assert [reader.get(f"k{number}") for number in range(250)] == ["newest"] * 250


def test_deletes_beyond_a_bound_are_not_remembered_one_by_one() -> None:
    middle, _, open_cache = _two()
    writer, reader = open_cache(), open_cache()
    count = pending.MOST + 50
    pairs = [(f"k{number}", "old") for number in range(count)]
    writer.set_many(pairs, cost=DEAR)
    middle.fail()
    for key, _ in pairs:
        writer.set(key, "new", cost=DEAR)
    assert len(writer._core.tiers.pending) == 0
    middle.heal()
    _give_the_breaker_time(writer)
    for cache in (writer, reader):
        cache.distrust()
        assert [cache.get(key) for key, _ in pairs[:3]] == ["new"] * 3
        assert [_tier(cache, key) for key, _ in pairs[:3]] == ["FaultyBackend"] * 3
    assert not writer._core.tiers.pending


def test_a_mark_that_the_authority_did_not_take_keeps_the_tier_from_being_read_until_it_does() -> None:
    middle, cold = FaultyBackend(DictBackend()), Between(DictBackend())
    writer, reader = Cache([middle, cold], background=False), Cache([middle, cold], background=False)
    for key in ("k", "other"):
        writer.set(key, "old", cost=DEAR)

    def cut(name: bytes) -> None:
        cold.before["get"] = _raise  # the entry and its change are written, the mark is not
        middle.fail()

    cold.after["append"] = cut
    writer.set("k", "new", cost=DEAR)
    assert writer._core.tiers.pending
    cold.after.clear()
    middle.heal()
    _give_the_breaker_time(writer)
    assert writer.get("other") == "old"
    cold.before.clear()
    _give_the_breaker_time(writer)
    assert writer.get("k") == "new"
    reader.distrust()
    assert reader.get("k") == "new"


def test_one_process_does_not_take_back_what_another_still_needs() -> None:
    ways = [FaultyBackend(store) for store in [DictBackend()] * 2]
    cold = DictBackend()
    first, second = (Cache([way, cold], background=False) for way in ways)
    reader = Cache([ways[0].inner, cold], background=False)
    for key in ("a", "b"):
        first.set(key, "old", cost=DEAR)
    for way, cache, key in zip(ways, (first, second), ("a", "b"), strict=True):
        way.fail()
        cache.set(key, "new", cost=DEAR)
    for way, cache in zip(ways, (first, second), strict=True):
        way.heal()
        _give_the_breaker_time(cache)
        cache.distrust()
        assert cache.get("a") == "new"  # whoever comes first pays
        reader.distrust()
        assert [reader.get(key) for key in ("a", "b")] == ["new", "new"]


def _raise(name: bytes) -> None:
    raise BackendUnavailable("a planned failure")


def _give_the_breaker_time(cache: Cache) -> None:
    """Let every breaker of a cache try again now, as it would after its rest."""
    for tier in cache._core.tiers.stored:
        tier.store("blocking").backend._circuit.after_fork()

"""The sweep removes garbage and nothing else, beside writers, in bounded memory; `verify` finds every damage."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core import MISSING, Cache
from agentcache_core.backend import Stored
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.runtime import Immediate, drive
from agentcache_core.store.blobs import GRACE
from agentcache_core.store.ledger import Ledger, tenants
from agentcache_core.store.sweep import Marks, SweepReport, sweep
from agentcache_core.store.verify import VerifyReport, verify
from agentcache_core.testing import DictBackend, FaultyBackend, ManualClock

PIPELINE = Pipeline()


def large(number: int) -> dict[str, Any]:
    return {"number": number, "text": f"large answer {number}, " * 1500}


def ledger_of(backend: Any, pipeline: Pipeline = PIPELINE) -> Ledger:
    (tenant,) = drive(tenants(Immediate(backend)))
    return Ledger(Immediate(backend), pipeline, tenant)


def swept(backend: Any, clock: ManualClock, **options: Any) -> SweepReport:
    return drive(sweep(ledger_of(backend), now=clock.now(), **options))


def verified(backend: Any, **options: Any) -> VerifyReport:
    return drive(verify(ledger_of(backend), **options))


def blobs_in(backend: DictBackend) -> set[bytes]:
    return {stat.name for stat in backend.scan(b"") if stat.name[16:19] == b"/x/"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def backend(clock: ManualClock) -> DictBackend:
    return DictBackend(clock=clock)


def test_a_blob_nobody_names_goes_after_the_grace_age_and_not_before(clock: ManualClock, backend: DictBackend) -> None:
    cache = Cache(backend, clock=clock, maintenance="manual")
    cache.set("kept", large(1))
    cache.set("gone", large(2))
    cache.delete("gone")
    clock.advance(GRACE - 1)
    assert swept(backend, clock).young == 1
    clock.advance(2)
    report = swept(backend, clock)
    assert (report.unnamed, report.missing, len(blobs_in(backend))) == (1, 0, 1)
    assert cache.get("kept") == large(1)
    assert report.freed_bytes > 0


def test_a_dry_run_tells_the_same_and_removes_nothing(clock: ManualClock, backend: DictBackend) -> None:
    cache = Cache(backend, clock=clock, maintenance="manual")
    for number in range(4):
        cache.set(f"key {number}", large(number))
    cache.delete("key 1")
    clock.advance(2 * GRACE)
    before = {stat.name for stat in backend.scan(b"")}
    told = swept(backend, clock, dry_run=True)
    assert {stat.name for stat in backend.scan(b"")} == before
    done = swept(backend, clock)
    assert (told.unnamed, told.freed_bytes) == (done.unnamed, done.freed_bytes)


def test_expired_entries_go_where_the_store_does_not_expire_them_itself(clock: ManualClock) -> None:
    backend = DictBackend()  # its clock is the real one, at which nothing has expired yet

    class Keeping(DictBackend):
        def put(self, name: bytes, data: bytes, **options: Any) -> Any:
            options["expires_at"] = None
            return super().put(name, data, **options)

    backend = Keeping(clock=clock)
    cache = Cache(backend, clock=clock, maintenance="manual")
    cache.set("short", large(1), ttl="1m")
    cache.set("long", large(2), ttl="10w")
    clock.advance(2 * GRACE)
    report = swept(backend, clock)
    assert (report.expired, report.unnamed) == (1, 1)
    assert cache.get("long") == large(2)


def test_invalidated_entries_go_when_the_caller_can_tell(clock: ManualClock, backend: DictBackend) -> None:
    cache = Cache(backend, clock=clock, maintenance="manual")
    cache.set("a", large(1))
    cache.set("b", large(2))

    async def dead(name: bytes, record: Any) -> bool:
        return bool(record.plain == "a")

    clock.advance(2 * GRACE)
    report = swept(backend, clock, dead=dead)
    assert (report.dead, report.unnamed) == (1, 1)
    assert (cache.get("a"), cache.get("b")) == (MISSING, large(2))


def test_parts_of_assets_are_kept_and_go_with_their_asset(clock: ManualClock, backend: DictBackend) -> None:
    content = os.urandom(5_000_000)
    cache = Cache(backend, clock=clock, inline_max=64, maintenance="manual")
    cache.put_asset("kept", content)
    cache.put_asset("gone", os.urandom(100_000))
    cache.delete("kept")  # an answer, not the asset
    clock.advance(2 * GRACE)
    assert swept(backend, clock).unnamed == 0
    cache.put_asset("gone", b"replaced")
    clock.advance(2 * GRACE)
    assert swept(backend, clock).unnamed > 0
    assert cache.open_asset("kept").read() == content
    assert cache.open_asset("gone").read() == b"replaced"
    assert verified(backend).damaged == 0


def test_one_entry_that_only_another_program_can_read_keeps_every_blob(
    clock: ManualClock, backend: DictBackend
) -> None:
    cache = Cache(backend, clock=clock, maintenance="manual")
    cache.set("mine", large(1))
    cache.delete("mine")
    Cache(backend, clock=clock, keyring=Keyring({1: b"k" * 32})).set("theirs", large(2))
    clock.advance(2 * GRACE)
    report = swept(backend, clock)
    assert (report.unreadable, report.unnamed, report.blobs) == (1, 0, 2)


def test_a_damaged_entry_is_removed_and_its_blob_after_it(clock: ManualClock, backend: DictBackend) -> None:
    cache = Cache(backend, clock=clock, maintenance="manual")
    cache.set("key", large(1))
    (name,) = [stat.name for stat in backend.scan(b"") if stat.name[32:35] == b"/e/"]
    backend.put(name, b"no frame at all")
    clock.advance(2 * GRACE)
    report = swept(backend, clock)
    assert (report.corrupt, report.unnamed) == (1, 1)


@pytest.mark.parametrize("verb", ["get_many", "scan", "delete"])
@pytest.mark.parametrize("step", range(6))
def test_a_writer_at_any_moment_of_a_sweep_loses_nothing(verb: str, step: int) -> None:
    clock = ManualClock()
    inner = DictBackend(clock=clock)
    writer = Cache(inner, clock=clock, maintenance="manual")
    for number in range(4):
        writer.set(f"old {number}", large(number))
        writer.delete(f"old {number}")
    clock.advance(2 * GRACE)

    class Interrupted(FaultyBackend):
        left = step
        ran = False

        def run(self, called: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
            if called == verb:
                self.left -= 1
                if self.left == -1:  # just before this call, somebody names an old blob again
                    writer.set("again", large(2))
                    Interrupted.ran = True
            return call(*args, **kwargs)

    report = drive(sweep(ledger_of(Interrupted(inner)), now=clock.now()))
    assert report.unnamed >= 3
    if Interrupted.ran:
        assert writer.get("again") == large(2)
    assert verified(inner).damaged == 0


def test_two_sweepers_do_not_disturb_each_other(clock: ManualClock, backend: DictBackend) -> None:
    cache = Cache(backend, clock=clock, maintenance="manual")
    for number in range(6):
        cache.set(f"key {number}", large(number))
        if number % 2:
            cache.delete(f"key {number}")
    clock.advance(2 * GRACE)

    class Doubled(FaultyBackend):
        nested = False

        def run(self, called: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
            if called == "delete" and not self.nested:
                self.nested = True
                assert swept(backend, clock).unnamed == 3
            return call(*args, **kwargs)

    report = drive(sweep(ledger_of(Doubled(backend)), now=clock.now()))
    assert report.unnamed == 0
    assert [cache.get(f"key {number}") for number in (0, 2, 4)] == [large(0), large(2), large(4)]


@given(st.integers(2, 12), st.sets(st.integers(0, 24), max_size=20))
@settings(max_examples=40, deadline=None)
def test_few_marks_at_a_time_decide_the_same_as_all_at_once(most: int, kept: set[int]) -> None:
    clock = ManualClock()
    backend = DictBackend(clock=clock)
    cache = Cache(backend, clock=clock, inline_max=8, maintenance="manual")
    for number in range(25):
        cache.set(f"key {number}", {"number": number, "text": "more than eight bytes"})
        if number not in kept:
            cache.delete(f"key {number}")
    clock.advance(2 * GRACE)
    report = swept(backend, clock, max_marks=most)
    assert (report.unnamed, report.blobs, report.missing) == (25 - len(kept), 25, 0)
    assert all(cache.get(f"key {number}")["number"] == number for number in kept)


@given(st.lists(st.binary(min_size=4, max_size=4)), st.integers(2, 10))
def test_marks_stay_bounded_and_hold_every_digest_of_their_range(digests: list[bytes], most: int) -> None:
    marks = Marks(b"", most)
    for digest in digests:
        marks.add(digest)
        assert len(marks.digests) <= most
    assert marks.digests == {digest for digest in digests if marks.covers(digest)}


def test_tenants_are_swept_one_by_one(clock: ManualClock, backend: DictBackend) -> None:
    cache = Cache(backend, clock=clock, maintenance="manual")
    for name in ("a", "b"):
        cache.tenant(name).set("key", large(1))
        cache.tenant(name).delete("key")
    clock.advance(2 * GRACE)
    first, second = drive(tenants(Immediate(backend)))
    assert drive(sweep(Ledger(Immediate(backend), PIPELINE, first), now=clock.now())).unnamed == 1
    assert len(blobs_in(backend)) == 1
    assert drive(sweep(Ledger(Immediate(backend), PIPELINE, second), now=clock.now())).unnamed == 1


@pytest.mark.parametrize("what", ["entry", "blob", "lost", "part"])
def test_verify_finds_each_damage_and_repair_makes_it_a_miss(what: str, backend: DictBackend) -> None:
    cache = Cache(backend)
    cache.set("good", large(1))
    cache.set("bad", large(2)) if what != "part" else cache.put_asset("bad", os.urandom(50_000))
    asset = what == "part"
    entries = {stat.name: backend.get(stat.name) for stat in backend.scan(b"") if stat.name[32:35] == b"/e/"}
    good = cache.key("good").digest
    (entry,) = [name for name in entries if not name.endswith(good)]
    alone = DictBackend()
    Cache(alone).set("good", large(1))
    (blob,) = blobs_in(backend) - blobs_in(alone)
    victim = entry if what == "entry" else blob
    held = backend.get(victim)
    assert isinstance(held, Stored)
    if what == "lost":
        backend.delete(victim)
    else:
        backend.put(victim, held.data[:-1] + bytes([held.data[-1] ^ 1]))
    found = verified(backend)
    assert (found.damaged, found.repaired, len(found.problems)) == (1, 0, 1)
    assert found.problems[0][0] == (entry[35:].hex() if what == "entry" else "bad")
    assert verified(backend, repair=True).repaired == 1
    assert verified(backend).damaged == 0
    assert cache.get("good") == large(1)
    if asset:
        with pytest.raises(KeyError):
            cache.open_asset("bad")
    else:
        assert cache.get("bad") is MISSING


def test_verify_reads_each_shared_blob_once(backend: DictBackend) -> None:
    cache = Cache(backend)
    for number in range(5):
        cache.set(f"key {number}", large(0))
    report = verified(backend)
    assert (report.entries, report.blobs) == (5, 1)

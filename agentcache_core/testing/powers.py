"""The laws of the further powers: batch, log, lease, counter, range, touch. A power that is not there is skipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentcache_core.backend import Put, Stored
from agentcache_core.clock import Clock
from agentcache_core.model import MISSING
from agentcache_core.powers import (
    SupportsBatch,
    SupportsCounter,
    SupportsLease,
    SupportsLog,
    SupportsRange,
    SupportsTouch,
    SupportsTouchMany,
    SupportsViews,
)


def _needs(backend: Any, power: type) -> None:
    if not isinstance(backend, power):
        pytest.skip(f"this backend has no {power.__name__}")


class PowerLaws:
    """What each further power promises."""

    def test_a_batch_answers_in_the_order_asked(self, backend: Any) -> None:
        _needs(backend, SupportsBatch)
        assert backend.get_many([]) == []
        assert backend.put_many([]) == []
        assert backend.delete_many([]) == []
        versions = backend.put_many([Put(b"b/%d" % number, b"%d" % number * 9) for number in range(250)])
        assert all(isinstance(version, bytes) for version in versions)
        asked = [b"b/7", b"absent", b"b/249", b"b/7", b"b/0"]
        seven, last, zero = (Stored(b"%d" % n * 9, versions[n]) for n in (7, 249, 0))
        assert backend.get_many(asked) == [seven, MISSING, last, seven, zero]
        assert backend.delete_many([b"b/7", b"absent", b"b/0"]) == [True, False, True]
        assert backend.get_many([b"b/7", b"b/249"]) == [MISSING, last]
        assert len(list(backend.scan(b"b/"))) == 248

    def test_a_batch_of_large_and_small_values_mixes(self, backend: Any) -> None:
        _needs(backend, SupportsBatch)
        sizes = [0, 300_000, 10, 150_000, 1]
        backend.put_many([Put(b"b/%d" % size, bytes([size % 251]) * size) for size in sizes])
        found = backend.get_many([b"b/%d" % size for size in sizes])
        assert [stored.data for stored in found] == [bytes([size % 251]) * size for size in sizes]

    def test_views_tell_what_a_batch_tells_and_stay_as_they_were(self, backend: Any) -> None:
        _needs(backend, SupportsViews)
        assert backend.get_views([]) == []
        sizes = [0, 300_000, 10, 150_000]
        names = [b"w/%d" % size for size in sizes]
        backend.put_many([Put(name, b"\x01" * size) for name, size in zip(names, sizes, strict=True)])
        viewed = backend.get_views([*names, b"absent"])
        assert viewed == backend.get_many([*names, b"absent"])
        backend.put_many([Put(name, b"\x02" * size) for name, size in zip(names, sizes, strict=True)])
        backend.get_views(names)
        assert [bytes(stored.data) for stored in viewed[:-1]] == [b"\x01" * size for size in sizes]
        with pytest.raises(TypeError):
            memoryview(viewed[1].data)[0] = 0

    def test_a_batch_of_many_names_is_not_limited(self, backend: Any) -> None:
        _needs(backend, SupportsBatch)
        names = [b"many/%04d" % number for number in range(1500)]
        backend.put_many([Put(name, name) for name in names[:50]])
        found = backend.get_many(names)
        assert [stored.data for stored in found[:50]] == names[:50]
        assert set(found[50:]) == {MISSING}

    def test_each_put_of_a_batch_keeps_its_own_conditions(
        self, backend: Any, clock: Clock, pass_time: Callable[[float], None]
    ) -> None:
        _needs(backend, SupportsBatch)
        if not backend.capabilities.conditional_put:
            pytest.skip("this backend does not claim conditional puts")
        held = backend.put(b"b/held", b"held")
        answers = backend.put_many(
            [
                Put(b"b/held", b"no", if_absent=True),
                Put(b"b/held", b"yes", if_version=held),
                Put(b"b/new", b"yes", if_absent=True),
                Put(b"b/none", b"no", if_version=b"wrong"),
                Put(b"b/short", b"yes", expires_at=clock.now() + 1.0),
            ]
        )
        assert [answer is not None for answer in answers] == [False, True, True, False, True]
        pass_time(1.1)
        found = backend.get_many([b"b/held", b"b/new", b"b/none", b"b/short"])
        assert [stored and stored.data for stored in found] == [b"yes", b"yes", MISSING, MISSING]

    def test_a_log_is_read_in_order_from_any_position(self, backend: Any) -> None:
        _needs(backend, SupportsLog)
        assert backend.tail(b"t/log") == b""
        assert backend.read(b"t/log", b"") == []
        positions = [backend.append(b"t/log", b"event \x00 %d" % number) for number in range(10)]
        backend.append(b"t/other", b"elsewhere")
        assert len(set(positions)) == 10
        assert backend.tail(b"t/log") == positions[-1]
        everything = backend.read(b"t/log", b"")
        assert everything == [(position, b"event \x00 %d" % n) for n, position in enumerate(positions)]
        assert backend.read(b"t/log", positions[3]) == everything[4:]
        assert backend.read(b"t/log", positions[-1]) == []
        assert [event.data for event in backend.read(b"t/other", b"")] == [b"elsewhere"]

    def test_a_position_that_is_no_longer_held_is_a_gap(self, backend: Any) -> None:
        _needs(backend, SupportsLog)
        elsewhere = [backend.append(b"t/long", b"%d" % number) for number in range(30)]
        backend.append(b"t/log", b"one")
        assert backend.read(b"t/log", elsewhere[7]) is None
        assert backend.read(b"t/never", elsewhere[7]) is None

    def test_a_lease_has_one_holder_at_a_time(self, backend: Any) -> None:
        _needs(backend, SupportsLease)
        first = backend.acquire(b"l/one", 30.0)
        assert first is not None
        assert backend.acquire(b"l/one", 30.0) is None
        assert backend.acquire(b"l/two", 30.0) is not None
        assert backend.renew(b"l/one", first, 30.0) is True
        assert backend.release(b"l/one", first._replace(token=b"someone else's")) is False
        assert backend.acquire(b"l/one", 30.0) is None
        assert backend.release(b"l/one", first) is True
        assert backend.release(b"l/one", first) is False
        assert backend.renew(b"l/one", first, 30.0) is False
        second = backend.acquire(b"l/one", 30.0)
        assert second is not None
        assert second.fence > first.fence
        assert second.token != first.token

    def test_a_lease_runs_out_unless_it_is_renewed(
        self, backend: Any, pass_lease_time: Callable[[float], None], lease_span: float
    ) -> None:
        _needs(backend, SupportsLease)
        first = backend.acquire(b"l/one", lease_span)
        pass_lease_time(0.6)
        assert backend.renew(b"l/one", first, lease_span) is True
        pass_lease_time(0.6)
        assert backend.acquire(b"l/one", lease_span) is None
        pass_lease_time(0.6)
        second = backend.acquire(b"l/one", 30.0)
        assert second is not None
        assert second.fence > first.fence
        assert backend.renew(b"l/one", first, 30.0) is False
        assert backend.release(b"l/one", first) is False

    def test_a_holder_that_overslept_cannot_overwrite_a_newer_answer(
        self, backend: Any, pass_lease_time: Callable[[float], None], lease_span: float
    ) -> None:
        _needs(backend, SupportsLease)
        first = backend.acquire(b"l/k", lease_span)
        assert backend.put_fenced(b"l/k", first, b"l/value", b"first") is not None
        pass_lease_time(1.1)
        second = backend.acquire(b"l/k", 30.0)
        assert second is not None
        assert backend.put_fenced(b"l/k", first, b"l/value", b"overslept") is None
        version = backend.put_fenced(b"l/k", second, b"l/value", b"second")
        assert version is not None
        assert backend.release(b"l/k", second) is True
        assert backend.put_fenced(b"l/k", first, b"l/value", b"overslept") is None
        assert backend.get(b"l/value") == (b"second", version)

    def test_a_fenced_put_expires_like_any_other(
        self, backend: Any, clock: Clock, pass_time: Callable[[float], None]
    ) -> None:
        _needs(backend, SupportsLease)
        grant = backend.acquire(b"l/k", 30.0)
        assert backend.put_fenced(b"l/k", grant, b"l/value", b"v" * 100_000, expires_at=clock.now() + 1.0)
        assert backend.get(b"l/value")
        pass_time(1.1)
        assert backend.get(b"l/value") is MISSING

    def test_a_counter_starts_at_nothing_and_adds(self, backend: Any) -> None:
        _needs(backend, SupportsCounter)
        assert backend.add(b"c/n", 0) == 0
        assert backend.add(b"c/n", 5) == 5
        assert backend.add(b"c/n", -7) == -2
        assert backend.add(b"c/other", 2**40) == 2**40

    def test_a_counter_and_a_value_of_one_name_stay_apart(self, backend: Any) -> None:
        _needs(backend, SupportsCounter)
        backend.put(b"c/n", b"value")
        assert backend.add(b"c/n", 3) == 3
        stored = backend.get(b"c/n")
        assert stored
        assert stored.data == b"value"
        assert [stat.name for stat in backend.scan(b"")] == [b"c/n"]

    @pytest.mark.parametrize("size", [1000, 400_000])
    def test_a_range_is_the_slice_of_the_value(
        self, backend: Any, clock: Clock, pass_time: Callable[[float], None], size: int
    ) -> None:
        _needs(backend, SupportsRange)
        data = bytes(number * 7 % 256 for number in range(size))
        backend.put(b"r/k", data, expires_at=clock.now() + 1.0)
        for offset, length in ((0, 10), (5, 0), (size - 5, 100), (size, 5), (size + 9, 5), (0, size), (size // 2, 300)):
            assert backend.get_range(b"r/k", offset, length) == data[offset : offset + length]
        assert backend.get_range(b"r/absent", 0, 10) is MISSING
        pass_time(1.1)
        assert backend.get_range(b"r/k", 0, 10) is MISSING

    def test_a_touch_keeps_a_value_alive_longer_and_never_shorter(
        self, backend: Any, clock: Clock, pass_time: Callable[[float], None]
    ) -> None:
        _needs(backend, SupportsTouch)
        assert backend.touch(b"t/absent", None) is False
        backend.put(b"t/k", b"v" * 100_000, expires_at=clock.now() + 1.0)
        assert backend.touch(b"t/k", clock.now() + 3.0) is True
        assert backend.touch(b"t/k", clock.now() + 1.0) is True
        pass_time(1.5)
        stored = backend.get(b"t/k")
        assert stored
        assert stored.data == b"v" * 100_000
        assert backend.touch(b"t/k", None) is True
        pass_time(2.0)
        assert backend.get(b"t/k")
        assert [stat.expires_at for stat in backend.scan(b"t/")] == [None]

    def test_many_touches_answer_by_name_and_keep_each_alive_for_its_own_time(
        self, backend: Any, clock: Clock, pass_time: Callable[[float], None]
    ) -> None:
        _needs(backend, SupportsTouchMany)
        for name in (b"t/short", b"t/long", b"t/other"):
            backend.put(name, b"v", expires_at=clock.now() + 1.0)
        before = backend.get(b"t/long").version
        names = [b"t/long", b"t/absent", b"t/short"]
        assert backend.touch_many(names, [None, None, clock.now() + 0.5]) == [True, False, True]
        assert backend.touch_many([], []) == []
        assert backend.get(b"t/long").version != before
        pass_time(1.1)
        assert [bool(backend.get(name)) for name in (b"t/long", b"t/short", b"t/other")] == [True, False, False]

    def test_a_touch_defeats_a_delete_that_was_decided_before(self, backend: Any, clock: Clock) -> None:
        _needs(backend, SupportsTouch)
        backend.put(b"t/k", b"v")
        (before,) = backend.scan(b"t/")
        assert backend.touch(b"t/k", None) is True
        assert backend.delete(b"t/k", if_version=before.version) is False
        (after,) = backend.scan(b"t/")
        assert after.modified_at >= before.modified_at
        assert backend.get(b"t/k") == (b"v", after.version)

    def test_a_touch_does_not_wake_what_has_expired(
        self, backend: Any, clock: Clock, pass_time: Callable[[float], None]
    ) -> None:
        _needs(backend, SupportsTouch)
        backend.put(b"t/k", b"v", expires_at=clock.now() + 1.0)
        pass_time(1.1)
        assert backend.touch(b"t/k", None) is False
        assert backend.get(b"t/k") is MISSING

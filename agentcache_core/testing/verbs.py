"""The laws of the verbs: get, put, delete, scan, conditions, expiry, odd names."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from agentcache_core.backend import MAX_NAME, Backend
from agentcache_core.clock import Clock
from agentcache_core.model import MISSING

ODD_NAMES = (
    b"\x00",
    b"\xff" * MAX_NAME,
    b"x" * MAX_NAME,
    b"/",
    b"//",
    b".",
    b"..",
    b"../../../etc/passwd",
    b"a",
    b"a/b",
    b"a/b/c",
    b"a/",
    b"A",
    b"a.",
    b"a ",
    b" a",
    b"a\n",
    b"a%2Fb",
    b"%",
    b"*",
    b"?[a-z]*",
    b"\\",
    b"{a}",
    b"{a}/b",
    b"}{",
    b"{}/x",
    b"'; drop table store; --",
    b"C:\\nul",
    b"\xf0\x9f\xa6\x8a".ljust(9, b"\xfe"),
    "naïve/é".encode(),
    "nai\u0308ve/e\u0301".encode(),
)


class VerbLaws:
    """What `get`, `put`, `delete` and `scan` promise."""

    def test_an_absent_name_reads_as_missing(self, backend: Backend) -> None:
        assert backend.get(b"nothing/here") is MISSING
        assert backend.delete(b"nothing/here") is False
        assert list(backend.scan(b"")) == []

    def test_what_was_put_comes_back_with_its_version(self, backend: Backend) -> None:
        version = backend.put(b"a/k", b"value")
        assert isinstance(version, bytes)
        assert backend.get(b"a/k") == (b"value", version)

    @pytest.mark.parametrize("size", [0, 1, 100, 16_384, 70_000, 1_500_000])
    def test_data_of_any_size_comes_back_unchanged(self, backend: Backend, size: int) -> None:
        data = random.Random(size).randbytes(size)  # noqa: S311 - reproducible, not secret
        backend.put(b"s/%d" % size, data)
        stored = backend.get(b"s/%d" % size)
        assert stored is not MISSING
        assert type(stored.data) is bytes
        assert stored.data == data
        assert [stat.size for stat in backend.scan(b"s/")] == [size]

    def test_overwriting_replaces_data_and_version(self, backend: Backend) -> None:
        first = backend.put(b"a/k", b"one" * 20_000)
        second = backend.put(b"a/k", b"two")
        third = backend.put(b"a/k", b"two")
        assert len({first, second, third}) == 3
        assert backend.get(b"a/k") == (b"two", third)

    def test_a_deleted_name_is_absent_and_deletes_only_once(self, backend: Backend) -> None:
        backend.put(b"a/k", b"v" * 100_000)
        assert backend.delete(b"a/k") is True
        assert backend.delete(b"a/k") is False
        assert backend.get(b"a/k") is MISSING
        assert list(backend.scan(b"")) == []

    def test_names_of_any_bytes_stay_apart(self, backend: Backend) -> None:
        for number, name in enumerate(ODD_NAMES):
            assert backend.put(name, b"%d" % number) is not None
        for number, name in enumerate(ODD_NAMES):
            stored = backend.get(name)
            assert stored is not MISSING, name
            assert stored.data == b"%d" % number, name
        assert sorted(stat.name for stat in backend.scan(b"")) == sorted(ODD_NAMES)
        for name in ODD_NAMES:
            assert backend.delete(name) is True, name
        assert list(backend.scan(b"")) == []

    def test_a_conditional_put_writes_only_where_nothing_is(self, backend: Backend) -> None:
        _needs_conditions(backend)
        first = backend.put(b"a/k", b"one", if_absent=True)
        assert first is not None
        assert backend.put(b"a/k", b"two", if_absent=True) is None
        assert backend.get(b"a/k") == (b"one", first)
        backend.delete(b"a/k")
        assert backend.put(b"a/k", b"three", if_absent=True) is not None

    def test_a_put_over_a_version_writes_only_over_that_version(self, backend: Backend) -> None:
        _needs_conditions(backend)
        assert backend.put(b"a/k", b"zero", if_version=b"no such version") is None
        assert backend.get(b"a/k") is MISSING
        first = backend.put(b"a/k", b"one")
        second = backend.put(b"a/k", b"two", if_version=first)
        assert second is not None
        assert backend.put(b"a/k", b"three", if_version=first) is None
        assert backend.get(b"a/k") == (b"two", second)
        backend.delete(b"a/k")
        assert backend.put(b"a/k", b"four", if_version=second) is None
        assert backend.get(b"a/k") is MISSING

    def test_a_delete_of_a_version_spares_newer_ones(self, backend: Backend) -> None:
        _needs_conditions(backend)
        first = backend.put(b"a/k", b"one")
        second = backend.put(b"a/k", b"two")
        assert backend.delete(b"a/k", if_version=first) is False
        assert backend.get(b"a/k") == (b"two", second)
        assert backend.delete(b"a/k", if_version=second) is True
        assert backend.get(b"a/k") is MISSING

    def test_an_expired_name_reads_as_absent_everywhere(
        self, backend: Backend, clock: Clock, pass_time: Callable[[float], None]
    ) -> None:
        version = backend.put(b"e/k", b"v", expires_at=clock.now() + 1.0)
        backend.put(b"e/stays", b"v", expires_at=clock.now() + 1000.0)
        assert backend.get(b"e/k") == (b"v", version)
        pass_time(1.1)
        assert backend.get(b"e/k") is MISSING
        assert [stat.name for stat in backend.scan(b"e/")] == [b"e/stays"]
        assert backend.delete(b"e/k") is False
        if backend.capabilities.conditional_put:
            assert backend.put(b"e/k", b"w", if_version=version) is None
            assert backend.put(b"e/k", b"w", if_absent=True) is not None
            assert backend.get(b"e/k")

    def test_what_is_put_already_expired_is_absent(self, backend: Backend, clock: Clock) -> None:
        backend.put(b"e/k", b"old")
        assert backend.put(b"e/k", b"new", expires_at=clock.now() - 5.0) is not None
        assert backend.get(b"e/k") is MISSING
        assert list(backend.scan(b"")) == []

    def test_overwriting_replaces_the_expiry(
        self, backend: Backend, clock: Clock, pass_time: Callable[[float], None]
    ) -> None:
        backend.put(b"e/k", b"v", expires_at=clock.now() + 1.0)
        backend.put(b"e/k", b"w")
        backend.put(b"e/l", b"v")
        backend.put(b"e/l", b"w", expires_at=clock.now() + 1.0)
        pass_time(1.1)
        assert [stat.name for stat in backend.scan(b"e/")] == [b"e/k"]
        assert backend.get(b"e/l") is MISSING

    def test_scan_tells_names_sizes_times_and_versions(self, backend: Backend, clock: Clock) -> None:
        soon = clock.now() + 500.0
        versions = {b"s/a": backend.put(b"s/a", b"12345", expires_at=soon), b"s/b": backend.put(b"s/b", b"")}
        stats = {stat.name: stat for stat in backend.scan(b"s/")}
        assert {name: stat.version for name, stat in stats.items()} == versions
        assert (stats[b"s/a"].size, stats[b"s/b"].size) == (5, 0)
        assert stats[b"s/a"].expires_at == pytest.approx(soon, abs=1.0)
        assert stats[b"s/b"].expires_at is None
        assert all(abs(stat.modified_at - clock.now()) < 120 for stat in stats.values() if stat.modified_at)

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            (b"", [b"a", b"a/1", b"a/2", b"aa/1", b"b/1", b"\xff\xff/1"]),
            (b"a", [b"a", b"a/1", b"a/2", b"aa/1"]),
            (b"a/", [b"a/1", b"a/2"]),
            (b"a/2", [b"a/2"]),
            (b"a/2/", []),
            (b"\xff", [b"\xff\xff/1"]),
            (b"*", []),
        ],
    )
    def test_scan_yields_the_names_with_a_prefix(self, backend: Backend, prefix: bytes, expected: list[bytes]) -> None:
        for name in (b"a/2", b"b/1", b"aa/1", b"a", b"\xff\xff/1", b"a/1"):
            backend.put(name, b"v")
        names = [stat.name for stat in backend.scan(prefix)]
        assert sorted(names) == sorted(expected)
        if backend.capabilities.ordered_scan:
            assert names == sorted(names)

    def test_scan_goes_on_after_a_name(self, backend: Backend) -> None:
        names = [b"p/%03d" % number for number in range(20)]
        for name in names:
            backend.put(name, b"v")
        assert sorted(stat.name for stat in backend.scan(b"p/", after=b"p/009")) == names[10:]
        assert sorted(stat.name for stat in backend.scan(b"p/", after=b"p/009x")) == names[10:]
        assert list(backend.scan(b"p/", after=b"q")) == []
        assert sorted(stat.name for stat in backend.scan(b"p/", after=b"a")) == names

    def test_a_long_scan_lets_others_write_and_delete_meanwhile(self, backend: Backend) -> None:
        names = {b"m/%04d" % number for number in range(700)}
        for name in names:
            backend.put(name, b"v")
        seen: list[bytes] = []
        for stat in backend.scan(b"m/"):
            seen.append(stat.name)
            if len(seen) % 3 == 0:
                assert backend.delete(stat.name) is True
            backend.put(b"n/%d" % len(seen), b"other")
        assert len(seen) == len(set(seen))
        assert set(seen) == names

    def test_any_worth_is_accepted(self, backend: Backend) -> None:
        for number, weight in enumerate((None, 0.0, 1.5, -3.0, 1e18)):
            assert backend.put(b"w/%d" % number, b"v", weight=weight) is not None
            assert backend.get(b"w/%d" % number)


def _needs_conditions(backend: Backend) -> None:
    if not backend.capabilities.conditional_put:
        pytest.skip("this backend does not claim conditional puts")

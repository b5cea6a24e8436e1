"""What the SQLite backend keeps: through kill -9, under a size bound, and without leaving files behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agentcache_backends.sqlite import SqliteBackend
from agentcache_core.backend import Put
from agentcache_core.clock import ManualClock
from agentcache_core.errors import BackendFull
from agentcache_core.model import MISSING

WRITER = """
import sys
from agentcache_backends.sqlite import SqliteBackend
backend = SqliteBackend(sys.argv[1], durability=sys.argv[2], max_inline=2000, timeout=30.0)
first = int(sys.argv[3])
for number in range(first, 1_000_000):
    size = 1 + number * 7919 % 9000  # some inline, some as files
    data = (b"%d:" % number) + bytes([number % 251]) * size
    name = b"k/%d" % (number % 40)
    if number % 5 == 4:
        backend.delete(name)
        print(number, "deleted", flush=True)
    else:
        assert backend.put(name, data) is not None
        print(number, "put", flush=True)
"""


def _whole(data: bytes) -> int:
    """The number that a stored value tells; fails when the value is not exactly what was written under it."""
    head, _, body = data.partition(b":")
    number = int(head)
    assert body == bytes([number % 251]) * (1 + number * 7919 % 9000)
    return number


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_killed_at_any_moment_it_loses_nothing_acknowledged_and_tears_nothing(tmp_path: Path, durability: str) -> None:
    random_, path, first = random.Random(durability), tmp_path / "store.db", 0
    expected: dict[int, int] = {}
    for _ in range(6):
        command = [sys.executable, "-c", WRITER, str(path), durability, str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(random_.randrange(5, 120))]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.read().splitlines(keepends=True)
        last = first - 1
        for line in lines:
            if line.endswith("\n"):
                number, what = line.split()
                last = int(number)
                if what == "put":
                    expected[last % 40] = last
                else:
                    expected.pop(last % 40, None)
        backend = SqliteBackend(path, timeout=30.0)
        for slot in range(40):
            stored = backend.get(b"k/%d" % slot)
            if slot == (last + 1) % 40:  # the write under way may or may not have happened
                expected.pop(slot, None)
                if stored:
                    expected[slot] = _whole(stored.data)
                continue
            assert (stored is MISSING) == (slot not in expected)
            if stored:
                assert _whole(stored.data) == expected[slot]
        backend.close()
        first = last + 2
    backend = SqliteBackend(path, timeout=30.0)
    named = {row[0] for row in backend._read("SELECT file FROM stored WHERE file IS NOT NULL", ())}
    backend._now = lambda: 4e9  # type: ignore[method-assign]  # much later, when leftovers are old
    backend.sweep()
    assert {name for name, _ in backend._files.names()} == named
    backend.close()


def test_many_processes_write_one_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    script = (
        "import sys\nfrom agentcache_backends.sqlite import SqliteBackend\n"
        "b = SqliteBackend(sys.argv[1], timeout=60.0)\n"
        "for n in range(60):\n"
        "    b.add(b'c/n', 1)\n"
        "    while True:\n"
        "        s = b.get(b'c/v')\n"
        "        v = b.put(b'c/v', b'%d' % (int(s.data) + 1), if_version=s.version)\n"
        "        if v: break\n"
        "    b.put(b'p/%s/%d' % (sys.argv[2].encode(), n), b'v' * 70000)\n"
    )
    backend = SqliteBackend(path)
    backend.put(b"c/v", b"0")
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), str(number)]) for number in range(4)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    assert backend.add(b"c/n", 0) == 240
    stored = backend.get(b"c/v")
    assert stored
    assert stored.data == b"240"
    assert len(list(backend.scan(b"p/"))) == 240
    backend.close()


def test_a_large_values_file_goes_with_its_entry(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db", max_inline=100)

    def files() -> int:
        return len(list(backend._files.names()))

    version = backend.put(b"k", b"1" * 200)
    assert files() == 1
    backend.put(b"k", b"2" * 300)
    assert files() == 1
    assert backend.put(b"k", b"3" * 300, if_absent=True) is None
    assert backend.put(b"k", b"3" * 300, if_version=version) is None
    assert files() == 1
    backend.put(b"k", b"small")
    assert files() == 0
    backend.put_many([Put(b"k", b"4" * 300), Put(b"l", b"5" * 300), Put(b"l", b"6" * 300, if_absent=True)])
    assert files() == 2
    grant = backend.acquire(b"lease", 60.0)
    assert grant is not None
    backend.put_fenced(b"lease", grant, b"k", b"7" * 300)
    assert backend.put_fenced(b"lease", grant._replace(token=b"x"), b"k", b"8" * 300) is None
    assert files() == 2
    assert backend.delete_many([b"k", b"none"]) == [True, False]
    assert backend.delete(b"l") is True
    assert files() == 0
    backend.close()


def test_a_value_whose_file_was_taken_away_is_a_miss(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db", max_inline=100)
    backend.put(b"k", b"1" * 200)
    ((name, _),) = backend._files.names()
    backend._files.remove(name)
    assert backend.get_many([b"k", b"other"]) == [MISSING, MISSING]
    assert list(backend.scan(b"")) == []
    backend.close()


@pytest.mark.parametrize("size", [900, 3000, 100_000])
def test_a_bounded_store_stays_under_its_bound(tmp_path: Path, size: int) -> None:
    bound = 2_000_000
    backend = SqliteBackend(tmp_path / "store.db", max_bytes=bound)
    assert backend.capabilities.max_bytes == bound
    largest = 0
    for number in range(3 * bound // size):
        assert backend.put(b"k/%d" % number, os.urandom(size)) is not None
        if number % 25 == 0:
            largest = max(largest, backend._bound.size(backend._connections.here()))
    assert largest <= bound * 1.05
    kept = sum(stat.size for stat in backend.scan(b""))
    assert bound * 0.4 < kept <= bound
    newest = backend.get(b"k/%d" % (3 * bound // size - 1))
    assert newest
    backend.close()


def test_a_bounded_store_drops_what_is_worth_least(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db", max_bytes=1_000_000)
    for number in range(3000):
        backend.put(b"k/%04d" % number, b"v" * 1000, weight=10.0 if number % 10 == 0 else 1.0)
    dear = sum(1 for stat in backend.scan(b"k/") if int(stat.name[2:]) % 10 == 0)
    cheap = sum(1 for stat in backend.scan(b"k/") if int(stat.name[2:]) % 10)
    assert dear / 300 > 3 * cheap / 2700
    backend.close()


def test_what_was_touched_weighs_as_if_it_were_written_then(tmp_path: Path) -> None:
    clock = ManualClock()
    backend = SqliteBackend(tmp_path / "store.db", max_bytes=1_000_000, clock=clock)
    for number in range(600):
        backend.put(b"k/%03d" % number, b"v" * 1000, weight=clock.now())
    clock.advance(3600)
    assert all(backend.touch_many([b"k/%03d" % number for number in range(0, 600, 6)], [None] * 100))
    for number in range(400):
        clock.advance(1)
        backend.put(b"new/%d" % number, b"v" * 1000, weight=clock.now())
    left = [int(stat.name[2:]) for stat in backend.scan(b"k/")]
    touched = sum(1 for number in left if number % 6 == 0)
    assert touched / 100 > 1.5 * (len(left) - touched) / 500
    backend.close()


def test_what_expired_goes_before_anything_alive(tmp_path: Path) -> None:
    clock = ManualClock()
    backend = SqliteBackend(tmp_path / "store.db", max_bytes=1_000_000, clock=clock)
    for number in range(400):
        backend.put(b"old/%d" % number, b"v" * 1000, expires_at=clock.now() + 10, weight=9.0)
    clock.advance(11)
    for number in range(400):
        backend.put(b"new/%d" % number, b"v" * 1000, weight=0.0)
    assert len(list(backend.scan(b"new/"))) == 400
    backend.close()


def test_a_value_larger_than_the_store_is_refused(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db", max_bytes=1_000_000)
    with pytest.raises(BackendFull, match="does not fit"):
        backend.put(b"k", b"v" * 2_000_000)
    backend.close()


def test_a_sweep_reclaims_what_expired(tmp_path: Path) -> None:
    clock = ManualClock()
    backend = SqliteBackend(tmp_path / "store.db", clock=clock)
    for number in range(50):
        backend.put(b"k/%d" % number, b"v" * (100_000 if number % 2 else 10), expires_at=clock.now() + 10)
    backend.put(b"stays", b"v")
    clock.advance(11)
    assert backend.sweep() == 50
    assert backend._read("SELECT count(*) FROM stored", ()) == [(1,)]
    assert list(backend._files.names()) == []
    backend.close()


def test_a_cut_log_is_a_gap_and_a_new_database_too(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db", log_length=5)
    first = backend.append(b"t", b"0")
    later = [backend.append(b"t", b"%d" % number) for number in range(1, 10)]
    assert backend.read(b"t", first) is None
    assert backend.read(b"t", later[-2]) == [(later[-1], b"9")]
    assert len(backend.read(b"t", b"") or []) == 5
    backend.close()
    other = SqliteBackend(tmp_path / "other.db")
    for number in range(10):
        other.append(b"t", b"%d" % number)
    assert other.read(b"t", later[-2]) is None
    other.close()


def test_connections_of_ended_threads_are_closed(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db")
    for _ in range(20):
        thread = threading.Thread(target=backend.put, args=(b"k", b"v"))
        thread.start()
        thread.join()
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert sum(str(tmp_path) in path and path.endswith("store.db") for path in open_files) <= 3
    backend.close()


def _is_open(fd: Any) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")

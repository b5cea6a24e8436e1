"""Closing a store while other threads use it: their calls end with our errors, and the process lives on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentcache_backends.sqlite.store import SqliteBackend
from agentcache_core.errors import BackendClosed

_CLOSES_IN_MID_CALL = """
import gc, os, sys, threading
from agentcache_backends.sqlite.store import SqliteBackend
from agentcache_core.errors import BackendError

path, rounds = sys.argv[1], int(sys.argv[2])
strange = []

def use(store, begun):
    number = 0
    try:
        while True:
            number += 1
            store.get(b"k%d" % (number % 50))
            if number % 10 == 0:
                store.put(b"k%d" % (number % 50), b"v" * 5_000)
            if number % 25 == 0:
                list(store.scan(b"k"))
            begun.set()
    except BackendError:
        pass
    except BaseException as error:
        strange.append(repr(error))

for _ in range(rounds):
    store = SqliteBackend(path)
    each = [threading.Event() for _ in range(6)]
    threads = [threading.Thread(target=use, args=(store, begun)) for begun in each]
    for thread in threads:
        thread.start()
    for begun in each:
        begun.wait(60)
    store.close()
    for thread in threads:
        thread.join(60)
    del store, threads
gc.collect()
links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
files = [os.readlink(link) for link in links if os.path.exists(link)]
print(strange, [name for name in files if name.startswith(path)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which files are open")
def test_a_store_closed_in_the_middle_of_calls_ends_them_and_not_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", _CLOSES_IN_MID_CALL, str(tmp_path / "cache.db"), "20"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[] []"), ran.stderr[-2000:]


def test_what_other_threads_left_open_is_closed_with_the_store(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "cache.db")
    backend.put(b"k", b"v")
    backend.close()
    assert not (tmp_path / "cache.db-wal").exists()
    with pytest.raises(BackendClosed):
        backend.get(b"k")

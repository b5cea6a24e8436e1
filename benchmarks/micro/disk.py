"""What do getting and putting 1 KB on disk cost, beside SQLite itself, plain files and diskcache?"""

from __future__ import annotations

import functools
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentcache_core import Cache
from agentcache_core.urls import open_backend
from benchmarks.harness import Goal, Report, Row, Settings, nanoseconds_per_call

SIZE = 1024
NAMES = 2000
Verbs = tuple[Callable[[str], Any], Callable[[str], Any]]


def raw_sqlite(folder: Path, data: bytes) -> Verbs:
    """The module itself with the same settings: WAL, synchronous=NORMAL, one prepared statement a call."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("CREATE TABLE kept (name BLOB PRIMARY KEY, data BLOB)")
    write, read = "INSERT OR REPLACE INTO kept VALUES (?, ?)", "SELECT data FROM kept WHERE name = ?"
    return (
        lambda name: connection.execute(read, (name.encode(),)).fetchone(),
        lambda name: connection.execute(write, (name.encode(), data)),
    )


def our_sqlite(folder: Path, data: bytes) -> Verbs:
    backend: Any = open_backend(f"sqlite:///{folder}/ours.db")
    return lambda name: backend.get(name.encode()), lambda name: backend.put(name.encode(), data)


def our_files(folder: Path, data: bytes) -> Verbs:
    backend: Any = open_backend(f"file://{folder}/ours-files")
    return lambda name: backend.get(name.encode()), lambda name: backend.put(name.encode(), data)


def our_engine(folder: Path, data: bytes) -> Verbs:
    cache = Cache(f"sqlite:///{folder}/engine.db", background=False, maintenance="manual")
    return cache.get, lambda name: cache.set(name, data)


def yours(url: str, folder: Path, data: bytes) -> Verbs:
    cache = Cache(url, namespace="benchmark", background=False, maintenance="manual")
    return cache.get, lambda name: cache.set(name, data)


def files(folder: Path, data: bytes) -> Verbs:
    (folder / "files").mkdir()

    def put(name: str) -> None:
        path = folder / "files" / name
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").rename(path)

    return lambda name: (folder / "files" / name).read_bytes(), put


def diskcache(folder: Path, data: bytes) -> Verbs:
    from diskcache import Cache as DiskCache

    store = DiskCache(str(folder / "diskcache"))
    return store.get, lambda name: store.set(name, data)


PEERS = {
    "raw sqlite3": raw_sqlite,
    "agentcache sqlite://": our_sqlite,
    "agentcache file://": our_files,
    "agentcache engine on sqlite://": our_engine,
    "plain files, renamed": files,
    "diskcache": diskcache,
}


def run(settings: Settings) -> Report:
    data, left_out = os.urandom(SIZE), dict[str, str]()
    known = [f"k{number}" for number in range(50 if settings.small else NAMES)]
    gets: dict[str, Callable[[], object]] = {}
    puts: dict[str, Callable[[], object]] = {}
    peers = dict(PEERS)
    if settings.url is not None:
        peers["agentcache engine on --backend"] = functools.partial(yours, settings.url)
    with tempfile.TemporaryDirectory() as folder:
        for peer, opens in peers.items():
            try:
                get, put = opens(Path(folder), data)
            except ImportError as error:
                left_out[peer] = f"not installed: {error.name}"
                continue
            for name in known:
                put(name)
            gets[f"get, {peer}"] = _each(get, itertools.cycle(known))
            puts[f"put, {peer}"] = _each(put, (f"n{number}" for number in itertools.count()))
        values = nanoseconds_per_call(gets, settings, loops=2000) | nanoseconds_per_call(puts, settings, loops=300)
    rows = tuple(Row(name, value / 1000, value / values[f"{name[:3]}, raw sqlite3"]) for name, value in values.items())
    goals = (
        Goal("get, agentcache sqlite://", "get, raw sqlite3", 2.0, 1 / 0.7),
        Goal("put, agentcache sqlite://", "put, diskcache", 0.5, 1 / 3),
    )
    return Report(__doc__ or "", "µs", rows, goals, left_out)


def _each(verb: Callable[[str], Any], names: Any) -> Callable[[], object]:
    following = iter(names).__next__
    return lambda: verb(following())

"""What the SQLite backend refuses at opening, clearly and without writing anything, and what it leaves on the disk."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from agentcache_backends.sqlite import SqliteBackend
from agentcache_core.backend import Put
from agentcache_core.errors import (
    BackendError,
    BackendFull,
    BackendReadOnly,
    BackendUnavailable,
    ConfigurationError,
    ForeignStore,
)
from agentcache_core.testing.children import in_child
from agentcache_core.urls import open_backend


def _foreign_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE precious (row TEXT)")
        connection.execute("INSERT INTO precious VALUES ('keep me')")
    connection.close()


def _text_file(path: Path) -> None:
    path.write_text("dear diary, this is no database\n" * 50)


def _short_file(path: Path) -> None:
    path.write_bytes(b"x")


def _newer_format(path: Path) -> None:
    SqliteBackend(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (_foreign_database, "another application"),
        (_text_file, "not an SQLite database"),
        (_short_file, "not an SQLite database"),
        (_newer_format, "format 99, newer than"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], complaint: str
) -> None:
    path = tmp_path / "store.db"
    make(path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ForeignStore, match=complaint):
        SqliteBackend(path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_folder_a_pipe_and_a_symbolic_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    SqliteBackend(tmp_path / "real.db").close()
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    (tmp_path / "dangling.db").symlink_to(tmp_path / "nowhere.db")
    for name, complaint in (("folder", "regular file"), ("pipe", "regular file")):
        with pytest.raises(ForeignStore, match=complaint):
            SqliteBackend(tmp_path / name)
    for name in ("link.db", "dangling.db"):
        with pytest.raises(ForeignStore, match="symbolic link"):
            SqliteBackend(tmp_path / name)
    assert not (tmp_path / "nowhere.db").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no/such of the SQLite store does not exist"):
        SqliteBackend(tmp_path / "no/such/store.db")


def _as_nobody(work: Callable[[], None]) -> None:
    """Run `work` in a child without root's powers, where permissions mean something."""

    def child() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        work()

    with in_child(child):
        pass


def test_a_store_that_cannot_be_written_is_refused_as_read_only(tmp_path: Path) -> None:
    place = Path("/tmp") / f"agentcache-read-only-{os.getpid()}"  # a folder that the child may enter
    place.mkdir(mode=0o755)
    try:
        path = place / "store.db"
        SqliteBackend(path).close()
        before = path.read_bytes()
        if os.geteuid() != 0:
            path.chmod(0o400)

        def refused() -> None:
            with pytest.raises(BackendReadOnly, match="cannot be opened for writing"):
                SqliteBackend(path)
            with pytest.raises(BackendReadOnly):
                SqliteBackend("/proc/version" if os.geteuid() else place / "other.db")

        _as_nobody(refused)
        assert path.read_bytes() == before
    finally:
        for file in place.iterdir():
            file.unlink()
        place.rmdir()


def test_every_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        backend = SqliteBackend(tmp_path / "store.db")
        backend.put(b"a/small", b"v")
        backend.put(b"a/large", b"v" * 500_000)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"store.db", "store.db-wal", "store.db-shm"}
        assert len(files) == 4
        for path in files:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        for path in tmp_path.rglob("*"):
            assert not path.is_dir() or stat.S_IMODE(path.stat().st_mode) == 0o700
        backend.close()
    finally:
        os.umask(before)


def test_an_older_store_with_loose_permissions_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    SqliteBackend(path).close()
    path.chmod(0o644)
    SqliteBackend(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_linked_folder_of_values_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    backend = SqliteBackend(tmp_path / "store.db")
    (tmp_path / "store.db-files").symlink_to(elsewhere)
    with pytest.raises(BackendReadOnly, match="symbolic link"):
        backend.put(b"a/large", b"v" * 500_000)
    assert list(elsewhere.iterdir()) == []
    backend.close()


def test_a_full_database_says_so_and_keeps_what_it_had(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db")
    kept = backend.put(b"a/kept", b"v" * 1000)
    raw = backend._connections.here().execute
    pages = raw("PRAGMA page_count").fetchone()[0]
    raw(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(BackendFull, match="no room is left"):
        _fill(backend, 100)
    assert backend.get(b"a/kept") == (b"v" * 1000, kept)
    with pytest.raises(BackendFull):
        backend.put_many([_put(b"b/%d" % number) for number in range(10)])
    assert list(backend.scan(b"b/")) == []
    backend.close()


def _fill(backend: SqliteBackend, count: int) -> None:
    for number in range(count):
        backend.put(b"a/%d" % number, b"v" * 10_000)


def _put(name: bytes) -> Put:
    return Put(name, b"v" * 10_000)


def test_a_disk_with_no_room_gives_our_errors_and_nothing_torn(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    path = tmp_path / "store.db"

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        backend = SqliteBackend(path)
        backend.put(b"a/kept", b"kept")
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        with pytest.raises(BackendFull):
            backend.put(b"a/large", b"v" * 1_000_000)
        with pytest.raises(BackendError):
            _fill(backend, 200)
        stored = backend.get(b"a/kept")
        assert stored
        assert stored.data == b"kept"
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 300_000))
        with pytest.raises(BackendError):
            SqliteBackend(fresh / "store.db")

    with in_child(child):
        pass
    backend = SqliteBackend(path)
    stored = backend.get(b"a/kept")
    assert stored
    assert stored.data == b"kept"
    assert not list(tmp_path.rglob("*.tmp"))
    for stat_ in backend.scan(b"a/"):
        read = backend.get(stat_.name)
        assert read
        assert set(read.data) <= set(b"vkept")
    backend.close()


def test_a_half_made_database_is_finished_by_the_next_opening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    backend = SqliteBackend(path)
    assert backend.put(b"k", b"v") is not None
    backend.close()


def test_another_writer_costs_the_timeout_and_no_more(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "store.db", timeout=0.05)
    version = backend.put(b"k", b"v")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BackendUnavailable, match="longer than the timeout"):
        backend.put(b"k", b"w")
    with pytest.raises(BackendUnavailable, match="longer than the timeout"):
        backend.touch(b"k", None)
    assert backend.get(b"k") == (b"v", version)
    other.execute("ROLLBACK")
    other.close()
    assert backend.put(b"k", b"w") is not None
    backend.close()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite://", "needs the path of a file"),
        ("sqlite:///", "needs the path of a file"),
        ("sqlite:///folder/", "needs the path of a file"),
        ("sqlite://store.db", "takes no host"),
        ("sqlite:///x.db?durability=perhaps", "one of normal, full"),
        ("sqlite:///x.db?max_bytes=1", "at least 262144 bytes"),
        ("sqlite:///x.db?max_byte=1MB", "unknown option max_byte"),
        ("sqlite:///x.db?timeout=-1s", "option timeout"),
    ],
)
def test_a_url_that_cannot_work_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=complaint):
        open_backend(url)
    assert list(tmp_path.iterdir()) == []


def test_paths_are_relative_with_three_slashes_and_absolute_with_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = open_backend("sqlite:///here%20now.db?durability=full&max_bytes=1MB")
    absolute = open_backend(f"sqlite:///{tmp_path}/there.db")
    monkeypatch.chdir("/")
    for backend in (relative, absolute):
        backend.put(b"k", b"v")  # type: ignore[unused-coroutine]  # a blocking backend
        backend.close()  # type: ignore[unused-coroutine]  # a blocking backend
    assert (tmp_path / "here now.db").exists()
    assert (tmp_path / "there.db").exists()

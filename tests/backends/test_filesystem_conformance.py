"""Files, S3 objects and any fsspec file system pass the conformance suite."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest

from agentcache_backends.filesystem.generic import FsspecBackend
from agentcache_backends.filesystem.layout import flat, make_header, nested, read_header
from agentcache_backends.filesystem.local import LocalBackend
from agentcache_backends.filesystem.s3 import S3Backend, on_event_loops, settings_of
from agentcache_backends.filesystem.s3.settings import ClientChoice
from agentcache_backends.filesystem.together import together
from agentcache_core.backend import AsyncBackend, Put
from agentcache_core.clock import Clock, ManualClock
from agentcache_core.errors import BackendReadOnly, BackendUnavailable, ConfigurationError, CorruptFrame, ForeignStore
from agentcache_core.model import MISSING
from agentcache_core.resilience import in_threads
from agentcache_core.testing import AsyncBackendSuite, BackendSuite
from agentcache_core.urls import open_backend, parse_url


class TestLocalFiles(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return LocalBackend(place / "store", clock=clock)


class TestLocalFilesInThreads(AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return in_threads(LocalBackend(place / "store", clock=clock))


class _OnS3:
    client: ClientChoice

    @pytest.fixture(autouse=True)
    def _bucket(self, s3_url: str) -> None:
        self.settings = dataclasses.replace(settings_of(parse_url(s3_url)), client=self.client, timeout=20.0)

    def open(self, place: Path, clock: Clock) -> Any:
        backend = S3Backend(self.settings, clock=clock)
        assert backend.connection.client == self.client
        return backend


@pytest.mark.s3
class TestS3ThroughObstore(_OnS3, BackendSuite):
    client = "obstore"


@pytest.mark.s3
class TestS3ThroughS3fs(_OnS3, BackendSuite):
    client = "s3fs"


@pytest.mark.s3
class TestAsyncS3(_OnS3, AsyncBackendSuite):
    client = "obstore"

    def open(self, place: Path, clock: Clock) -> Any:
        return AsyncBackendSuite.open(self, place, clock)

    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return on_event_loops(S3Backend(self.settings, clock=clock))


class TestAnyFileSystem(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return FsspecBackend(fsspec.filesystem("local"), str(place / "store"), clock=clock)


class TestFilesInMemory(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return FsspecBackend(fsspec.filesystem("memory"), str(place), clock=clock)


@pytest.mark.s3
def test_a_file_system_of_a_cloud_gives_batches_ranges_and_what_others_wrote(s3_url: str) -> None:
    """s3fs as fsspec gives it stands for gcsfs and adlfs, whose clouds no test can reach."""
    url = parse_url(s3_url)
    options = {"endpoint_url": url.options["endpoint"], "key": "testing", "secret": "testing"}
    ours, theirs = (
        FsspecBackend(fsspec.filesystem("s3", skip_instance_cache=True, **options), f"{url.host}{url.path}")
        for _ in range(2)
    )
    names = [b"n/%d" % number for number in range(5)]
    ours.put_many([Put(name, name * 100) for name in names[:4]])
    assert [found and found.data for found in ours.get_many(names)] == [*(name * 100 for name in names[:4]), MISSING]
    assert [stat.name for stat in ours.scan(b"n/")] == names[:4]
    assert all(abs(stat.modified_at - time.time()) < 600 for stat in ours.scan(b""))
    theirs.put(names[4], b"later than the listing")
    assert ours.get(names[4])
    assert [stat.name for stat in ours.scan(b"n/")] == names
    theirs.put(b"large", bytes(range(256)) * 1000)
    for offset, size in ((0, 5), (100, 10), (100_000, 5), (255_998, 100), (256_000, 5), (300_000, 5), (3, 0)):
        assert ours.get_range(b"large", offset, size) == (bytes(range(256)) * 1000)[offset : offset + size]
    assert ours.get_range(b"absent", 0, 5) is MISSING
    assert ours.delete_many([b"large", b"absent"]) == [True, False]


@pytest.mark.parametrize(
    "name", [b"../../etc/passwd", b"/", b"..", b"a/../b", bytes(range(256)), b"x" * 512, b"a/b/" + b"/" * 32]
)
def test_no_name_leaves_its_folder(name: bytes) -> None:
    for part in (*nested(name), flat(name)):
        assert set(part) <= set("0123456789abcdef_~")
        assert len(part) <= 255


def test_files_are_private_and_shared_out_over_folders(tmp_path: Path) -> None:
    store = LocalBackend(tmp_path / "store")
    for number in range(64):
        store.put(b"space/e/" + bytes([number]) * 32, b"x")
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len({path.parent for path in files}) == 65  # 64 shards, and the folder itself for its mark


def test_a_folder_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ForeignStore, match="not ours"):
        LocalBackend(tmp_path)
    with pytest.raises(ForeignStore, match="not a folder"):
        LocalBackend(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    store = LocalBackend(tmp_path / "store")
    store.put(b"k", b"x")
    path = (tmp_path / "store").joinpath(*nested(b"k"))
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(ForeignStore):
        store.get(b"k")


def test_a_damaged_or_foreign_header_is_corrupt_never_data() -> None:
    header, _ = make_header(b"name", 5.0)
    assert read_header(header + b"data").expires_at == 5.0
    for broken in (b"", header[:10], b"XXXX" + header[4:], header[:-1] + b"\x00", header[:5] + b"\x01" + header[6:]):
        with pytest.raises(CorruptFrame):
            read_header(broken)


def test_what_a_dead_writer_left_is_swept_and_never_read(tmp_path: Path) -> None:
    store = LocalBackend(tmp_path / "store")
    store.put(b"k", b"x")
    left = (tmp_path / "store").joinpath(*nested(b"k")).parent / ".0123.new"
    left.write_bytes(b"half")
    assert [found.name for found in store.scan(b"")] == [b"k"]
    assert store.sweep() == 0
    assert left.exists()
    os.utime(left, (0, 0))
    assert store.sweep() == 1
    assert not left.exists()
    assert store.get(b"k")


def _stores(place: Path, clock: Clock) -> list[Any]:
    return [
        LocalBackend(place / "local", clock=clock),
        FsspecBackend(fsspec.filesystem("local"), str(place / "generic"), clock=clock),
    ]


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_has_expired_is_reclaimed_by_a_sweep_and_what_lives_stays(tmp_path: Path) -> None:
    clock = ManualClock(1_000.0)
    for store, folder in zip(_stores(tmp_path, clock), ("local", "generic"), strict=True):
        store.put(b"space/e/old", b"x" * 10_000, expires_at=clock.now() + 10)
        store.put(b"space/e/kept", b"y" * 10_000, expires_at=clock.now() + 100)
        store.put(b"short", b"z", expires_at=clock.now() + 10)
        assert store.sweep() == 0
        clock.advance(50)
        assert store.sweep() == 2
        assert 10_000 < _bytes_in(tmp_path / folder) < 11_000
        assert [found.name for found in store.scan(b"")] == [b"space/e/kept"]


def test_what_others_put_into_the_folder_is_passed_over(tmp_path: Path) -> None:
    store = LocalBackend(tmp_path / "store")
    store.put(b"space/e/k", b"x")
    store.put(b"short", b"y")
    for foreign in ("lost+found", "_/lost+found", b"space".hex() + "/.Trash", b"space".hex() + "/ab/cd"):
        (tmp_path / "store" / foreign).mkdir(parents=True)
    (tmp_path / "store" / "ef").symlink_to("/")
    (tmp_path / "store" / "README").write_text("not ours")
    assert sorted(found.name for found in store.scan(b"")) == [b"short", b"space/e/k"]
    assert store.sweep() == 0


def test_a_writer_that_was_stopped_delays_others_by_their_timeout_at_most(tmp_path: Path) -> None:
    store = LocalBackend(tmp_path / "store", timeout=0.05)
    store.put(b"k", b"x")
    lock = (tmp_path / "store").joinpath(*nested(b"k")).parent / ".lock"
    with lock.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BackendUnavailable, match="another writer"):
            store.put(b"k", b"y")
        assert store.get(b"k").data == b"x"  # type: ignore[union-attr]  # readers take no lock
    assert store.put(b"k", b"z") is not None
    assert [path.name for path in lock.parent.iterdir() if path.suffix == ".new"] == []


def test_names_alike_in_their_first_bytes_are_listed_in_order(tmp_path: Path) -> None:
    names = [b"n" * 100 + bytes([number]) * 20 for number in range(12)]
    store = _stores(tmp_path, ManualClock())[1]
    for name in names:
        store.put(name, name)
    assert [found.name for found in store.scan(b"n")] == names
    assert [found.name for found in store.scan(b"n", after=names[4])] == names[5:]


def test_a_slow_batch_goes_on_side_by_side() -> None:
    beside = threading.Barrier(4)

    def work(item: int) -> int:
        if item:
            beside.wait(30)  # passes only when four are under way at once
        return item * 2

    assert together(work, range(5), quick=0.0) == [0, 2, 4, 6, 8]
    with pytest.raises(ZeroDivisionError):
        together(lambda item: 1 // item, [1, 0, 1], quick=0.0)


@pytest.mark.s3
def test_a_forked_child_reaches_a_remote_file_system_anew(s3_url: str) -> None:
    url = parse_url(s3_url)
    options = {"endpoint_url": url.options["endpoint"], "key": "testing", "secret": "testing"}
    store = FsspecBackend(fsspec.filesystem("s3", **options), f"{url.host}{url.path}")
    store.put(b"k", b"x")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            found = store.get(b"k")
            code = 0 if found and found.data == b"x" and store.put(b"of the child", b"y") else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert store.get(b"of the child")
    assert store.get(b"k")


def test_urls_name_folders_buckets_and_other_file_systems(tmp_path: Path) -> None:
    open_backend(f"file://{tmp_path}/store").close()
    open_backend(f"fsspec://local{tmp_path}/other").close()
    open_backend(f"fsspec://memory{tmp_path}/other").close()
    for wrong, says in (
        ("file://relative/path", "file:///folder"),
        ("file:///", "path of a folder"),
        ("file:///x?speed=9", "unknown option speed"),
        ("s3://", "needs a bucket"),
        ("fsspec://nosuch/x", "cannot open nosuch"),
        ("fsspec://zip/x", "cannot open zip"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            open_backend(wrong)


@pytest.mark.s3
def test_refused_credentials_and_an_absent_server_are_told_without_secrets(s3_url: str) -> None:
    absent = open_backend("s3://bucket?endpoint=http://127.0.0.1:9&key=AKIAKEY&secret=topsecret&timeout=1s")
    with pytest.raises((BackendUnavailable, BackendReadOnly)) as caught:
        absent.get(b"k")  # type: ignore[unused-coroutine]
    assert "topsecret" not in repr(caught.value)
    assert "topsecret" not in repr(absent)
    assert "AKIAKEY" not in str(caught.value)

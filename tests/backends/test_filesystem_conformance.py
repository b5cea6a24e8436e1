"""Files, S3 objects and any fsspec file system pass the conformance suite."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import fsspec
import pytest

from agentcache_backends.filesystem.generic import FsspecBackend
from agentcache_backends.filesystem.layout import flat, make_header, nested, read_header
from agentcache_backends.filesystem.local import LocalBackend
from agentcache_backends.filesystem.s3 import AsyncS3Backend, Bucket, S3Backend
from agentcache_core.backend import AsyncBackend
from agentcache_core.clock import Clock
from agentcache_core.errors import BackendReadOnly, BackendUnavailable, ConfigurationError, CorruptFrame, ForeignStore
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
    @pytest.fixture(autouse=True)
    def _bucket(self, s3_url: str) -> None:
        self.url = parse_url(s3_url)

    def test_no_update_over_a_version_is_lost(self, backend: Any) -> None:
        """moto compares and writes in two steps, so here the writers take turns; the stale one is refused."""
        for turn in range(5):
            first = backend.put(b"v/n", b"%d" % turn)
            assert first is not None
            assert backend.put(b"v/n", b"new", if_version=first) is not None
            assert backend.put(b"v/n", b"stale", if_version=first) is None
            assert backend.get(b"v/n").data == b"new"

    def bucket(self, clock: Clock) -> Bucket:
        options = self.url.options
        settings = {"endpoint_url": options["endpoint"], "key": options["key"], "secret": options["secret"]}
        return Bucket(self.url.host, self.url.path, settings, clock=clock)


@pytest.mark.s3
class TestS3(_OnS3, BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return S3Backend(self.bucket(clock))


@pytest.mark.s3
class TestAsyncS3(_OnS3, AsyncBackendSuite):
    def open_async(self, place: Path, clock: Clock) -> AsyncBackend:
        return AsyncS3Backend(self.bucket(clock))


class TestAnyFileSystem(BackendSuite):
    def open(self, place: Path, clock: Clock) -> Any:
        return FsspecBackend(fsspec.filesystem("local"), str(place / "store"), clock=clock)


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
    assert left.exists()
    os.utime(left, (0, 0))
    assert [found.name for found in store.scan(b"")] == [b"k"]
    assert not left.exists()


def test_urls_name_folders_buckets_and_other_file_systems(tmp_path: Path) -> None:
    open_backend(f"file://{tmp_path}/store").close()
    open_backend(f"fsspec://local{tmp_path}/other").close()
    for wrong, says in (
        ("file://relative/path", "file:///folder"),
        ("file:///", "path of a folder"),
        ("file:///x?speed=9", "unknown option speed"),
        ("s3://", "needs a bucket"),
        ("fsspec://nosuch/x", "cannot open nosuch"),
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

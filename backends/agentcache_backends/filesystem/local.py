"""Local files: one per value, written beside and renamed into place, conditional writes under a lock per folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from agentcache_backends.filesystem.layout import MAGIC, Header, header_size, make_header, nested, read_header
from agentcache_backends.filesystem.together import together
from agentcache_core.backend import MAX_NAME, Capabilities, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import (
    BackendClosed,
    BackendError,
    BackendFull,
    BackendReadOnly,
    BackendUnavailable,
    CorruptFrame,
    ForeignStore,
)
from agentcache_core.model import MISSING, Missing

P = ParamSpec("P")
T = TypeVar("T")
MARK = "agentcache-files-1"
LEFTOVER_SECONDS = 3600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.02
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalBackend:
    """Values as files under one folder that is ours alone. `durability="full"` syncs each file and its folder.

    A write waits at most `timeout` seconds for another writer of its folder, then raises `BackendUnavailable`.
    """

    capabilities = Capabilities(durable=True, shared=True, ordered_scan=False, native_deadline=True)

    def __init__(
        self,
        folder: str | Path,
        *,
        durability: Literal["normal", "full"] = "normal",
        timeout: float = 5.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = Path(folder)
        self._timeout = timeout
        self._full = durability == "full"
        self._now = clock.now
        self._closed = False
        _guarded(self._prepare)

    def _prepare(self) -> None:
        folder = self._folder
        if folder.exists() and not folder.is_dir():
            raise ForeignStore(f"file store {folder}: this is not a folder")
        mark = folder / MARK
        if not mark.exists():
            if folder.exists() and any(folder.iterdir()):
                raise ForeignStore(f"file store {folder}: the folder holds files that are not ours; name an empty one")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))

    def _path(self, name: bytes) -> Path:
        if self._closed:
            raise BackendClosed("this file store was closed")
        if not 1 <= len(name) <= MAX_NAME:
            raise BackendError(f"a name has 1 to {MAX_NAME} bytes, got {len(name)}")
        return self._folder.joinpath(*nested(name))

    def get(self, name: bytes) -> Stored | Missing:
        path = self._path(name)
        return _guarded(self._get, path, name)

    def _get(self, path: Path, name: bytes) -> Stored | Missing:
        found = _read(path, None)
        if found is None:
            return MISSING
        header, data = found
        if header.name != name or header.gone(self._now()):
            return MISSING
        return Stored(data, header.version)

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        """A part of a value, read alone."""
        path = self._path(name)
        return _guarded(self._get_range, path, name, offset, size)

    def _get_range(self, path: Path, name: bytes, offset: int, size: int) -> bytes | Missing:
        found = _read(path, (header_size(name) + offset, size))
        if found is None or found[0].name != name or found[0].gone(self._now()):
            return MISSING
        return found[1]

    def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        path = self._path(name)
        return _guarded(self._put, path, name, data, expires_at, if_absent, if_version)

    def _put(
        self,
        path: Path,
        name: bytes,
        data: bytes,
        expires_at: float | None,
        if_absent: bool,
        if_version: Version | None,
    ) -> Version | None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        header, version = make_header(name, expires_at)
        beside = path.parent / f".{secrets.token_hex(8)}.new"
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(header)
                file.write(data)
                if self._full:
                    file.flush()
                    os.fsync(file.fileno())
            with _locked(path.parent, self._timeout):
                if (if_absent or if_version is not None) and not self._holds(path, name, if_absent, if_version):
                    beside.unlink()
                    return None
                beside.rename(path)
            if self._full:
                _sync(path.parent)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                beside.unlink()
            raise
        return version

    def _holds(self, path: Path, name: bytes, if_absent: bool, if_version: Version | None) -> bool:
        """Whether the condition of a write holds now; asked under the lock."""
        present = self._header(path, name)
        if if_absent and present is not None:
            return False
        return if_version is None or (present is not None and present.version == if_version)

    def _header(self, path: Path, name: bytes) -> Header | None:
        found = _read(path, (0, 0))
        if found is None or found[0].name != name or found[0].gone(self._now()):
            return None
        return found[0]

    def touch(self, name: bytes, expires_at: float | None) -> bool:
        """Written again, since the version and the expiry stand in the file itself."""
        path = self._path(name)
        while True:
            found = _guarded(_read, path, None)
            if found is None or found[0].name != name or found[0].gone(self._now()):
                return False
            held = found[0].expires_at
            until = None if expires_at is None or held is None else max(held, expires_at)
            if _guarded(self._put, path, name, found[1], until, False, found[0].version) is not None:
                return True

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        path = self._path(name)
        return _guarded(self._delete, path, name, if_version)

    def _delete(self, path: Path, name: bytes, if_version: Version | None) -> bool:
        if not path.parent.is_dir():
            return False
        with _locked(path.parent, self._timeout):
            present = self._header(path, name)
            if if_version is not None and (present is None or present.version != if_version):
                return False
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            return present is not None

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return together(self.get, names)

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        return together(
            lambda p: self.put(p.name, p.data, expires_at=p.expires_at, if_absent=p.if_absent, if_version=p.if_version),
            puts,
        )

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return together(self.delete, names)

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        """Every living name with a prefix, in no order. What is not ours in the folder is passed over."""
        if self._closed:
            raise BackendClosed("this file store was closed")
        return self._scan(prefix, after)

    def _scan(self, prefix: bytes, after: bytes) -> Iterator[Stat]:
        for folder in _guarded(list, self._folders(prefix)):
            for path in _guarded(sorted, folder.iterdir() if folder.is_dir() else []):
                stat = _guarded(self._stat, path)
                if stat is not None and stat.name.startswith(prefix) and stat.name > after:
                    yield stat

    def _folders(self, prefix: bytes) -> Iterator[Path]:
        """The innermost folders that may hold names with a prefix."""
        yield from (shard for _, shard in _ours(self._folder / "_", b"", prefix))
        for first, top in _ours(self._folder, b"", prefix, end=b"/"):
            for second, inside in _ours(top, first, prefix, end=b"/"):
                yield from (shard for _, shard in _ours(inside, second, prefix))

    def _stat(self, path: Path) -> Stat | None:
        if path.name.startswith("."):
            return None
        try:
            found = _read(path, (0, 0))
            status = path.stat(follow_symlinks=False)
        except (FileNotFoundError, IsADirectoryError, CorruptFrame):
            return None
        if found is None or found[0].gone(self._now()):
            return None
        header = found[0]
        return Stat(header.name, status.st_size - header.size, status.st_mtime, header.expires_at, header.version)

    def sweep(self, *, older_than: float = LEFTOVER_SECONDS) -> int:
        """Remove values that have expired, and what writers left beside that died over `older_than` seconds ago."""
        if self._closed:
            raise BackendClosed("this file store was closed")
        return sum(
            _guarded(self._reclaim, path, older_than)
            for folder in _guarded(list, self._folders(b""))
            for path in _guarded(list, folder.iterdir())
        )

    def _reclaim(self, path: Path, older_than: float) -> bool:
        """Remove one file if nobody can read it any more; answers whether it was."""
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, CorruptFrame):
            if path.name.startswith("."):
                left = path.suffix == ".new" and self._now() - path.stat().st_mtime > older_than
                if left:
                    path.unlink()
                return left
            if self._has_expired(path):
                with _locked(path.parent, self._timeout):
                    if self._has_expired(path):  # nobody has written it anew meanwhile
                        path.unlink()
                        return True
        return False

    def _has_expired(self, path: Path) -> bool:
        found = _read(path, (0, 0))
        return found is not None and found[0].gone(self._now())

    def close(self) -> None:
        self._closed = True


def _ours(folder: Path, start: bytes, prefix: bytes, *, end: bytes = b"") -> Iterator[tuple[bytes, Path]]:
    """The folders in a folder that may hold names with a prefix, each with how those names begin: `start`, the bytes
    the folder stands for, `end`. What others put there (`lost+found`, a link) is passed over."""
    if not folder.is_dir():
        return
    for inside in sorted(folder.iterdir()):
        try:
            begun = start + bytes.fromhex(inside.name) + end
        except ValueError:
            continue
        if _fits(begun, prefix) and inside.is_dir() and not inside.is_symlink():
            yield begun, inside


def _fits(start: bytes, prefix: bytes) -> bool:
    return start.startswith(prefix) or prefix.startswith(start)


def _read(path: Path, part: tuple[int, int] | None) -> tuple[Header, bytes] | None:
    """The header of a file, with all its data or `part` (offset in the file, size); None when there is none."""
    try:
        handle = os.open(path, _FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(handle, "rb", buffering=0) as file:
        if part is None:
            whole = file.readall() or b""
            header = read_header(whole)
            return header, whole[header.size :]
        header = read_header(os.pread(handle, len(MAGIC) + 1024, 0))
        return header, os.pread(handle, part[1], part[0]) if part[1] else b""


@contextlib.contextmanager
def _locked(folder: Path, timeout: float) -> Iterator[None]:
    """The only writer in a folder, of all threads and processes. `BackendUnavailable` after `timeout` seconds: a writer
    that was stopped may hold the lock for ever."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        until, pause = time.monotonic() + timeout, FIRST_PAUSE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise BackendUnavailable(f"file store: another writer holds {folder} locked") from None
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
        yield
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def _guarded(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work`; what the operating system raises becomes ours."""
    try:
        return work(*args, **kwargs)
    except OSError as error:
        kind = (
            BackendFull
            if error.errno in _FULL
            else BackendReadOnly
            if error.errno in _READ_ONLY
            else ForeignStore
            if error.errno == errno.ELOOP
            else BackendUnavailable
        )
        raise kind(f"file store: {error.strerror or error}: {error.filename}") from error

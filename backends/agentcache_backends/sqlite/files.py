"""Large values as files beside the database: written whole, named by one row, removed with it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from agentcache_core.errors import BackendError, BackendFull, BackendReadOnly, BackendUnavailable

_FOLDER_MODE = 0o700
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ValueFiles:
    """The folder of one store's large values. A value's file never changes: a new write is a new file."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder = folder
        self._sync = sync

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole: under another name first, then renamed. Raises a `BackendError`."""
        final = self._path(name)
        temporary = final.with_name(f"{name}.tmp")
        try:
            try:
                fd = os.open(temporary, _NEW, 0o600)
            except FileNotFoundError:
                self._make(final.parent)
                fd = os.open(temporary, _NEW, 0o600)
            try:
                with open(fd, "wb", closefd=True, buffering=0) as file:
                    _write_all(file.fileno(), data)
                    if self._sync:
                        os.fsync(file.fileno())
                os.rename(temporary, final)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            if self._sync:
                _sync_folder(final.parent)
        except OSError as error:
            raise _ours(error, final) from error

    def read(self, name: str, offset: int = 0, size: int = -1) -> bytes | None:
        """The bytes of a file, or a part of them; None when it is not there."""
        path = self._path(name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _ours(error, path) from error
        with open(fd, "rb", buffering=0) as file:
            if offset:
                file.seek(offset)
            if size < 0:
                return file.readall()
            parts = []
            while size > 0 and (part := file.read(size)):
                parts.append(part)
                size -= len(part)
            return b"".join(parts)

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens when it is gone already."""
        try:
            self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _ours(error, self._path(name)) from error

    def names(self) -> Iterator[tuple[str, float]]:
        """Every file that is there, unfinished ones included, with the time it was written."""
        for shard in sorted(self.folder.glob("??")):
            with os.scandir(shard) as entries:
                for entry in entries:
                    yield entry.name, entry.stat(follow_symlinks=False).st_mtime

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _make(self, shard: Path) -> None:
        for folder in (self.folder, shard):
            if folder.is_symlink():
                raise BackendReadOnly(f"{folder} is a symbolic link, which is never followed")
            folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            if self._sync:
                _sync_folder(folder.parent)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _ours(error: OSError, path: Path) -> BackendError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BackendFull(f"no room to write {path}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BackendReadOnly(f"{path} cannot be written ({os.strerror(error.errno)})")
    return BackendUnavailable(f"{path} cannot be used ({os.strerror(error.errno or 0)})")

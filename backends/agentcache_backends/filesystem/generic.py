"""Any other file system that fsspec reaches: whole files written at once, without conditions the store would enforce.

Conditional writes are checked and then written, so of two writers at the same moment the later wins; the
capabilities say so, and the engine keeps what needs more on another tier.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from agentcache_backends.filesystem.layout import FIXED, LONGEST, Header, flat, header_size, make_header, read_header
from agentcache_backends.filesystem.together import together
from agentcache_core.backend import MAX_NAME, Capabilities, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed, BackendError, BackendReadOnly, BackendUnavailable, CorruptFrame
from agentcache_core.model import MISSING, Missing

CAPABILITIES = Capabilities(durable=True, shared=True, conditional_put=False, ordered_scan=True)
NEAR = 64 * 1024
"""Bytes before a range that are cheaper to read along than to ask for the header apart."""
_OF_ONE_PROCESS = {"memory"}
"""Protocols whose files end with the process."""
_WRITE_WHOLE = {"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
"""Protocols that show a file only when all of it is there."""


class FsspecBackend:
    """Values as files of one fsspec file system under `folder`."""

    def __init__(self, fs: Any, folder: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._opened, self._pid = _without_memory(fs), os.getpid()
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        lasting = not protocols & _OF_ONE_PROCESS
        self.capabilities = replace(CAPABILITIES, durable=lasting, shared=lasting)
        self._writes_whole = bool(protocols & _WRITE_WHOLE)
        self._folder = folder.rstrip("/")
        self._now = clock.now
        self._closed = False
        self._ask(self._fs.makedirs, self._folder, exist_ok=True)

    @property
    def _fs(self) -> Any:
        """This process's file system: a forked child opens its own, with sockets and an event loop of its own."""
        if self._pid != os.getpid():
            fs = self._opened
            options = {**fs.storage_options, "skip_instance_cache": True}
            self._opened = _without_memory(type(fs)(*fs.storage_args, **options))
            self._pid = os.getpid()
        return self._opened

    def _ask(self, verb: Any, *args: Any, **options: Any) -> Any:
        """One call of the file system; its exceptions become ours, but for an absent file."""
        if self._closed:
            raise BackendClosed("this file store was closed")
        try:
            return verb(*args, **options)
        except (FileNotFoundError, BackendError):
            raise
        except PermissionError as error:
            raise BackendReadOnly(f"{self._fs.protocol}: permission refused") from error
        except Exception as error:
            raise BackendUnavailable(f"{self._fs.protocol}: {type(error).__name__}") from error

    def _path(self, name: bytes) -> str:
        if not 1 <= len(name) <= MAX_NAME:
            raise BackendError(f"a name has 1 to {MAX_NAME} bytes, got {len(name)}")
        return f"{self._folder}/{flat(name)}"

    def get(self, name: bytes) -> Stored | Missing:
        try:
            whole = self._ask(self._fs.cat_file, self._path(name))
        except FileNotFoundError:
            return MISSING
        header = read_header(whole)
        if header.name != name or header.gone(self._now()):
            return MISSING
        return Stored(bytes(whole[header.size :]), header.version)

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        path, before = self._path(name), header_size(name)
        along = size > 0 and offset <= NEAR
        try:
            start = self._ask(self._fs.cat_file, path, start=0, end=before + (offset + size if along else 0))
            header = read_header(start)
            if header.name != name or header.gone(self._now()):
                return MISSING
            if along or size <= 0:
                return bytes(start[before + offset :]) if along else b""
            # Clouds refuse a range that begins where a file ends.
            if before + offset >= self._ask(self._fs.size, path):
                return b""
            return bytes(self._ask(self._fs.cat_file, path, start=before + offset, end=before + offset + size))
        except FileNotFoundError:
            return MISSING

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
        if if_absent or if_version is not None:
            present = self.get(name)
            if (if_absent and present) or (if_version is not None and not (present and present.version == if_version)):
                return None
        header, version = make_header(name, expires_at)
        if self._writes_whole:
            self._ask(self._fs.pipe_file, path, header + data)
            return version
        # Not every file system writes a file at once; all of them can rename or copy one that is complete.
        beside = f"{self._folder}/~{secrets.token_hex(8)}"
        self._ask(self._fs.pipe_file, beside, header + data)
        self._ask(self._fs.mv, beside, path)
        return version

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        present = self.get(name)
        if not present or (if_version is not None and present.version != if_version):
            return False
        try:
            self._ask(self._fs.rm_file, self._path(name))
        except FileNotFoundError:
            return False
        return True

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
        if self._closed:
            raise BackendClosed("this file store was closed")
        return self._scan(prefix, after)

    def _scan(self, prefix: bytes, after: bytes) -> Iterator[Stat]:
        start = prefix[:LONGEST].hex()
        items = (item for item in self._listed() if _leaf(item).startswith(start))
        # Names alike in their first bytes are told apart by a hash: their order stands in their headers.
        for _, alike in groupby(items, key=lambda item: _leaf(item)[: 2 * LONGEST]):
            for header, item in sorted(self._headers(alike), key=lambda pair: pair[0].name):
                if header.name.startswith(prefix) and header.name > after and not header.gone(self._now()):
                    yield Stat(
                        header.name, item["size"] - header.size, _modified(item), header.expires_at, header.version
                    )

    def _listed(self, *, leftovers: bool = False) -> list[dict[str, Any]]:
        """The files of the folder in the order of their names; those that a writer left beside only where asked for."""
        try:
            listed = self._ask(self._fs.ls, self._folder, detail=True, refresh=True)
        except FileNotFoundError:
            return []
        files = [item for item in listed if item.get("type") != "directory"]
        return sorted((item for item in files if _leaf(item).startswith("~") is leftovers), key=_leaf)

    def _headers(self, items: Iterable[dict[str, Any]]) -> list[tuple[Header, dict[str, Any]]]:
        """The headers of some files, those that are gone or not ours left out. Values are not read."""

        def one(item: dict[str, Any]) -> tuple[Header, dict[str, Any]] | None:
            try:
                return read_header(self._ask(self._fs.cat_file, item["name"], start=0, end=FIXED + MAX_NAME)), item
            except (FileNotFoundError, CorruptFrame):
                return None

        return [pair for pair in together(one, list(items)) if pair is not None]

    def sweep(self, *, older_than: float = 3600.0) -> int:
        """Remove values that have expired, and what writers that died more than `older_than` seconds ago left beside.

        A value that is written anew in the very moment of its removal may be removed with the old one: a miss.
        """
        removed = 0
        for item in self._listed(leftovers=True):
            if self._now() - _modified(item) > older_than:
                removed += self._remove(item["name"])
        for header, item in self._headers(self._listed()):
            if header.gone(self._now()):
                again = self._headers([item])
                if again and again[0][0].version == header.version:
                    removed += self._remove(item["name"])
        return removed

    def _remove(self, path: str) -> bool:
        try:
            self._ask(self._fs.rm_file, path)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        self._closed = True


def _without_memory(fs: Any) -> Any:
    """A file system that remembers no listings: others write as well, and it would not see what they wrote."""
    fs.dircache.use_listings_cache = False
    return fs


def _leaf(item: dict[str, Any]) -> str:
    return str(item["name"]).rsplit("/", 1)[-1]


def _modified(item: dict[str, Any]) -> float:
    """When a file was written, in wall-clock seconds; 0.0 where the file system does not say."""
    at = item.get("mtime") or item.get("LastModified") or item.get("updated") or item.get("created") or 0.0
    return float(at.timestamp()) if hasattr(at, "timestamp") else float(at)

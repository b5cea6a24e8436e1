"""Any other file system that fsspec reaches: whole files written at once, without conditions the store would enforce.

Conditional writes are checked and then written, so of two writers at the same moment the later wins; the
capabilities say so, and the engine keeps what needs more on another tier.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from agentcache_backends.filesystem.layout import FIXED, flat, header_size, make_header, read_header
from agentcache_core.backend import MAX_NAME, Capabilities, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed, BackendError, BackendReadOnly, BackendUnavailable, CorruptFrame
from agentcache_core.model import MISSING, Missing


class FsspecBackend:
    """Values as files of one fsspec file system under `folder`."""

    capabilities = Capabilities(durable=True, shared=True, conditional_put=False, ordered_scan=True)

    def __init__(self, fs: Any, folder: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._fs = fs
        self._folder = folder.rstrip("/")
        self._now = clock.now
        self._closed = False
        self._ask(self._fs.makedirs, self._folder, exist_ok=True)

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
        start = header_size(name)
        try:
            head = self._ask(self._fs.cat_file, self._path(name), start=0, end=start)
            header = read_header(head)
            if header.name != name or header.gone(self._now()):
                return MISSING
            first = start + offset
            return bytes(self._ask(self._fs.cat_file, self._path(name), start=first, end=first + size)) if size else b""
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
        return [self.get(name) for name in names]

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        if self._closed:
            raise BackendClosed("this file store was closed")
        return self._scan(prefix, after)

    def _scan(self, prefix: bytes, after: bytes) -> Iterator[Stat]:
        try:
            listed = self._ask(self._fs.ls, self._folder, detail=True)
        except FileNotFoundError:
            return
        start = f"{self._folder.rsplit('/', 1)[-1]}/{prefix[:100].hex()}"
        for item in sorted(listed, key=lambda item: str(item["name"])):
            leaf = item["name"].rsplit("/", 1)[-1]
            if leaf.startswith("~") or not f"{self._folder.rsplit('/', 1)[-1]}/{leaf}".startswith(start):
                continue
            try:
                header = read_header(self._ask(self._fs.cat_file, item["name"], start=0, end=FIXED + MAX_NAME))
            except (FileNotFoundError, CorruptFrame):
                continue
            if header.name.startswith(prefix) and header.name > after and not header.gone(self._now()):
                modified = item.get("mtime") or item.get("created") or 0.0
                at = modified.timestamp() if hasattr(modified, "timestamp") else float(modified)
                yield Stat(header.name, item["size"] - header.size, at, header.expires_at, header.version)

    def close(self) -> None:
        self._closed = True

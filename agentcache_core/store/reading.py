"""Readers of assets: a seekable binary file for blocking code, and its like for an event loop."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from agentcache_core.store.chunks import Parts

BLOCK: Final = 1024 * 1024
Drive = Callable[[Coroutine[Any, Any, bytes]], bytes]


class AssetReader(io.RawIOBase):
    """An asset as a read-only, seekable binary file: `read`, `readinto`, `seek`, `tell`, iteration by lines.

    `size` is in bytes, `digest` (32 bytes, keyed by tenant and secret) that of `Asset.digest`.
    Not for several threads at once; open it once for each. Raises `MissingBlob` or `CorruptFrame` when a part was
    lost, and another `BackendError` when the store fails.
    """

    def __init__(self, parts: Parts, drive: Drive, *, content_type: str | None = None) -> None:
        super().__init__()
        self._parts = parts
        self._drive = drive
        self._position = 0
        self.size = parts.manifest.size
        self.digest = parts.manifest.digest
        self.content_type = content_type

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = _sought(self, offset, whence, self._position, self.size)
        return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            block = self._drive(self._parts.read_at(self._position, len(view) - filled))
            if not block:
                break
            view[filled : filled + len(block)] = block
            filled += len(block)
            self._position += len(block)
        return filled

    def read_range(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer at the end; the position does not move."""
        before = self._position
        try:
            self.seek(offset)
            return self.read(size) or b""
        finally:
            self._position = before

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed asset")


class AsyncAssetReader:
    """An asset for an event loop: awaited `read`, `readall`, `read_range`, and blocks by `async for`."""

    def __init__(self, parts: Parts, *, content_type: str | None = None) -> None:
        self._parts = parts
        self._position = 0
        self.closed = False
        self.size = parts.manifest.size
        self.digest = parts.manifest.digest
        self.content_type = content_type

    async def read(self, size: int = -1) -> bytes:
        """`size` bytes from the position on, fewer at the end; everything that is left when negative."""
        block = await self.read_range(self._position, self.size - self._position if size < 0 else size)
        self._position += len(block)
        return block

    async def readall(self) -> bytes:
        return await self.read()

    async def read_range(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer at the end; the position does not move."""
        if self.closed:
            raise ValueError("I/O operation on a closed asset")
        blocks = []
        while size > 0:
            block = await self._parts.read_at(offset, size)
            if not block:
                break
            blocks.append(block)
            offset += len(block)
            size -= len(block)
        return b"".join(blocks)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = _sought(self, offset, whence, self._position, self.size)
        return self._position

    def tell(self) -> int:
        return self._position

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while block := await self.read(BLOCK):
            yield block

    async def close(self) -> None:
        self.closed = True

    async def __aenter__(self) -> AsyncAssetReader:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _sought(reader: AssetReader | AsyncAssetReader, offset: int, whence: int, position: int, size: int) -> int:
    if reader.closed:
        raise ValueError("I/O operation on a closed asset")
    starts = {os.SEEK_SET: 0, os.SEEK_CUR: position, os.SEEK_END: size}
    if whence not in starts:
        raise ValueError(f"whence must be 0, 1 or 2, got {whence!r}")
    target = starts[whence] + offset
    if target < 0:
        raise ValueError(f"cannot seek to {target}, before the beginning")
    return target

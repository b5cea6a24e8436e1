"""Objects in an S3 bucket, through s3fs: one object a value, one request a write, conditions where the store has them.

Work runs on fsspec's own event loop thread; the blocking face waits for it, the async face awaits it. A version is
the object's ETag, which differs for every write because each header holds a fresh random stamp.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from agentcache_backends.filesystem.layout import FIXED, Header, flat, header_size, make_header, read_header
from agentcache_core.backend import MAX_NAME, Capabilities, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import (
    BackendClosed,
    BackendError,
    BackendFull,
    BackendUnavailable,
    ConfigurationError,
    CorruptFrame,
)
from agentcache_core.model import MISSING, Missing

T = TypeVar("T")
CAPABILITIES = Capabilities(durable=True, shared=True, ordered_scan=True)
AT_ONCE = 32
SLOWEST = 1_000_000
"""Bytes a second that an upload makes at the least, or it is given up."""


class Bucket:
    """The coroutines of one bucket and prefix, to be run on fsspec's loop. Opens its file system in each process."""

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any], *, clock: Clock = SYSTEM_CLOCK) -> None:
        if not bucket:
            raise ConfigurationError("s3:// needs a bucket, as in s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._options = options
        self._now = clock.now
        # The client's own timeouts do not cover every wait of its (a server that takes a request and says nothing).
        self._patience = 2.0 * float(options.get("config_kwargs", {}).get("read_timeout", 30.0))
        self._pid = 0
        self._fs: Any = None
        self.closed = False

    def fs(self) -> Any:
        """This process's file system object."""
        if self._pid != os.getpid():
            import s3fs  # type: ignore[import-untyped]  # it ships no types

            self._fs, self._pid = s3fs.S3FileSystem(skip_instance_cache=True, **self._options), os.getpid()
            self._fs.retries = 1  # five tries with growing pauses, else: minutes for a store that hangs
            self._deleting = [asyncio.Lock() for _ in range(AT_ONCE)]
        return self._fs

    def submit(self, work: Coroutine[Any, Any, T]) -> Any:
        """Start a coroutine on fsspec's loop; answers a concurrent future."""
        if self.closed:
            work.close()
            raise BackendClosed("this S3 store was closed")
        return asyncio.run_coroutine_threadsafe(work, self.fs().loop)

    def _key(self, name: bytes) -> str:
        if not 1 <= len(name) <= MAX_NAME:
            raise BackendError(f"a name has 1 to {MAX_NAME} bytes, got {len(name)}")
        return self._prefix + flat(name)

    async def _call(self, verb: str, **arguments: Any) -> Any:
        """One request to the store. `FileNotFoundError` passes; a refused condition answers None."""
        patience = self._patience + len(arguments.get("Body", b"")) / SLOWEST
        try:
            async with asyncio.timeout(patience):
                return await self.fs()._call_s3(verb, Bucket=self._bucket, **arguments)
        except FileNotFoundError:
            raise
        except Exception as error:
            if refused_condition(error):
                return None
            raise translated(error) from error

    async def get(self, name: bytes) -> Stored | Missing:
        found = await self._object(name)
        if found is None or found[0].gone(self._now()):
            return MISSING
        header, body, etag = found
        return Stored(body[header.size :], etag)

    async def _object(self, name: bytes, part: str | None = None) -> tuple[Header, bytes, bytes] | None:
        arguments = {"Range": part} if part else {}
        try:
            answer = await self._call("get_object", Key=self._key(name), **arguments)
            if answer is None:
                return None
            try:
                async with answer["Body"] as stream:
                    body = await stream.read()
            except Exception as error:
                raise translated(error) from error
        except FileNotFoundError:
            return None
        header = read_header(body)
        if header.name != name:
            return None
        return header, body, answer["ETag"].encode()

    async def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        before = header_size(name)
        head = self._object(name, f"bytes=0-{before - 1}")
        if size <= 0:
            found = await head
            return b"" if found is not None and not found[0].gone(self._now()) else MISSING
        found, part = await asyncio.gather(head, self._part(name, before + offset, size))
        if found is None or found[0].gone(self._now()):
            return MISSING
        return part

    async def _part(self, name: bytes, start: int, size: int) -> bytes:
        try:
            answer = await self._call("get_object", Key=self._key(name), Range=f"bytes={start}-{start + size - 1}")
            async with answer["Body"] as stream:
                body: bytes = await stream.read()
        except FileNotFoundError:
            return b""
        except BackendError as error:
            if "416" in str(error) or "InvalidRange" in str(error):
                return b""
            raise
        return body

    async def put(
        self, name: bytes, data: bytes, expires_at: float | None, if_absent: bool, if_version: Version | None
    ) -> Version | None:
        header, _ = make_header(name, expires_at)
        condition: dict[str, str] = {}
        if if_version is not None:
            present = await self._present(name)
            if present is None or present[1] != if_version or if_absent:
                return None
            condition["IfMatch"] = if_version.decode()
        elif if_absent:
            condition["IfNoneMatch"] = "*"
        for _ in range(4):
            try:
                answer = await self._call("put_object", Key=self._key(name), Body=header + data, **condition)
            except FileNotFoundError as error:
                if if_version is not None:
                    return None
                raise BackendUnavailable(f"S3: bucket {self._bucket} does not exist") from error
            if answer is not None:
                return bytes(answer["ETag"].encode())
            if not if_absent:
                return None
            found = await self._any(name)
            if found is not None and not found[0].gone(self._now()):
                return None
            # What is there has expired, so it counts as absent: replace exactly it.
            condition = {"IfMatch": found[1].decode()} if found is not None else {"IfNoneMatch": "*"}
        return None

    async def _any(self, name: bytes) -> tuple[Header, bytes] | None:
        """Header and ETag of what stands under a name, expired or not."""
        found = await self._object(name, f"bytes=0-{header_size(name) - 1}")
        return None if found is None else (found[0], found[2])

    async def _present(self, name: bytes) -> tuple[Header, bytes] | None:
        found = await self._any(name)
        return None if found is None or found[0].gone(self._now()) else found

    async def delete(self, name: bytes, if_version: Version | None) -> bool:
        """S3 does not tell whether a delete found anything, so it is looked for first. Of deletes in this process
        exactly one counts; between processes two at the same moment may both say that they did it."""
        self.fs()
        async with self._deleting[hash(name) % len(self._deleting)]:
            present = await self._present(name)
            if present is None or (if_version is not None and present[1] != if_version):
                return False
            try:
                await self._call("delete_object", Key=self._key(name))
            except FileNotFoundError:
                return False
            return True

    async def many(self, work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Several requests at a time, answers in order."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(single: Coroutine[Any, Any, T]) -> T:
            async with limit:
                return await single

        return list(await asyncio.gather(*(one(single) for single in work)))

    async def page(self, prefix: bytes, after: str) -> tuple[list[Stat], str]:
        """The next names with a prefix, in order, and where to go on ("" at the end). Reads headers, never values."""
        start = self._prefix + prefix[:100].hex()
        arguments = {"StartAfter": after} if after else {}
        try:
            answer = await self._call("list_objects_v2", Prefix=start, MaxKeys=500, **arguments)
        except FileNotFoundError:
            return [], ""
        listed = answer.get("Contents", [])
        heads = await self.many([self._head(item) for item in listed])
        now = self._now()
        stats = [
            Stat(head.name, item["Size"] - head.size, item["LastModified"].timestamp(), head.expires_at, etag)
            for item, (head, etag) in zip(listed, heads, strict=True)
            if head is not None and head.name.startswith(prefix) and not head.gone(now)
        ]
        return stats, listed[-1]["Key"] if answer.get("IsTruncated") else ""

    async def _head(self, item: dict[str, Any]) -> tuple[Any, bytes]:
        try:
            answer = await self._call("get_object", Key=item["Key"], Range=f"bytes=0-{FIXED + MAX_NAME - 1}")
            async with answer["Body"] as stream:
                return read_header(await stream.read()), answer["ETag"].encode()
        except (FileNotFoundError, CorruptFrame):
            return None, b""


def refused_condition(error: BaseException) -> bool:
    """Whether an error says that a condition did not hold: 412, also where s3fs made it an `OSError(EINVAL)`."""
    if isinstance(error, FileExistsError):
        return True
    return _status(error) in (409, 412)


def _status(error: BaseException) -> int:
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        seen = seen.__cause__ or seen.__context__
    return 0


def translated(error: BaseException) -> BackendError:
    """Ours for what s3fs, botocore or the network raised; never with a credential in its text."""
    status = _status(error)
    said = f"S3: {type(error).__name__}" + (f" (HTTP {status})" if status else "")
    if isinstance(error, PermissionError) or status in (401, 403):
        return BackendUnavailable(f"{said}: the credentials are refused")
    if status == 416:
        return BackendError(f"{said}: InvalidRange")
    if status == 507:
        return BackendFull(said)
    return BackendUnavailable(said)


class S3Backend:
    """A bucket for threads."""

    capabilities = CAPABILITIES

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        answer: T = self._bucket.submit(work).result()
        return answer

    def get(self, name: bytes) -> Stored | Missing:
        return self._wait(self._bucket.get(name))

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
        return self._wait(self._bucket.put(name, data, expires_at, if_absent, if_version))

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        return self._wait(self._bucket.delete(name, if_version))

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        return self._wait(self._bucket.get_range(name, offset, size))

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return self._wait(self._bucket.many([self._bucket.get(name) for name in names]))

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        bucket = self._bucket
        return self._wait(
            bucket.many([bucket.put(p.name, p.data, p.expires_at, p.if_absent, p.if_version) for p in puts])
        )

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return self._wait(self._bucket.many([self._bucket.delete(name, None) for name in names]))

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        if self._bucket.closed:
            raise BackendClosed("this S3 store was closed")
        return self._scan(prefix, after)

    def _scan(self, prefix: bytes, after: bytes) -> Iterator[Stat]:
        at = self._bucket._prefix + after[:100].hex() if after else ""
        while True:
            stats, at = self._wait(self._bucket.page(prefix, at))
            yield from (stat for stat in stats if stat.name > after)
            if not at:
                return

    def close(self) -> None:
        self._bucket.closed = True


class AsyncS3Backend:
    """A bucket for event loops; the requests run on fsspec's loop, so any loop may ask."""

    capabilities = CAPABILITIES

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        answer: T = await asyncio.wrap_future(self._bucket.submit(work))
        return answer

    async def get(self, name: bytes) -> Stored | Missing:
        return await self._wait(self._bucket.get(name))

    async def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        return await self._wait(self._bucket.put(name, data, expires_at, if_absent, if_version))

    async def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        return await self._wait(self._bucket.delete(name, if_version))

    async def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        return await self._wait(self._bucket.get_range(name, offset, size))

    async def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return await self._wait(self._bucket.many([self._bucket.get(name) for name in names]))

    async def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        bucket = self._bucket
        return await self._wait(
            bucket.many([bucket.put(p.name, p.data, p.expires_at, p.if_absent, p.if_version) for p in puts])
        )

    async def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return await self._wait(self._bucket.many([self._bucket.delete(name, None) for name in names]))

    async def scan(self, prefix: bytes, *, after: bytes = b"") -> AsyncIterator[Stat]:
        at = self._bucket._prefix + after[:100].hex() if after else ""
        while True:
            stats, at = await self._wait(self._bucket.page(prefix, at))
            for stat in stats:
                if stat.name > after:
                    yield stat
            if not at:
                return

    async def close(self) -> None:
        self._bucket.closed = True

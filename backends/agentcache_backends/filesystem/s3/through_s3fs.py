"""Requests to a bucket through s3fs: its session and its event loop, and the client of aiobotocore that it opened.

s3fs finds credentials, regions and endpoints as every AWS program does, and reopens after a fork. The requests go to
its client directly: its own `_cat_file` asks for the size first, which doubles what a small object costs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from agentcache_backends.filesystem.s3.bucket import AT_ONCE, Absent, Answer, BeyondTheEnd, Listed, Refused
from agentcache_backends.filesystem.s3.settings import S3Settings
from agentcache_core.errors import BackendError, BackendFull, BackendUnavailable

T = TypeVar("T")
X = TypeVar("X")
SLOWEST = 1_000_000
"""Bytes a second that an upload makes at the least, or it is given up."""
LARGE = 32 * 1024 * 1024
"""Bytes from which on an unconditional upload goes in parts."""
PART = 16 * 1024 * 1024
PARTS_AT_ONCE = 4
PAGE = 500
_OURS = re.compile("([0-9a-f]{2})+(~[0-9a-f]{32})?")
_UNKNOWN_CONDITION = (400, 501)
_NOT_TO_BE_HAD = (403, 404, 405, 501)


class S3fsClient:
    """One bucket, to be asked on the loop of fsspec (`loop`) only."""

    def __init__(self, settings: S3Settings) -> None:
        import s3fs  # type: ignore[import-untyped]  # it ships no types

        self._bucket = settings.bucket
        # The client's own timeouts do not cover every wait of its (a server that takes a request and says nothing).
        self._patience = 2.0 * settings.timeout
        self._fs: Any = s3fs.S3FileSystem(skip_instance_cache=True, **s3fs_options(settings))
        self.loop: asyncio.AbstractEventLoop = self._fs.loop
        self._deleting = [asyncio.Lock() for _ in range(AT_ONCE)]
        self._quoted: bool | None = None
        self._removes_conditionally = True

    async def _ask(self, verb: str, upload: int = 0, /, **arguments: Any) -> Any:
        """One request that sends `upload` bytes; trouble becomes ours. `Absent` where there is no such object."""
        try:
            async with asyncio.timeout(self._patience + upload / SLOWEST):
                await self._fs.set_session()
                client = await self._fs.get_s3(self._bucket)
                return await getattr(client, verb)(Bucket=self._bucket, **arguments)
        except Exception as error:
            raise self._translated(error) from error

    async def read(self, key: str, part: tuple[int, int] | None = None) -> Answer | None:
        try:
            return await self._read(key, part)
        except BackendUnavailable as error:
            if not _is_internal(error):
                raise
            return await self._read(key, part)  # S3's own word for it is to ask again, and a read may be

    async def _read(self, key: str, part: tuple[int, int] | None) -> Answer | None:
        wanted = {"Range": f"bytes={part[0]}-{part[0] + part[1] - 1}"} if part else {}
        try:
            answer = await self._ask("get_object", Key=key, **wanted)
            async with answer["Body"] as stream:
                return Answer(await stream.read(), _etag(answer))
        except Absent:
            return None
        except BeyondTheEnd:
            # An empty object has no range at all, only itself.
            return Answer(b"", b"") if part is None or part[0] else await self._read(key, None)
        except BackendError:
            raise
        except Exception as error:  # the body broke off
            raise self._translated(error) from error

    async def write(self, key: str, body: bytes, *, over: bytes | None = None, absent: bool = False) -> bytes | None:
        if over is None and not absent:
            if len(body) > LARGE:
                return await self._write_in_parts(key, body)
            return _etag(await self._ask("put_object", len(body), Key=key, Body=body))
        for condition in self._conditions(over) if over else [{"IfNoneMatch": "*"}]:
            try:
                answer = await self._ask("put_object", len(body), Key=key, Body=body, **condition)
            except Refused:
                continue
            except Absent:
                return None  # nothing is there to be replaced
            self._learn(condition)
            return _etag(answer)
        return None

    def _conditions(self, etag: bytes) -> list[dict[str, str]]:
        """How to say "only over this", in the order to try. An ETag has quotes; AWS takes it with and without, Ceph
        compares it with the bare one and refuses what is quoted."""
        quoted, bare = etag.decode(), etag.decode().strip('"')
        spellings = [quoted, bare] if self._quoted is None else [quoted if self._quoted else bare]
        return [{"IfMatch": spelling} for spelling in spellings]

    def _learn(self, condition: dict[str, str]) -> None:
        """Remember the spelling that a store accepted."""
        if "IfMatch" in condition:
            self._quoted = condition["IfMatch"].startswith('"')

    async def _write_in_parts(self, key: str, body: bytes) -> bytes:
        begun = await self._ask("create_multipart_upload", Key=key)
        upload = {"Key": key, "UploadId": begun["UploadId"]}
        whole = memoryview(body)
        limit = asyncio.Semaphore(PARTS_AT_ONCE)

        async def send(number: int) -> dict[str, Any]:
            async with limit:
                part = bytes(whole[(number - 1) * PART : number * PART])
                sent = await self._ask("upload_part", len(part), PartNumber=number, Body=part, **upload)
                return {"PartNumber": number, "ETag": sent["ETag"]}

        try:
            parts = await _all(send(number) for number in range(1, -(-len(body) // PART) + 1))
            done = await self._ask("complete_multipart_upload", MultipartUpload={"Parts": parts}, **upload)
        except BaseException:
            await asyncio.shield(self._give_up(upload))
            raise
        return _etag(done)

    async def _give_up(self, upload: dict[str, str]) -> None:
        """Take back the parts of an upload that failed; where that fails too, the sweep does it later."""
        try:
            await self._ask("abort_multipart_upload", **upload)
        except BackendError:
            return

    async def remove(self, key: str, *, only: bytes | None = None) -> bool:
        """Remove an object; with `only`, unless another stands there by now, as far as the store can tell.

        A store that refuses the condition as unknown is not asked with one again. Some ignore it without a word.
        """
        for condition in self._conditions(only) if only and self._removes_conditionally else [{}]:
            try:
                await self._ask("delete_object", Key=key, **condition)
            except Absent:
                return False
            except Refused:
                continue
            except BackendError as error:
                if not condition or _status(error.__cause__) not in _UNKNOWN_CONDITION:
                    raise
                removed = await self.remove(key)
                self._removes_conditionally = False
                return removed
            return True
        return False

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        async with self._deleting[hash(key) % AT_ONCE]:
            yield

    async def each(self, work: Callable[[X], Coroutine[Any, Any, T]], things: Sequence[X]) -> list[T]:
        line = iter(enumerate(things))
        answers: dict[int, T] = {}

        async def some() -> None:
            for index, thing in line:
                answers[index] = await work(thing)

        await _all(some() for _ in range(min(AT_ONCE, len(things))))
        return [answers[index] for index in range(len(things))]

    async def page(self, start: str, after: str) -> tuple[list[Listed], str]:
        """The next objects whose keys begin with `start`, in order, and where to go on ("" at the end)."""
        further = {"StartAfter": after} if after else {}
        answer = await self._ask("list_objects_v2", Prefix=start, Delimiter="/", MaxKeys=PAGE, **further)
        listed = [
            Listed(item["Key"], item["Size"], item["LastModified"].timestamp()) for item in answer.get("Contents", ())
        ]
        if not answer.get("IsTruncated"):
            return listed, ""
        folders = [item["Prefix"] for item in answer.get("CommonPrefixes", ())]
        # A folder inside ours belongs to others; the next page begins behind it.
        last = max([item.key for item in listed] + [f"{folder}\U0010ffff" for folder in folders], default="")
        return listed, last

    async def abandoned(self, folder: str, before: float) -> int:
        """Take back uploads in parts of ours that began before a time and never ended. Answers how many; none where the
        account or the store does not let them be listed, which a lifecycle rule of the bucket may do without."""
        try:
            answer = await self._ask("list_multipart_uploads", Prefix=folder)
        except BackendError as error:
            if _status(error.__cause__) in _NOT_TO_BE_HAD:
                return 0
            raise
        old = [
            found
            for found in answer.get("Uploads", ())
            if found["Initiated"].timestamp() < before and _OURS.fullmatch(found["Key"][len(folder) :])
        ]
        for found in old:
            await self._give_up({"Key": found["Key"], "UploadId": found["UploadId"]})
        return len(old)

    def _translated(self, error: Exception) -> BackendError:
        """Ours for what s3fs, botocore or the network raised; never with a credential in its text."""
        status, code = _status(error), _code(error)
        said = f"S3: {type(error).__name__}" + (f" (HTTP {status})" if status else "")
        if code == "NoSuchBucket":
            return BackendUnavailable(f"S3: bucket {self._bucket} does not exist")
        if isinstance(error, FileNotFoundError) or status == 404:
            return Absent(said)
        if status in (409, 412):
            return Refused(said)
        if status == 416:
            return BeyondTheEnd(said)
        if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
            return BackendUnavailable(f"{said}: the credentials are refused, or there are none")
        return BackendFull(said) if status == 507 else BackendUnavailable(said)


async def _all(work: Any) -> list[Any]:
    """The answers of coroutines run together; the first that fails ends the others, and is raised by itself."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _etag(answer: dict[str, Any]) -> bytes:
    """The ETag of an answer, with its quotes; b"" where the store does not tell."""
    return str(answer.get("ETag") or "").encode()


def _response(error: BaseException | None) -> dict[str, Any]:
    """What the store answered, where an exception or one behind it knows."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__ or error.__context__
    return {}


def _status(error: BaseException | None) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _code(error: BaseException | None) -> str:
    return str(_response(error).get("Error", {}).get("Code", ""))


def s3fs_options(settings: S3Settings) -> dict[str, Any]:
    """The arguments of `s3fs.S3FileSystem`."""
    config: dict[str, Any] = {
        "connect_timeout": settings.timeout,
        "read_timeout": settings.timeout,
        "retries": {"max_attempts": 1, "mode": "standard"},
        "max_pool_connections": AT_ONCE,
        # Frames carry a checksum of their own, and not every store knows the headers of AWS's.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if settings.style != "auto":
        config["s3"] = {"addressing_style": settings.style}
    options: dict[str, Any] = {
        "anon": settings.anonymous,
        "config_kwargs": config,
        "client_kwargs": {"region_name": settings.region} if settings.region else {},
    }
    if settings.endpoint:
        options["endpoint_url"] = settings.endpoint
    if settings.key:
        options |= {"key": settings.key, "secret": settings.secret}
    return options


def _is_internal(error: BackendError) -> bool:
    """Whether S3 answered 500, InternalError: trouble that passes, unlike 503, which asks for patience."""
    answer = getattr(error.__cause__, "response", None)
    told = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    return bool(told.get("HTTPStatusCode") == 500)

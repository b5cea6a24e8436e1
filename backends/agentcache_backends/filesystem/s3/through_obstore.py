"""Requests to a bucket through obstore: Rust's `object_store`, several times as quick as a client written in Python.

Its blocking calls are used, which release the interpreter's lock, on threads where several are to be under way. Its
asynchronous calls are slower by a half (each answer wakes the event loop twice), and one that is under way when a
program ends makes Rust report a panic.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

from agentcache_backends.filesystem.s3 import tokio
from agentcache_backends.filesystem.s3.bucket import AT_ONCE, Absent, Answer, BeyondTheEnd, Refused
from agentcache_backends.filesystem.s3.settings import S3Settings
from agentcache_backends.filesystem.s3.surroundings import Surroundings
from agentcache_core.errors import BackendError, BackendFull, BackendUnavailable
from agentcache_core.runtime import drive
from agentcache_core.watched import WatchedThreads

T = TypeVar("T")
X = TypeVar("X")
SLOWEST = 1_000_000
"""Bytes a second that an upload makes at the least, or it is given up."""
SMALL = 1024 * 1024
"""Bytes of an upload that the ordinary timeout covers."""
LARGE = 32 * 1024 * 1024
"""Bytes from which on an unconditional upload goes in parts."""
PART = 16 * 1024 * 1024
PARTS_AT_ONCE = 4
LONGEST = timedelta(minutes=10)
"""What a download that goes on and on may take."""
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_ANOTHER_REGION: Final = ("redirect without LOCATION", "<Code>AuthorizationHeaderMalformed</Code>")


class WrongRegion(BackendUnavailable):
    """The bucket is in another region; s3fs finds it by itself."""


class ObstoreClient:
    """One bucket. Nothing in its coroutines ever suspends."""

    def __init__(self, settings: S3Settings, around: Surroundings) -> None:
        self._bucket = settings.bucket
        self._small = _store(settings, around, settings.timeout)
        self._large = functools.cache(lambda: _store(settings, around, settings.timeout + LARGE / SLOWEST))
        self._quoted: bool | None = None
        self._deleting = [threading.Lock() for _ in range(AT_ONCE)]
        self._threads = WatchedThreads(AT_ONCE)

    def _ask(self, request: Callable[..., T], *args: Any, **options: Any) -> T:
        """One request; trouble becomes ours. `Absent` where there is no such object."""
        tokio.used()
        try:
            return request(*args, **options)
        except Exception as error:
            raise self._translated(error) from error

    async def read(self, key: str, part: tuple[int, int] | None = None) -> Answer | None:
        options = {"range": (part[0], part[0] + part[1])} if part else None
        try:
            return self._ask(_whole, self._small, key, options)
        except Absent:
            return None
        except BeyondTheEnd:
            # An empty object has no range at all, only itself.
            return Answer(b"", b"") if part is None or part[0] else await self.read(key)

    async def write(self, key: str, body: bytes, *, over: bytes | None = None, absent: bool = False) -> bytes | None:
        store = self._small if len(body) <= SMALL else self._large()
        if over is None and not absent:
            parts = len(body) > LARGE
            options = {"use_multipart": parts, "chunk_size": PART, "max_concurrency": PARTS_AT_ONCE}
            return _etag(self._ask(store.put, key, body, **options))
        for mode in self._modes(over) if over else ["create"]:
            try:
                answer = self._ask(store.put, key, body, mode=mode, use_multipart=False)
            except Refused:
                continue
            except Absent:
                return None  # nothing is there to be replaced
            if isinstance(mode, dict):
                self._quoted = mode["e_tag"].startswith('"')
            return _etag(answer)
        return None

    def _modes(self, etag: bytes) -> list[dict[str, str]]:
        """How to say "only over this", in the order to try; see `S3fsClient`."""
        quoted, bare = etag.decode(), etag.decode().strip('"')
        return [
            {"e_tag": each} for each in ([quoted, bare] if self._quoted is None else [quoted if self._quoted else bare])
        ]

    async def remove(self, key: str, *, only: bytes | None = None) -> bool:
        """Remove an object. obstore knows no conditional delete; those go through s3fs."""
        assert only is None
        try:
            self._ask(self._small.delete, key)
        except Absent:
            return False
        return True

    @asynccontextmanager
    async def alone(self, key: str) -> AsyncIterator[None]:
        with self._deleting[hash(key) % AT_ONCE]:
            yield

    async def each(self, work: Callable[[X], Coroutine[Any, Any, T]], things: Sequence[X]) -> list[T]:
        """A share of the things for each of several threads, the first for this one."""
        shares = min(AT_ONCE, len(things))
        answers: dict[int, T] = {}
        stop = threading.Event()

        def some(first: int) -> None:
            try:
                for index in range(first, len(things), shares):
                    if stop.is_set():
                        return
                    answers[index] = drive(work(things[index]))
            except BaseException:
                stop.set()
                raise

        others = [self._threads.submit(some, first) for first in range(1, shares)]
        if things:
            some(0)
        for other in others:
            other.result()
        return [answers[index] for index in range(len(things))]

    def _translated(self, error: Exception) -> BackendError:
        """Ours for what obstore raised. Its text holds addresses and what the store said, so only the kind is told."""
        text = str(error)
        status = int(found[1]) if (found := _STATUS.search(text)) else 0
        code = found[1] if (found := _CODE.search(text)) else ""
        said = f"S3: {type(error).__name__}" + (f" (HTTP {status})" if status else "")
        if code == "NoSuchBucket":
            return BackendUnavailable(f"S3: bucket {self._bucket} does not exist")
        if isinstance(error, FileNotFoundError) or status == 404:
            return Absent(said)
        if status in (409, 412):
            return Refused(said)
        if status == 416:
            return BeyondTheEnd(said)
        if any(sign in text for sign in _ANOTHER_REGION):
            return WrongRegion(f"{said}: the bucket is in another region; name it as ?region=")
        if status in (401, 403):
            return BackendUnavailable(f"{said}: the credentials are refused, or there are none")
        return BackendFull(said) if status == 507 else BackendUnavailable(said)


def _whole(store: Any, key: str, options: Any) -> Answer:
    result = store.get(key, options=options)
    return Answer(memoryview(result.bytes()), _etag(result.meta))


def _etag(answer: Any) -> bytes:
    return str(answer["e_tag"] or "").encode()


def _store(settings: S3Settings, around: Surroundings, patience: float) -> Any:
    """A store whose every wait is bounded by `patience` seconds. Whatever the environment could say is said here, since
    obstore would listen to it in its own way."""
    from obstore.store import S3Store

    waits = timedelta(seconds=patience)
    options: Any = {
        "connect_timeout": timedelta(seconds=settings.timeout),
        "read_timeout": waits,
        "timeout": max(LONGEST, 2 * waits),
        "allow_http": around.endpoint.startswith("http://"),
    }
    if around.certificates:
        options["root_certificate"] = around.certificates
    return S3Store(
        settings.bucket,
        endpoint=around.endpoint,
        aws_endpoint_url_s3=around.endpoint,
        region=around.region,
        virtual_hosted_style_request=around.virtual,
        skip_signature=around.credentials is None,
        credential_provider=cast(Any, around.credentials),
        conditional_put="etag",
        disable_bulk_delete=True,
        client_options=options,
        # A few more tries for what fails soon (Ceph answers 500 to who reads or writes what is being replaced), none
        # for what was waited for.
        retry_config={
            "max_retries": 6,
            "retry_timeout": timedelta(seconds=settings.timeout / 2),
            "backoff": {
                "init_backoff": timedelta(milliseconds=20),
                "max_backoff": timedelta(milliseconds=100),
                "base": 2,
            },
        },
    )

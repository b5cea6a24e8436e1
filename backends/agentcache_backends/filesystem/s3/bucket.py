"""What a bucket means: names become keys, a header stands before the data, conditions become those of S3.

One object a value. The version of a value is the object's ETag as the store gave it; it differs for every write, since
each header holds a fresh random stamp. The bodies are written once: a client that blocks lets them be driven by hand,
one that suspends runs them on its event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from agentcache_backends.filesystem.layout import FIXED, Header, flat, header_size, make_header, read_header
from agentcache_core.backend import MAX_NAME, Put, Stat, Stored, Version
from agentcache_core.clock import Clock
from agentcache_core.errors import BackendError, CorruptFrame
from agentcache_core.model import MISSING, Missing

T = TypeVar("T")
X = TypeVar("X")
AT_ONCE = 32
"""Requests of one batch that are under way together."""
NEAR = 64 * 1024
"""Bytes before a range that are cheaper to read along than to ask for the header apart."""
TRIES = 4


class Answer(NamedTuple):
    """What a read found: the bytes asked for, and the ETag with its quotes."""

    body: bytes | memoryview
    etag: bytes


class Listed(NamedTuple):
    """One object of a listing; times are wall-clock seconds."""

    key: str
    size: int
    modified_at: float


class Absent(BackendError):
    """There is no such object. A client keeps it to itself."""


class Refused(BackendError):
    """A condition did not hold. A client keeps it to itself."""


class BeyondTheEnd(BackendError):
    """A range that begins where the object ends, or later. A client keeps it to itself."""


class Client(Protocol):
    """Requests to one bucket. Trouble is raised as a `BackendError`.

    `read` answers None when there is no such object, and an empty body for a `part` (start, size) beyond its end.
    `write` answers the new ETag (b"" where the store does not tell), or None when its condition was refused: `over`
    an ETag, or `absent`. `alone` keeps other deletes of a key waiting. `each` works on many things at once, answers in
    their order, and stops at the first that fails.
    """

    async def read(self, key: str, part: tuple[int, int] | None = None) -> Answer | None: ...
    async def write(
        self, key: str, body: bytes, *, over: bytes | None = None, absent: bool = False
    ) -> bytes | None: ...
    async def remove(self, key: str, *, only: bytes | None = None) -> bool: ...
    def alone(self, key: str) -> AbstractAsyncContextManager[None]: ...
    async def each(self, work: Callable[[X], Coroutine[Any, Any, T]], things: Sequence[X]) -> list[T]: ...


class Bucket:
    """The verbs of one bucket and folder, as bodies over a client."""

    def __init__(self, client: Client, folder: str, clock: Clock) -> None:
        self._client = client
        self._folder = folder
        self._now = clock.now

    def _key(self, name: bytes) -> str:
        if not 1 <= len(name) <= MAX_NAME:
            raise BackendError(f"a name has 1 to {MAX_NAME} bytes, got {len(name)}")
        return self._folder + flat(name)

    async def get(self, name: bytes) -> Stored | Missing:
        found = await self._client.read(self._key(name))
        header = self._living(found, name)
        if found is None or header is None:
            return MISSING
        return Stored(bytes(found.body[header.size :]), found.etag)

    async def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return await self._client.each(self.get, names)

    async def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        key, before = self._key(name), header_size(name)
        if size <= 0 or offset <= NEAR:
            found = await self._client.read(key, (0, before + (offset + size if size > 0 else 0)))
            if self._living(found, name) is None or found is None:
                return MISSING
            return bytes(found.body[before + offset :]) if size > 0 else b""

        async def read(part: tuple[int, int]) -> Answer | None:
            return await self._client.read(key, part)

        head, rest = await self._client.each(read, [(0, before), (before + offset, size)])
        if self._living(head, name) is None or rest is None:
            return MISSING
        return bytes(rest.body)

    async def put(
        self, name: bytes, data: bytes, expires_at: float | None, if_absent: bool, if_version: Version | None
    ) -> Version | None:
        key = self._key(name)
        header, stamp = make_header(name, expires_at)
        if if_version is not None:
            present = await self._standing(name)
            if if_absent or present is None or present[1] != if_version or self._absent(present[0]):
                return None
        over, absent = if_version, if_absent
        for _ in range(TRIES):
            etag = await self._client.write(key, header + data, over=over, absent=absent)
            if etag:
                return etag
            found = await self._standing(name)
            if found is not None and found[0] is not None and found[0].version == stamp:
                return found[1]  # the store did not tell, or the client asked twice and the first did it
            if etag is not None:
                return stamp  # written, and replaced since: a version that nothing has
            if not if_absent or (found is not None and not self._absent(found[0])):
                return None
            # What is there counts as absent: replace exactly it.
            over, absent = (None, True) if found is None else (found[1], False)
        return None

    async def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        async def one(put: Put) -> Version | None:
            return await self.put(put.name, put.data, put.expires_at, put.if_absent, put.if_version)

        return await self._client.each(one, puts)

    async def delete(self, name: bytes, if_version: Version | None) -> bool:
        """S3 does not tell whether a delete found anything, so it is looked for first. Of deletes in this process
        exactly one counts; between processes two at the same moment may both say that they did it."""
        key = self._key(name)
        async with self._client.alone(key):
            present = await self._standing(name)
            if present is None or (if_version is not None and present[1] != if_version):
                return False
            if present[0] is not None and present[0].gone(self._now()):
                return False
            return await self._client.remove(key, only=if_version)

    async def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        async def one(name: bytes) -> bool:
            return await self.delete(name, None)

        return await self._client.each(one, names)

    async def spares_newer(self, name: bytes, expires_at: float) -> bool:
        """Whether the store itself refuses a delete of a version that has been replaced. Tries it on a name."""
        stale = await self.put(name, b"stale", expires_at, False, None)
        await self.put(name, b"newer", expires_at, False, None)
        return not await self._client.remove(self._key(name), only=stale)

    async def stats(self, listed: Sequence[Listed], prefix: bytes) -> list[Stat]:
        """What living values a listing holds. Reads headers, never values."""
        now = self._now()
        heads = await self._client.each(self._head, listed)
        return [
            Stat(header.name, item.size - header.size, item.modified_at, header.expires_at, etag)
            for item, (header, etag) in zip(listed, heads, strict=True)
            if header is not None and header.name.startswith(prefix) and not header.gone(now)
        ]

    async def expired(self, listed: Sequence[Listed], before: float) -> list[tuple[str, bytes]]:
        """Keys and ETags of those that expired before a time."""
        heads = await self._client.each(self._head, listed)
        return [
            (item.key, etag)
            for item, (header, etag) in zip(listed, heads, strict=True)
            if header is not None and header.gone(before)
        ]

    async def remove_these(self, found: Sequence[tuple[str, bytes]]) -> int:
        """Remove objects that are still what they were, looking once more. Answers how many went."""

        async def one(item: tuple[str, bytes]) -> bool:
            key, etag = item
            standing = await self._client.read(key, (0, FIXED))
            return standing is not None and standing.etag == etag and await self._client.remove(key, only=etag)

        return sum(await self._client.each(one, found))

    async def _head(self, item: Listed) -> tuple[Header | None, bytes]:
        found = await self._client.read(item.key, (0, FIXED + MAX_NAME))
        if found is None:
            return None, b""
        try:
            header = read_header(found.body)
        except CorruptFrame:
            return None, b""
        return (header, found.etag) if self._key(header.name) == item.key else (None, b"")

    async def _standing(self, name: bytes) -> tuple[Header | None, bytes] | None:
        """Header and ETag of what stands under a name, expired or not; no header where it cannot be read."""
        found = await self._client.read(self._key(name), (0, header_size(name)))
        if found is None:
            return None
        try:
            header = read_header(found.body)
        except CorruptFrame:
            return None, found.etag
        return (header, found.etag) if header.name == name else None

    def _absent(self, header: Header | None) -> bool:
        """Whether what stands there reads as nothing: expired, or unreadable."""
        return header is None or header.gone(self._now())

    def _living(self, found: Answer | None, name: bytes) -> Header | None:
        if found is None:
            return None
        header = read_header(found.body)
        return None if header.name != name or header.gone(self._now()) else header

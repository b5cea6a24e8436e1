"""The verbs of the seam over a bucket, for threads and for event loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from agentcache_backends.filesystem.layout import LONGEST
from agentcache_backends.filesystem.s3.bucket import AT_ONCE, Bucket
from agentcache_backends.filesystem.s3.connection import Connection
from agentcache_backends.filesystem.s3.settings import S3Settings
from agentcache_core.backend import AsyncBackend, Capabilities, Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed
from agentcache_core.model import Missing
from agentcache_core.resilience import InThreads

CAPABILITIES = Capabilities(durable=True, shared=True, ordered_scan=True)
SWEPT_EVERY = 3600.0
UNFINISHED = 86_400.0
"""Seconds after which an upload in parts is taken for abandoned."""


class S3Backend:
    """A bucket for threads."""

    capabilities = CAPABILITIES

    def __init__(self, settings: S3Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.connection = Connection(settings, clock)
        self._swept_at = float("-inf")

    def get(self, name: bytes) -> Stored | Missing:
        return self.connection.run(lambda bucket: bucket.get(name))

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
        return self.connection.run(lambda bucket: bucket.put(name, data, expires_at, if_absent, if_version))

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        conditional = if_version is not None
        return self.connection.run(lambda bucket: bucket.delete(name, if_version), by_s3fs=conditional)

    def get_range(self, name: bytes, offset: int, size: int) -> bytes | Missing:
        return self.connection.run(lambda bucket: bucket.get_range(name, offset, size))

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        return self.connection.run(lambda bucket: bucket.get_many(names))

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        return self.connection.run(lambda bucket: bucket.put_many(puts))

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return self.connection.run(lambda bucket: bucket.delete_many(names))

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        if self.connection.closed:
            raise BackendClosed("this S3 store was closed")
        return self._scan(prefix, after)

    def _scan(self, prefix: bytes, after: bytes) -> Iterator[Stat]:
        # Names alike in their first bytes are told apart by a hash: their order stands in their headers.
        for _, alike in groupby(self._listed(prefix, after), key=lambda stat: stat.name[:LONGEST]):
            yield from sorted((stat for stat in alike if stat.name > after), key=lambda stat: stat.name)

    def _listed(self, prefix: bytes, after: bytes) -> Iterator[Stat]:
        """Living values in the order of their keys; a few before `after` may be among them."""
        connection = self.connection
        folder = connection.settings.folder
        at, more = folder + after[:LONGEST].hex() if after else "", True
        while more:
            listed, at = connection.page(at, folder + prefix[:LONGEST].hex())
            yield from connection.run(partial(Bucket.stats, listed=listed, prefix=prefix))
            more = bool(at)

    def sweep(self, *, older_than: float = 3600.0) -> int:
        """Remove what expired more than `older_than` seconds ago, and uploads that never ended. Reads every header, so
        it does nothing when it did so within the last hour."""
        connection = self.connection
        now = connection.now()
        if now - self._swept_at < SWEPT_EVERY:
            return 0
        self._swept_at = now
        removed, at, more = connection.abandoned(now - max(older_than, UNFINISHED)), "", True
        while more:
            listed, at = connection.page(at, connection.settings.folder)
            found = connection.run(partial(Bucket.expired, listed=listed, before=now - older_than))
            removed += connection.run(partial(Bucket.remove_these, found=found), by_s3fs=True)
            more = bool(at)
        return removed

    def spares_newer(self, name: bytes) -> bool:
        """Whether the store itself refuses a conditional delete of what has been replaced. Tries it on a name."""
        expires_at = self.connection.now() + 60.0
        return self.connection.run(lambda bucket: bucket.spares_newer(name, expires_at), by_s3fs=True)

    def close(self) -> None:
        self.connection.close()


def on_event_loops(backend: S3Backend) -> AsyncBackend:
    """A bucket for event loops: the blocking one on threads, so that any loop may ask and none ever waits."""
    return InThreads(backend, threads=AT_ONCE)

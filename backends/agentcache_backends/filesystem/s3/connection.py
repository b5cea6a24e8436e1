"""How this process reaches a bucket: which client, chosen once, and how the bodies of `Bucket` are run with it."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

from agentcache_backends.filesystem.s3 import tokio
from agentcache_backends.filesystem.s3.bucket import Bucket, Listed
from agentcache_backends.filesystem.s3.settings import S3Settings
from agentcache_backends.filesystem.s3.surroundings import look_around
from agentcache_backends.filesystem.s3.through_obstore import ObstoreClient, WrongRegion
from agentcache_backends.filesystem.s3.through_s3fs import S3fsClient
from agentcache_core.clock import Clock
from agentcache_core.errors import BackendClosed, ConfigurationError
from agentcache_core.forking import watch
from agentcache_core.runtime import drive

T = TypeVar("T")
Body = Callable[[Bucket], Coroutine[Any, Any, T]]


class Connection:
    """One bucket for threads. Both clients are opened when first needed, and anew in a forked child, where obstore is
    used only if its parent had not used it."""

    def __init__(self, settings: S3Settings, clock: Clock) -> None:
        if settings.client == "obstore" and not installed():
            raise ConfigurationError("client=obstore needs the package obstore: pip install 'agentcache[obstore]'")
        self.settings = settings
        self.now = clock.now
        self.closed = False
        self._clock = clock
        self._parents: list[object] = []
        self._begin()
        watch(self)
        if settings.client == "obstore":
            self._quick()  # what cannot work is said at once

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._chosen = False
        self._without = ""
        self._obstore: Bucket | None = None
        self._s3fs: tuple[S3fsClient, Bucket] | None = None

    def after_fork(self) -> None:
        # A client of obstore must not be dropped where its threads are gone.
        self._parents += [self._obstore, self._s3fs]
        self._begin()

    @property
    def client(self) -> Literal["obstore", "s3fs"]:
        """Who sends the requests of this process."""
        return "s3fs" if self._quick() is None else "obstore"

    @property
    def without_obstore(self) -> str:
        """Why s3fs sends them; "" where obstore does."""
        self._quick()
        return self._without

    def run(self, body: Body[T], *, by_s3fs: bool = False) -> T:
        """Run a body to its end. `by_s3fs` is for what obstore cannot do."""
        if self.closed:
            raise BackendClosed("this S3 store was closed")
        bucket = None if by_s3fs else self._quick()
        if bucket is not None:
            try:
                return drive(body(bucket))
            except WrongRegion:
                self._give_obstore_up()
        client, bucket = self._slow()
        return asyncio.run_coroutine_threadsafe(body(bucket), client.loop).result()

    def page(self, after: str, start: str) -> tuple[list[Listed], str]:
        """The next objects whose keys begin with `start`. Lists through s3fs: obstore lists by whole folders only, and
        stops at foreign keys that are no plain paths."""
        if self.closed:
            raise BackendClosed("this S3 store was closed")
        client, _ = self._slow()
        return asyncio.run_coroutine_threadsafe(client.page(start, after), client.loop).result()

    def abandoned(self, before: float) -> int:
        """Take back uploads that never ended."""
        client, _ = self._slow()
        work = client.abandoned(self.settings.folder, before)
        return asyncio.run_coroutine_threadsafe(work, client.loop).result()

    def _quick(self) -> Bucket | None:
        if not self._chosen:
            with self._lock:
                if not self._chosen:
                    self._obstore = self._choose()
                    self._chosen = True
        return self._obstore

    def _choose(self) -> Bucket | None:
        settings = self.settings
        if settings.client == "s3fs":
            self._without = "the URL asks for s3fs"
        elif not installed():
            self._without = "obstore is not installed"
        elif not tokio.alive():
            self._without = "this process was forked from one that used obstore"
        else:
            around = look_around(settings)
            if not around.odd:
                return Bucket(ObstoreClient(settings, around), settings.folder, self._clock)
            if settings.client == "obstore":
                raise ConfigurationError(f"client=obstore cannot reach s3://{settings.bucket}: {around.odd}")
            self._without = around.odd
        return None

    def _give_obstore_up(self) -> None:
        self._parents.append(self._obstore)  # others may be using it
        self._obstore, self._without = None, "the bucket is in another region than the one that was named"

    def _slow(self) -> tuple[S3fsClient, Bucket]:
        if self._s3fs is None:
            with self._lock:
                if self._s3fs is None:
                    client = S3fsClient(self.settings)
                    self._s3fs = client, Bucket(client, self.settings.folder, self._clock)
        return self._s3fs

    def close(self) -> None:
        self.closed = True


def installed() -> bool:
    """Whether obstore can be imported."""
    return importlib.util.find_spec("obstore") is not None

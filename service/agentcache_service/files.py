"""Files beside the database that every process must see: mails of the outbox, packages, sealed credentials.

With `files_url` they lie in a store that all machines reach (a bucket, a shared folder), under `<kind>/<name>`. Without
it each kind keeps its own folder on this machine, as files that other programs can read.
"""

from __future__ import annotations

import threading
from typing import cast

from agentcache_core.backend import Backend
from agentcache_core.urls import open_backend
from agentcache_service.settings import Settings

_DEADLINE_S = 10.0


class SharedFiles:
    """Named bytes in one store. Opened at first use; safe from several threads. Raises `BackendError` where the store
    does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._backend: Backend | None = None

    def _store(self) -> Backend:
        with self._lock:
            if self._backend is None:
                opened = open_backend(self._url, face="blocking", deadline=_DEADLINE_S)
                self._backend = cast(Backend, opened)  # the blocking face was asked for
            return self._backend

    def put(self, name: str, body: bytes) -> None:
        """Keep a body under a name, replacing what was there."""
        self._store().put(name.encode(), body)

    def get(self, name: str) -> bytes | None:
        """The body of a name, or None."""
        stored = self._store().get(name.encode())
        return stored.data if stored else None

    def remove(self, name: str) -> bool:
        """Forget a name; False when there was none."""
        return self._store().delete(name.encode())

    def names(self, folder: str) -> list[str]:
        """The names in a folder, without it, in order."""
        prefix = f"{folder}/".encode()
        return sorted(stat.name[len(prefix) :].decode() for stat in self._store().scan(prefix))

    def close(self) -> None:
        """Let go of the store; the next call opens it again."""
        with self._lock:
            if self._backend is not None:
                self._backend.close()
            self._backend = None


def shared_files(settings: Settings) -> SharedFiles | None:
    """The store the settings name; None where files stay on this machine."""
    return SharedFiles(settings.files_url) if settings.files_url else None

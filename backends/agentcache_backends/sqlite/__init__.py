"""SQLite as a place to keep entries: one file, many threads, many processes.

URL: `sqlite:///relative.db`, `sqlite:////absolute.db`. Options: `durability` (`normal`: a power cut may lose the last
writes, never tear one; `full`: an acknowledged write survives it), `max_bytes` (bound of the whole store),
`max_inline` (values above it become files beside the database; default 64KiB), `timeout` (how long a call may wait
for another writer; default 250ms), `log_length` (events kept per topic; default 10000).
"""

from __future__ import annotations

from agentcache_backends.sqlite.store import SqliteBackend
from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.errors import ConfigurationError
from agentcache_core.resilience import in_threads
from agentcache_core.urls import Face, Options, StoreUrl

__all__ = ["SqliteBackend", "open_url"]


def open_url(url: StoreUrl, *, face: Face) -> Backend | AsyncBackend:
    """The backend that a `sqlite://` URL names."""
    if url.host or url.port or url.username or url.password:
        raise ConfigurationError(
            f"sqlite:// takes no host: write sqlite:///{url.host}{url.path} for a path relative to the working folder, "
            "or four slashes for an absolute one"
        )
    options = Options(url)
    durability = options.choice("durability", ("normal", "full"), "normal")
    max_bytes = options.size("max_bytes", least=256 * 1024)
    max_inline = options.size("max_inline", 64 * 1024, least=0)
    timeout = options.duration("timeout", url.deadline)
    log_length = options.integer("log_length", 10_000, least=1)
    options.finish()
    path = url.path.removeprefix("/")
    if path in ("", "/") or path.endswith("/"):
        raise ConfigurationError(f"sqlite:// needs the path of a file, such as sqlite:///cache.db, got {url.shown}")
    backend = SqliteBackend(
        path,
        durability="full" if durability == "full" else "normal",
        max_bytes=max_bytes,
        max_inline=max_inline or 0,
        timeout=timeout,
        log_length=log_length,
    )
    return in_threads(backend) if face == "async" else backend

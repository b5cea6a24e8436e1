"""Files and objects as places to keep entries: `file://`, `s3://`, and whatever else fsspec reaches.

`file:///folder?durability=normal|full` keeps values as local files (0600, written beside and renamed).
`s3://bucket/prefix` keeps them as objects; options `endpoint`, `region`, `anon`, `timeout`, `style`, `client`;
credentials from the URL (`key` and `secret`, or `s3://key:secret@bucket/…`) or the environment. `gs://`, `az://` and
`fsspec://PROTOCOL/path` go through fsspec.
"""

from __future__ import annotations

from typing import Any

from agentcache_backends.filesystem.local import LocalBackend
from agentcache_core.backend import AsyncBackend, Backend
from agentcache_core.errors import ConfigurationError
from agentcache_core.resilience import in_threads
from agentcache_core.urls import Face, Options, StoreUrl

__all__ = ["LocalBackend", "open_url"]


def open_url(url: StoreUrl, *, face: Face) -> Backend | AsyncBackend:
    """The backend that a file or object URL names."""
    if url.scheme == "file":
        backend: Any = _open_local(url)
    elif url.scheme == "s3":
        return _open_s3(url, face)
    else:
        backend = _open_generic(url)
    return in_threads(backend) if face == "async" else backend


def _open_local(url: StoreUrl) -> LocalBackend:
    if url.host:
        raise ConfigurationError(f"file:// takes a path: write file:///folder, got {url.shown}")
    options = Options(url)
    durability = options.choice("durability", ("normal", "full"), "normal")
    timeout = options.duration("timeout", url.deadline)
    options.finish()
    if url.path in ("", "/"):
        raise ConfigurationError(
            f"file:// needs the path of a folder, such as file:///var/cache/agent, got {url.shown}"
        )
    return LocalBackend(url.path, durability="full" if durability == "full" else "normal", timeout=timeout)


def _open_s3(url: StoreUrl, face: Face) -> Backend | AsyncBackend:
    from agentcache_backends.filesystem.s3 import S3Backend, on_event_loops, settings_of

    backend = S3Backend(settings_of(url))
    return on_event_loops(backend) if face == "async" else backend


def _open_generic(url: StoreUrl) -> Any:
    import fsspec  # type: ignore[import-untyped]  # it ships no types

    from agentcache_backends.filesystem.generic import FsspecBackend

    protocol, path = (url.host, url.path) if url.scheme == "fsspec" else (url.scheme, f"{url.host}{url.path}")
    Options(url).finish()
    try:
        fs = fsspec.filesystem(protocol, skip_instance_cache=True)  # it is changed, and somebody else's may not be
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise ConfigurationError(f"fsspec cannot open {protocol}://: {error}") from error
    return FsspecBackend(fs, path)

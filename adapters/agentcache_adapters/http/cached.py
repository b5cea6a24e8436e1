"""Any HTTP client of either library, wrapped: chooses the library by the client's own class."""

from __future__ import annotations

import importlib
from typing import Any

from agentcache_core import AsyncCache, Cache

LIBRARIES = ("httpx2", "httpx")


def cached_http(client: Any, cache: Cache | AsyncCache, **options: Any) -> Any:
    """A client like `client` that answers repeated calls from `cache`; `TypeError` for one of another library."""
    for base in type(client).__mro__:
        library = base.__module__.partition(".")[0]
        if library in LIBRARIES and base.__name__ in ("Client", "AsyncClient"):
            shim = importlib.import_module(f"agentcache_adapters.http.{library}")
            wrap = shim.cached_async if base.__name__ == "AsyncClient" else shim.cached
            return wrap(client, cache, **options)
    raise TypeError(f"{type(client).__module__}.{type(client).__qualname__} is not a client of httpx or httpx2")

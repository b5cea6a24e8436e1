"""Other people's interfaces over the cache: one integration, one file, each behind its own extra, imported late."""

from __future__ import annotations

import importlib
from typing import Any, TypeVar

C = TypeVar("C")

_ADAPTERS = {
    "openai": "agentcache_adapters.openai",
    "anthropic": "agentcache_adapters.anthropic",
    "replicate": "agentcache_adapters.replicate",
    "httpx": "agentcache_adapters.http.cached",
    "httpx2": "agentcache_adapters.http.cached",
}


def cached(client: C, cache: Any, **options: Any) -> C:
    """`client` with `cache` under it: an OpenAI, Anthropic or Replicate client, or one of httpx or httpx2.

    The result is used exactly as `client` is. `options` are those of the adapter. `TypeError` for any other client.
    """
    for base in type(client).__mro__:
        adapter = _ADAPTERS.get(base.__module__.partition(".")[0])
        if adapter is not None:
            module = importlib.import_module(adapter)
            wrapped: C = getattr(module, "cached_http" if adapter.endswith(".cached") else "cached")(
                client, cache, **options
            )
            return wrapped
    raise TypeError(
        f"no adapter for {type(client).__module__}.{type(client).__qualname__}; wrap its httpx or httpx2 client, "
        "or use cache.memoize"
    )


__all__ = ["cached"]

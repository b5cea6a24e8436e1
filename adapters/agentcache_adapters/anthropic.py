"""The Anthropic SDK with a cache under it: `client = cached(Anthropic(), cache)`, and nothing else changes."""

from __future__ import annotations

from typing import Any, TypeVar

from agentcache_core import AsyncCache, Cache

try:
    from anthropic import Anthropic, AsyncAnthropic
except ImportError as error:
    raise ImportError("this adapter needs the Anthropic SDK: pip install 'agentcache[anthropic]'") from error

from agentcache_adapters.http.cached import cached_http

C = TypeVar("C", Anthropic, AsyncAnthropic)


def cached(client: C, cache: Cache | AsyncCache, **options: Any) -> C:
    """A client like `client` whose repeated messages are answered from `cache`, streamed or not.

    `options` are those of the HTTP transports: rules, secret, pace, annotate. Closing the result closes `client` too.
    """
    return client.copy(http_client=cached_http(client._client, cache, **options))

"""The OpenAI SDK with a cache under it: `client = cached(OpenAI(), cache)`, and nothing else changes."""

from __future__ import annotations

from typing import Any, TypeVar

from agentcache_core import AsyncCache, Cache

try:
    from openai import AsyncOpenAI, OpenAI
except ImportError as error:
    raise ImportError("this adapter needs the OpenAI SDK: pip install 'agentcache[openai]'") from error

from agentcache_adapters.http.cached import cached_http

C = TypeVar("C", OpenAI, AsyncOpenAI)


def cached(client: C, cache: Cache | AsyncCache, **options: Any) -> C:
    """A client like `client` (Azure and other subclasses too) whose repeated model calls are answered from `cache`.

    Chat completions, responses and embeddings are covered, streamed or not. `options` are those of the HTTP transports:
    rules, secret, pace, annotate. Closing the result closes `client` too.
    """
    return client.copy(http_client=cached_http(client._client, cache, **options))

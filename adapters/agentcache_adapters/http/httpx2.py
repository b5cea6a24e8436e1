"""Caching transports for httpx2, the HTTP library under the OpenAI and Anthropic SDKs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from agentcache_core import AsyncCache, Cache

try:
    import httpx2
except ImportError as error:
    raise ImportError("this transport needs httpx2: pip install 'agentcache[httpx2]'") from error

from agentcache_adapters.http.aflight import AsyncSource
from agentcache_adapters.http.asynchronous import AsyncConduct
from agentcache_adapters.http.blocking import BlockingConduct
from agentcache_adapters.http.exchange import Opened
from agentcache_adapters.http.flight import Source
from agentcache_adapters.http.headers import CONTROL_PREFIX
from agentcache_adapters.http.messages import HttpCall, ResponseHead, lowered, raw


class CacheTransport(httpx2.BaseTransport):
    """A blocking transport that answers repeated model calls from `cache` and sends the rest through `inner`.

    `options` are those of `BlockingConduct`: rules, secret, pace, annotate.
    """

    def __init__(self, cache: Cache | AsyncCache, inner: httpx2.BaseTransport | None = None, **options: Any) -> None:
        self._inner = inner or httpx2.HTTPTransport()
        self._conduct = BlockingConduct(cache, **options)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        call = _call(request)
        if not self._conduct.rules.covers(call):
            return self._inner.handle_request(_outgoing(request))
        reply = self._conduct.answer(call.with_body(request.read()), lambda: self._send(request))
        return httpx2.Response(
            reply.status, headers=raw(reply.headers), stream=_Stream(reply.body), extensions=dict(reply.extensions)
        )

    def _send(self, request: httpx2.Request) -> Opened[Source]:
        response = self._inner.handle_request(_outgoing(request))
        assert isinstance(response.stream, httpx2.SyncByteStream)
        return Opened(_head(response), response.stream, response.extensions)

    def close(self) -> None:
        """Close `inner`; the cache stays open, it belongs to whoever made it."""
        self._inner.close()


class AsyncCacheTransport(httpx2.AsyncBaseTransport):
    """The async twin of `CacheTransport`."""

    def __init__(
        self, cache: Cache | AsyncCache, inner: httpx2.AsyncBaseTransport | None = None, **options: Any
    ) -> None:
        self._inner = inner or httpx2.AsyncHTTPTransport()
        self._conduct = AsyncConduct(cache, **options)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        call = _call(request)
        if not self._conduct.rules.covers(call):
            return await self._inner.handle_async_request(_outgoing(request))
        reply = await self._conduct.answer(call.with_body(await request.aread()), lambda: self._send(request))
        return httpx2.Response(
            reply.status,
            headers=raw(reply.headers),
            stream=_AsyncStream(reply.body),
            extensions=dict(reply.extensions),
        )

    async def _send(self, request: httpx2.Request) -> Opened[AsyncSource]:
        response = await self._inner.handle_async_request(_outgoing(request))
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return Opened(_head(response), response.stream, response.extensions)

    async def aclose(self) -> None:
        """Close `inner`; the cache stays open, it belongs to whoever made it."""
        await self._inner.aclose()


class _Stream(httpx2.SyncByteStream):
    def __init__(self, body: Source) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        self._body.close()


class _AsyncStream(httpx2.AsyncByteStream):
    def __init__(self, body: AsyncSource) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.__aiter__()

    async def aclose(self) -> None:
        await self._body.aclose()


def _call(request: httpx2.Request) -> HttpCall:
    patience = (request.extensions.get("timeout") or {}).get("read")
    return HttpCall(request.method.upper(), str(request.url), lowered(request.headers.raw), b"", patience)


def _head(response: httpx2.Response) -> ResponseHead:
    return ResponseHead(response.status_code, lowered(response.headers.raw))


def _outgoing(request: httpx2.Request) -> httpx2.Request:
    """The request without our own headers; the very same object when it has none."""
    if not any(name.lower().startswith(CONTROL_PREFIX) for name in request.headers):
        return request
    headers = [pair for pair in request.headers.raw if not pair[0].lower().startswith(CONTROL_PREFIX.encode())]
    return httpx2.Request(
        request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
    )


def cached(client: httpx2.Client, cache: Cache | AsyncCache, **options: Any) -> httpx2.Client:
    """A client with the settings and connections of `client`, answering repeated calls from `cache`.

    Closing it closes `client` too; `options` are those of `CacheTransport`.
    """
    return httpx2.Client(
        transport=CacheTransport(cache, _Lent(client, client._transport), **options),
        mounts={
            pattern.pattern: None if inner is None else CacheTransport(cache, _Lent(client, inner), **options)
            for pattern, inner in client._mounts.items()
        },
        **_settings(client),
    )


def cached_async(client: httpx2.AsyncClient, cache: Cache | AsyncCache, **options: Any) -> httpx2.AsyncClient:
    """The async twin of `cached`."""
    return httpx2.AsyncClient(
        transport=AsyncCacheTransport(cache, _AsyncLent(client, client._transport), **options),
        mounts={
            pattern.pattern: None if inner is None else AsyncCacheTransport(cache, _AsyncLent(client, inner), **options)
            for pattern, inner in client._mounts.items()
        },
        **_settings(client),
    )


def _settings(client: httpx2.Client | httpx2.AsyncClient) -> dict[str, Any]:
    names = "auth params headers cookies timeout follow_redirects max_redirects event_hooks base_url trust_env"
    return {name: getattr(client, name) for name in names.split()} | {"default_encoding": client._default_encoding}


class _Lent(httpx2.BaseTransport):
    """The transport of another client, which stays alive with it and is closed through it."""

    def __init__(self, owner: httpx2.Client, transport: httpx2.BaseTransport) -> None:
        self._owner, self._transport = owner, transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._owner.close()


class _AsyncLent(httpx2.AsyncBaseTransport):
    """The async twin of `_Lent`."""

    def __init__(self, owner: httpx2.AsyncClient, transport: httpx2.AsyncBaseTransport) -> None:
        self._owner, self._transport = owner, transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._owner.aclose()

"""Replicate: predictions keyed by version and input, outputs stored as bytes before they vanish at the provider."""

from __future__ import annotations

import io
import logging
import mimetypes
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from agentcache_core import AsyncCache, Cache, Cost
from agentcache_core.errors import KeyingError, ReplayMiss

try:
    from replicate import identifier
    from replicate.client import Client
    from replicate.helpers import FileOutput
except ImportError as error:
    raise ImportError("this adapter needs Replicate's SDK: pip install 'agentcache[replicate]'") from error

from agentcache_adapters.credentials import digest

_log = logging.getLogger("agentcache.replicate")
_FILE = "agentcache:file"
_IGNORED = frozenset(
    {"wait", "webhook", "webhook_completed", "webhook_events_filter", "file_encoding_strategy", "stream"}
)


def cached(client: Client, cache: Cache | AsyncCache, **options: Any) -> CachedReplicate:
    """A client like `client` whose `run` and `async_run` answer repeated predictions from `cache`."""
    return CachedReplicate(client, cache, **options)


class StoredFile(FileOutput):
    """An output file whose bytes are here: reading it needs no network. `url` is where the provider had it."""

    def __init__(self, url: str, content: bytes, client: Client) -> None:
        super().__init__(url, client)
        self._content = content

    def read(self) -> bytes:
        return self._content

    async def aread(self) -> bytes:
        return self._content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


class CachedReplicate(Client):
    """A Replicate client over the same connections as `client`.

    The key holds the model and version, the input (files by content hash) and the account. Only predictions that
    succeeded are stored, with the bytes of their output files, which the provider deletes after an hour. Outputs that
    are iterated are stored once they have been iterated to the end. Everything but `run` and `async_run` is as it was.
    """

    def __init__(
        self, client: Client, cache: Cache | AsyncCache, *, ttl: float | str | None = None, secret: bytes = b""
    ) -> None:
        self.__dict__.update(client.__dict__)
        self._lender = client
        self._cache: Cache = cache.blocking if isinstance(cache, AsyncCache) else cache
        self._options: dict[str, Any] = {} if ttl is None else {"ttl": ttl}
        self._account = digest([("api_token", client._api_token or "")], secret=secret)

    @property
    def _client(self) -> Any:
        return self._lender._client

    @property
    def _async_client(self) -> Any:
        return self._lender._async_client

    def run(self, ref: Any, input: dict[str, Any] | None = None, **params: Any) -> Any:
        """The output of a model, stored or computed."""
        keyed = self._keyed(ref, input, params)
        if keyed is None:
            return super().run(ref, input, **params)
        stored = self._find(keyed)
        if stored is not None:
            return self._opened(stored)
        watching = _Watching(self._lender)
        output = watching.run(ref, input, **params)
        if isinstance(output, Iterator):
            return self._recorded(keyed, output, watching)
        output = _with_bytes(output)
        if watching.succeeded:
            self._store(keyed, {"iterated": False, "output": _packed(output)})
        return output

    async def async_run(self, ref: Any, input: dict[str, Any] | None = None, **params: Any) -> Any:
        """As `run`."""
        keyed = self._keyed(ref, input, params)
        if keyed is None:
            return await super().async_run(ref, input, **params)
        stored = await self._afind(keyed)
        if stored is not None:
            opened = self._opened(stored)
            return _aiterated(opened) if stored["iterated"] else opened
        watching = _Watching(self._lender)
        output = await watching.async_run(ref, input, **params)
        if isinstance(output, AsyncIterator):
            return self._arecorded(keyed, output, watching)
        output = await _awith_bytes(output)
        if watching.succeeded:
            await self._astore(keyed, {"iterated": False, "output": _packed(output)})
        return output

    # Outputs that are iterated: they pass as they come and are stored at their end

    def _recorded(self, keyed: dict[str, Any], output: Iterator[Any], watching: _Watching) -> Iterator[Any]:
        items = []
        for item in output:
            items.append(_with_bytes(item))
            yield items[-1]
        if watching.succeeded:
            self._store(keyed, {"iterated": True, "output": _packed(items)})

    async def _arecorded(
        self, keyed: dict[str, Any], output: AsyncIterator[Any], watching: _Watching
    ) -> AsyncIterator[Any]:
        items = []
        async for item in output:
            items.append(await _awith_bytes(item))
            yield items[-1]
        if watching.succeeded:
            await self._astore(keyed, {"iterated": True, "output": _packed(items)})

    # The cache, whose trouble is never the caller's

    def _keyed(self, ref: Any, input: dict[str, Any] | None, params: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            _, owner, name, version = identifier._resolve(ref)
            further = {name: value for name, value in params.items() if name not in _IGNORED}
            keyed = {
                "replicate": version or f"{owner}/{name}",
                "input": _content_of(input or {}),
                "parameters": {"use_file_output": True, **further},
                "account": self._account,
                "base_url": self._base_url or "",
            }
            self._cache.key(keyed)
        except (KeyingError, OSError, ValueError) as problem:
            self._cache.bypassed(f"the prediction has no key: {problem}", kind="generic")
            return None
        return keyed

    def _find(self, keyed: dict[str, Any]) -> Any:
        try:
            return self._cache.get(keyed, None)
        except ReplayMiss:
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return None

    async def _afind(self, keyed: dict[str, Any]) -> Any:
        try:
            return await self._cache.aio.get(keyed, None)
        except ReplayMiss:
            raise
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the cache could not be read", exc_info=True)
            return None

    def _store(self, keyed: dict[str, Any], value: dict[str, Any]) -> None:
        try:
            self._cache.set(keyed, value, cost=Cost(), **self._options)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the output could not be stored", exc_info=True)

    async def _astore(self, keyed: dict[str, Any], value: dict[str, Any]) -> None:
        try:
            await self._cache.aio.set(keyed, value, cost=Cost(), **self._options)
        except Exception:  # noqa: BLE001 - a cache may fail, the agent may not
            _log.warning("the output could not be stored", exc_info=True)

    def _opened(self, stored: Mapping[str, Any]) -> Any:
        output = self._unpacked(stored["output"])
        return iter(output) if stored["iterated"] else output

    def _unpacked(self, output: Any) -> Any:
        if isinstance(output, dict):
            if _FILE in output:
                return StoredFile(output[_FILE], output["content"], self)
            return {name: self._unpacked(value) for name, value in output.items()}
        return [self._unpacked(item) for item in output] if isinstance(output, list) else output


class _Watching(Client):
    """The client of one run: remembers how the prediction it made stands, which `run` does not tell."""

    def __init__(self, client: Client) -> None:
        self.__dict__.update(client.__dict__)
        self._lender = client
        self._status = ""

    @property
    def _client(self) -> Any:
        return self._lender._client

    @property
    def _async_client(self) -> Any:
        return self._lender._async_client

    @property
    def succeeded(self) -> bool:
        return self._status == "succeeded"

    def _request(self, method: str, path: str, **kwargs: Any) -> Any:
        return self._seen(super()._request(method, path, **kwargs), path)

    async def _async_request(self, method: str, path: str, **kwargs: Any) -> Any:
        return self._seen(await super()._async_request(method, path, **kwargs), path)

    def _seen(self, response: Any, path: str) -> Any:
        if "/predictions" in path:
            self._status = str(response.json().get("status", ""))
        return response


async def _aiterated(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def _content_of(value: Any) -> Any:
    """An input as it counts: files by the hash of their content and their media type, wherever they stand."""
    if isinstance(value, Mapping):
        return {name: _content_of(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_content_of(item) for item in value]
    if isinstance(value, Path):
        return _file(value.read_bytes(), str(value))
    if isinstance(value, io.IOBase):
        place = value.tell()
        value.seek(0)
        content = value.read()
        value.seek(place)
        return _file(content.encode() if isinstance(content, str) else content, str(getattr(value, "name", "")))
    return value.tolist() if callable(getattr(value, "tolist", None)) else value


def _file(content: bytes, name: str) -> dict[str, str]:
    return {"file": blake3(content).hexdigest(), "type": mimetypes.guess_type(name)[0] or ""}


def _with_bytes(output: Any) -> Any:
    """The output with the bytes of its files in it; a file that cannot be fetched stays as it is."""
    if isinstance(output, dict):
        return {name: _with_bytes(value) for name, value in output.items()}
    if isinstance(output, list):
        return [_with_bytes(item) for item in output]
    if type(output) is FileOutput:
        try:
            return StoredFile(output.url, output.read(), output._client)
        except Exception:  # noqa: BLE001 - the caller meets the same problem when reading, as without a cache
            _log.warning("an output file could not be fetched", exc_info=True)
    return output


async def _awith_bytes(output: Any) -> Any:
    if isinstance(output, dict):
        return {name: await _awith_bytes(value) for name, value in output.items()}
    if isinstance(output, list):
        return [await _awith_bytes(item) for item in output]
    if type(output) is FileOutput:
        try:
            return StoredFile(output.url, await output.aread(), output._client)
        except Exception:  # noqa: BLE001 - the caller meets the same problem when reading, as without a cache
            _log.warning("an output file could not be fetched", exc_info=True)
    return output


def _packed(output: Any) -> Any:
    """The output as a value of plain types. A file without its bytes is left in, which makes the value unstorable."""
    if isinstance(output, dict):
        return {name: _packed(value) for name, value in output.items()}
    if isinstance(output, list):
        return [_packed(item) for item in output]
    return {_FILE: output.url, "content": output.read()} if isinstance(output, StoredFile) else output

"""The remote client: a backend over the hosted service's `/api/v1/objects`, and the schemes `agentcache+https` and
`agentcache+http` (the latter on this machine only).

    cache = Cache("agentcache+https://cache.example.com", namespace="storage", api_key="ac_…")

The engine runs here; the service keeps opaque frames and charges them to the organization's quota. Keys are computed
with the tenant that the service says the key belongs to, so that an entry set here is a hit of the service's own
`/api/cache/get`, and the other way round.

The service may be far away: a call has `DEADLINE` rather than the 250 ms of nearby stores (`?timeout=…` or another
`deadline=` say otherwise), and the connection is made when the cache is opened, not by the first call.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import ormsgpack

from agentcache_core.backend import AsyncBackend, Backend, Capabilities, Put, Stat, Stored, Version
from agentcache_core.errors import (
    BackendClosed,
    BackendError,
    BackendFull,
    BackendReadOnly,
    BackendUnavailable,
    ConfigurationError,
)
from agentcache_core.model import MISSING, Missing
from agentcache_core.resilience import in_threads
from agentcache_core.urls import Face, Options, StoreUrl

if TYPE_CHECKING:
    import httpx2

DEADLINE = 5.0
"""Seconds a call may take where neither the URL nor the cache says otherwise."""
_CONNECT = 10.0
_KEEP_ALIVE = 60.0
_BATCH = 500
_KEYS: dict[str, tuple[str, str]] = {}  # account mark of a URL -> (namespace, API key); keys never stand in URLs
_CONNECTED: dict[str, RemoteBackend] = {}  # account mark -> the backend that asked for the tenant, until it is opened
_ENVIRONMENT = "AGENTCACHE_API_KEY"


def sign_in(url: StoreUrl, *, api_key: str | None, namespace: str, tenant: str) -> tuple[str, str]:
    """What `Cache(url, api_key=…)` calls: the URL to open with, and the tenant the key belongs to.

    Asks the service unless `tenant` is given. Raises `ConfigurationError` when the key is refused or nobody answers.
    """
    key = api_key or os.environ.get(_ENVIRONMENT)
    if not key:
        raise ConfigurationError(f"{url.scheme}:// needs api_key=… or the environment variable {_ENVIRONMENT}")
    if not namespace:
        raise ConfigurationError(f'{url.scheme}:// needs namespace="…", one of your organization\'s namespaces')
    mark = secrets.token_hex(8)
    _KEYS[mark] = (namespace, key)
    opened = url.text + ("&" if "?" in url.text else "?") + f"account={mark}"
    if tenant:
        return opened, tenant
    backend = RemoteBackend(_base(url), namespace=namespace, api_key=key, timeout=_seconds(Options(url)))
    try:
        tenant = backend.tenant()
    except BackendError as problem:
        backend.close()
        raise ConfigurationError(
            f"{url.shown} did not say whom this API key belongs to: {problem}. "
            "Is the service running? With tenant=… the cache opens without asking."
        ) from problem
    _CONNECTED[mark] = backend
    return opened, tenant


def open_url(url: StoreUrl, *, face: Face) -> Backend | AsyncBackend:
    """Open the backend a URL names; options: `timeout` (of one call, default 5s)."""
    options = Options(url)
    mark = options.text("account")
    seconds = _seconds(options, url.deadline)
    options.finish()
    if mark not in _KEYS:
        raise ConfigurationError(f"{url.scheme}:// is opened by Cache(…, namespace=…, api_key=…)")
    namespace, key = _KEYS[mark]
    backend = _CONNECTED.pop(mark, None) or RemoteBackend(_base(url), namespace=namespace, api_key=key, timeout=seconds)
    backend.timeout = seconds
    return backend if face == "blocking" else in_threads(backend)


def _seconds(options: Options, deadline: float = 0.0) -> float:
    return options.duration("timeout", max(deadline, DEADLINE))


def _base(url: StoreUrl) -> str:
    scheme = url.scheme.removeprefix("agentcache+")
    if scheme == "http" and not _is_this_machine(url.host):
        raise ConfigurationError("agentcache+http:// is for this machine only; use agentcache+https:// elsewhere")
    if url.username or url.password:
        raise ConfigurationError("an API key is given as api_key=…, not inside the URL")
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{scheme}://{host}" + (f":{url.port}" if url.port else "") + url.path.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RemoteBackend:
    """Storage behind the service's HTTP API. For threads; after a fork the child opens its own connections.

    `timeout` is what waiting for an answer may take, in seconds; a connection may take `_CONNECT`. Conditional writes
    are ETag conditions. Trouble is a `BackendError`: the service away or overloaded
    (`BackendUnavailable`), the quota used up (`BackendFull`), a key that may only read (`BackendReadOnly`).
    """

    capabilities = Capabilities(durable=True, shared=True, metered=True)

    def __init__(
        self, base: str, *, namespace: str, api_key: str, timeout: float = 10.0, transport: Any = None
    ) -> None:
        self._base = base
        self._headers = {"X-API-Key": api_key, "X-Namespace": namespace}
        self.timeout = timeout
        self._transport = transport
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._pid = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"RemoteBackend({self._base!r})"

    def tenant(self) -> str:
        """The organization the API key belongs to."""
        answer = self._call("GET", "/tenant")
        _expect(answer, 200)
        name = answer.json().get("tenant")
        if not isinstance(name, str) or not name:
            raise BackendError("the service's answer names no tenant")
        return name

    def get(self, name: bytes) -> Stored | Missing:
        answer = self._call("GET", _path(name))
        if _is_absent(answer):
            return MISSING
        _expect(answer, 200)
        return Stored(answer.content, _version(answer))

    def put(
        self,
        name: bytes,
        data: bytes,
        *,
        expires_at: float | None = None,
        if_absent: bool = False,
        if_version: Version | None = None,
        weight: float | None = None,
    ) -> Version | None:
        headers = _expiry(expires_at)
        if if_absent:
            headers["If-None-Match"] = "*"
        if if_version is not None:
            headers["If-Match"] = f'"{_encoded(if_version)}"'
        answer = self._call("PUT", _path(name), content=data, headers=headers)
        if answer.status_code == 412:
            return None
        _expect(answer, 204)
        return _version(answer)

    def delete(self, name: bytes, *, if_version: Version | None = None) -> bool:
        headers = {} if if_version is None else {"If-Match": f'"{_encoded(if_version)}"'}
        answer = self._call("DELETE", _path(name), headers=headers)
        if _is_absent(answer):
            return False
        _expect(answer, 204)
        return True

    def touch(self, name: bytes, expires_at: float | None) -> bool:
        answer = self._call("POST", f"{_path(name)}/touch", headers=_expiry(expires_at))
        if _is_absent(answer):
            return False
        _expect(answer, 204)
        return True

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        more = True
        while more:
            answer = self._call("GET", f"/objects?prefix={_encoded(prefix)}&after={_encoded(after)}")
            _expect(answer, 200)
            page = answer.json()
            for item in page["objects"]:
                after = _decoded(item["name"])
                version = _decoded(item["version"])
                yield Stat(after, item["size"], item["modified_at"], item["expires_at"], version)
            more = page["more"]

    def get_many(self, names: Sequence[bytes]) -> list[Stored | Missing]:
        found: list[Stored | Missing] = []
        while len(found) < len(names):
            before = len(found)
            for item in self._post("get", list(names[before : before + _BATCH])):
                if item is False:  # the answer would have grown too large: this and what follows is asked for again
                    break
                found.append(MISSING if item is None else Stored(item[0], item[1]))
            if len(found) == before:
                raise BackendError("the service's answer holds nothing that was asked for")
        if not names:
            self._connected()
        return found

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        return self._batch("put", [[p.name, p.data, p.expires_at, p.if_absent, p.if_version] for p in puts])

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        return self._batch("delete", list(names))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
            self._client = None

    def _batch(self, verb: str, items: list[Any]) -> list[Any]:
        found: list[Any] = []
        for begin in range(0, len(items), _BATCH):
            found.extend(self._post(verb, items[begin : begin + _BATCH]))
        if not items:
            self._connected()
        return found

    def _post(self, verb: str, items: list[Any]) -> list[Any]:
        answer = self._call("POST", f"/batches/{verb}", content=ormsgpack.packb(items))
        _expect(answer, 200)
        answered: list[Any] = ormsgpack.unpackb(answer.content)
        return answered

    def _connected(self) -> httpx2.Client:
        with self._lock:
            if self._closed:
                raise BackendClosed("this backend is closed")
            if self._client is None or self._pid != os.getpid():
                self._client = self._open()
                self._pid = os.getpid()
            return self._client

    def _open(self) -> httpx2.Client:
        try:
            import httpx2
        except ImportError:
            raise ConfigurationError("agentcache+https:// needs httpx2: pip install 'agentcache[httpx2]'") from None
        return httpx2.Client(
            base_url=f"{self._base}/api/v1",
            headers=self._headers,
            timeout=httpx2.Timeout(_CONNECT),
            transport=self._transport,
            trust_env=False,
            limits=httpx2.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=_KEEP_ALIVE),
        )

    def _call(
        self, method: str, path: str, *, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        import httpx2

        client = self._connected()
        limits = httpx2.Timeout(self.timeout, connect=max(self.timeout, _CONNECT))
        try:
            try:
                return client.request(method, path, content=content, headers=headers, timeout=limits)
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
                if method != "GET":
                    raise
            # a connection that was kept may have been closed by somebody on the way; a read is safe to ask again
            return client.request(method, path, content=content, headers=headers, timeout=limits)
        except httpx2.TimeoutException as problem:
            raise BackendUnavailable(f"{self._base} did not answer within {self.timeout:.3g} s") from problem
        except (httpx2.HTTPError, RuntimeError) as problem:
            if self._closed:
                raise BackendClosed("this backend is closed") from problem
            raise BackendUnavailable(f"{self._base} cannot be reached: {type(problem).__name__}") from problem


def _path(name: bytes) -> str:
    return f"/objects/{quote(_encoded(name), safe='')}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _expiry(expires_at: float | None) -> dict[str, str]:
    return {} if expires_at is None else {"X-Expires-At": repr(float(expires_at))}


def _version(answer: httpx2.Response) -> bytes:
    return _decoded(answer.headers.get("etag", "").strip('"'))


def _is_absent(answer: httpx2.Response) -> bool:
    """True for "no such object"; a namespace or an address that does not exist is trouble, not absence."""
    return answer.status_code == 404 and _problem(answer)[0] == "not_found"


def _problem(answer: httpx2.Response) -> tuple[str, str]:
    try:
        body = answer.json()
        return str(body["error"]), str(body["message"])
    except (ValueError, KeyError, TypeError):
        return "", f"status {answer.status_code}"


def _expect(answer: httpx2.Response, status: int) -> None:
    """Raise what an unexpected answer means."""
    if answer.status_code == status:
        return
    code, message = _problem(answer)
    if answer.status_code in {402, 413, 507}:
        raise BackendFull(message)
    if answer.status_code == 403 and code == "insufficient_scope":
        raise BackendReadOnly(message)
    if answer.status_code == 429 or answer.status_code >= 500:
        raise BackendUnavailable(message)
    raise BackendError(message)

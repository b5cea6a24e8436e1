"""The only client for addresses that users gave: it connects to public addresses it has itself validated.

Checking a name and then handing it to an ordinary client is not enough: the client resolves it again, and the second
answer may be 127.0.0.1. Here resolving, checking and connecting are one step, inside the transport, for every
connection and so for every redirect hop. TLS is still verified against the name.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore2

from agentcache_service.errors import ServiceError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
Connector = Callable[[str, int, float | None], httpcore2.NetworkStream]

_REDIRECTS = {301, 302, 303, 307, 308}
_HOP_SECRETS = {"authorization", "cookie", "proxy-authorization", "x-api-key"}


class AddressRefused(ServiceError):
    """The address given is not one the service may call."""

    status, code = 422, "address_refused"


class FetchFailed(ServiceError):
    """The address could not be fetched: no answer, a broken one, or one beyond the caps."""

    status, code = 502, "fetch_failed"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer: the final address, status, lower-cased headers and (capped) body."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds of one fetch: bytes of body, seconds in all, redirect hops."""

    max_bytes: int = 5 << 20
    seconds: float = 15.0
    hops: int = 5


def system_resolver(host: str, port: int) -> Sequence[str]:
    """All addresses the system's resolver gives for a name."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: Address) -> bool:
    """True for addresses of the public internet; IPv4 inside IPv6 (mapped, 6to4, Teredo, NAT64) is unwrapped."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


class _PinnedBackend(httpcore2.NetworkBackend):
    """Resolves, refuses what is not public, and connects to one of the addresses it has just checked."""

    def __init__(self, resolver: Resolver, connector: Connector | None, allow: Iterable[str]) -> None:
        self._resolve = resolver
        self._connect = connector or self._dial
        self._allowed = [ipaddress.ip_network(network) for network in allow]
        self._plain = httpcore2.SyncBackend()

    def _dial(self, address: str, port: int, timeout: float | None) -> httpcore2.NetworkStream:
        return self._plain.connect_tcp(address, port, timeout=timeout)

    def checked(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them acceptable; raises `AddressRefused` when one is not."""
        try:
            found = list(self._resolve(host, port))
        except (OSError, UnicodeError):
            raise FetchFailed(f"The name {host!r} could not be resolved.") from None
        if not found:
            raise FetchFailed(f"The name {host!r} has no address.")
        for text in found:
            address = ipaddress.ip_address(text.split("%")[0])
            if not is_public(address) and not any(address in network for network in self._allowed):
                raise AddressRefused(f"{host!r} does not lead to a public address.")
        return found

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.NetworkStream:
        trouble: Exception = FetchFailed(f"{host!r} has no address.")
        for address in self.checked(host, port):
            try:
                return self._connect(address, port, timeout)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout, OSError) as error:
                trouble = error
        raise trouble

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        raise AddressRefused("Unix sockets are not reachable.")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class SafeClient:
    """Fetches http and https addresses on ports 80 and 443, ignoring proxy settings of the environment.

    `allow` names private networks (CIDR) the operator permits; ports are then free. Redirects are followed by hand, at
    most `caps.hops`; credentials are not sent on to another origin. Connections are not kept between fetches.
    """

    def __init__(
        self,
        *,
        resolver: Resolver = system_resolver,
        connector: Connector | None = None,
        allow: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._backend = _PinnedBackend(resolver, connector, allow)
        self._any_port = bool(allow)
        self._tls = tls

    def check(self, url: str) -> None:
        """Refuse an address that could not be fetched now: used when a user registers it."""
        host, port = self._parse(url)
        self._backend.checked(host, port)

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, each one checked; protocols other than HTTP connect to exactly these."""
        return self._backend.checked(host, port)

    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        caps: Caps | None = None,
        follow: bool = True,
    ) -> Fetched:
        """One request and its whole answer; raises `AddressRefused` or `FetchFailed`."""
        caps = caps or Caps()
        with self.stream(method, url, headers=headers, body=body, caps=caps, follow=follow) as (answer, chunks):
            parts, size = [], 0
            for chunk in chunks:
                size += len(chunk)
                if size > caps.max_bytes:
                    raise FetchFailed(f"The answer is larger than {caps.max_bytes} bytes.")
                parts.append(chunk)
            return Fetched(answer.url, answer.status, answer.headers, b"".join(parts))

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        caps: Caps | None = None,
        follow: bool = True,
    ) -> Iterator[tuple[Fetched, Iterator[bytes]]]:
        """One request; yields the head of the answer (empty body) and its chunks. The caller counts the bytes."""
        caps = caps or Caps()
        deadline = time.monotonic() + caps.seconds
        sent = {"user-agent": "AgentCache", "accept-encoding": "identity", **_lower(headers or {})}
        for _hop in range(caps.hops + 1):
            host, _port = self._parse(url)
            with self._pool() as pool, _translated(host), self._open(pool, method, url, sent, body, deadline) as raw:
                answer = Fetched(url, raw.status, _headers(raw.headers), b"")
                target = answer.headers.get("location")
                if not (follow and raw.status in _REDIRECTS and target):
                    yield answer, _until(raw.iter_stream(), deadline)
                    return
            following = urljoin(url, target)
            if _origin(following) != _origin(url):
                sent = {name: value for name, value in sent.items() if name not in _HOP_SECRETS}
            if raw.status == 303 or (raw.status in {301, 302} and method == "POST"):
                method, body = "GET", b""
            url = following
        raise FetchFailed(f"More than {caps.hops} redirects.")

    def _pool(self) -> httpcore2.ConnectionPool:
        context = self._tls or ssl.create_default_context()
        return httpcore2.ConnectionPool(ssl_context=context, network_backend=self._backend, retries=0)

    def _open(
        self,
        pool: httpcore2.ConnectionPool,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        deadline: float,
    ) -> Any:
        left = max(0.001, deadline - time.monotonic())
        timeouts = {"connect": left, "read": left, "write": left, "pool": left}
        return pool.stream(
            method, url, headers=list(headers.items()), content=body or None, extensions={"timeout": timeouts}
        )

    def _parse(self, url: str) -> tuple[str, int]:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise AddressRefused("This is not an address.") from None
        if parts.scheme not in {"http", "https"} or not host:
            raise AddressRefused("An address must begin with http:// or https:// and name a host.")
        if parts.username is not None or parts.password is not None:
            raise AddressRefused("An address must not hold a user name or password.")
        port = port or (443 if parts.scheme == "https" else 80)
        if port not in {80, 443} and not self._any_port:
            raise AddressRefused("Only the ports 80 and 443 may be called.")
        return host, port


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _until(chunks: Iterator[bytes], deadline: float) -> Iterator[bytes]:
    """The chunks, until the time is up: a body that drips one byte a second must not hold a worker."""
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise FetchFailed("The answer took too long.")
        yield chunk


@contextmanager
def _translated(host: str) -> Iterator[None]:
    try:
        yield
    except httpcore2.TimeoutException:
        raise FetchFailed(f"{host!r} took too long to answer.") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, OSError) as error:
        raise FetchFailed(f"{host!r} could not be reached: {type(error).__name__}.") from error

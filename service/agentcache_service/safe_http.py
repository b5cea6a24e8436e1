"""The only client for addresses that users gave: it connects to public addresses it has itself validated.

Checking a name and then handing it to an ordinary client is not enough: the client resolves it again, and the second
answer may be 127.0.0.1. `public_net` makes it one step, inside the transport. TLS is still verified against the name.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpcore2
import idna

from agentcache_service.public_net import (
    AddressRefused,
    Connector,
    Deadline,
    FetchFailed,
    PublicNetwork,
    Resolver,
    is_public,
    system_resolver,
)

_REDIRECTS = {301, 302, 303, 307, 308}
_HOP_SECRETS = {"authorization", "cookie", "proxy-authorization", "x-api-key"}
_RESOLVE_SECONDS = 5.0
_KEPT = "%/:@!$&'()*+,;=~?-._"


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
        self._resolver = resolver
        self._connector = connector
        self._allow = tuple(allow)
        self._tls = tls

    def check(self, url: str) -> None:
        """Refuse an address that could not be fetched now: used when a user registers it."""
        _url, host, port = self._parse(url)
        self.resolve(host, port)

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, each one checked; protocols other than HTTP connect to exactly these."""
        with _translated(host):
            return self._network(Deadline(_RESOLVE_SECONDS)).checked(host, port)

    def _network(self, deadline: Deadline) -> PublicNetwork:
        return PublicNetwork(self._resolver, self._connector, self._allow, deadline)

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
        deadline = Deadline(caps.seconds)
        sent = {"user-agent": "AgentCache", "accept-encoding": "identity", **_lower(headers or {})}
        for _hop in range(caps.hops + 1):
            url, host, _port = self._parse(url)
            with _translated(host), self._pool(deadline) as pool, _open(pool, method, url, sent, body) as raw:
                answer = Fetched(url, raw.status, _headers(raw.headers), b"")
                target = answer.headers.get("location")
                if not (follow and raw.status in _REDIRECTS and target):
                    yield answer, raw.iter_stream()
                    return
            following = _joined(url, target)
            if self._parse(following)[0].split("/")[:3] != url.split("/")[:3]:
                sent = {name: value for name, value in sent.items() if name not in _HOP_SECRETS}
            if raw.status == 303 or (raw.status in {301, 302} and method == "POST"):
                method, body = "GET", b""
            url = following
        raise FetchFailed(f"More than {caps.hops} redirects.")

    def _pool(self, deadline: Deadline) -> httpcore2.ConnectionPool:
        context = self._tls or ssl.create_default_context()
        return httpcore2.ConnectionPool(ssl_context=context, network_backend=self._network(deadline), retries=0)

    def _parse(self, url: str) -> tuple[str, str, int]:
        """The address in its ASCII form (names by IDNA, the rest percent-encoded), its host and port."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            if parts.scheme not in {"http", "https"} or not host:
                raise AddressRefused("An address must begin with http:// or https:// and name a host.")
            if parts.username is not None or parts.password is not None:
                raise AddressRefused("An address must not hold a user name or password.")
            if not host.isascii():
                host = idna.encode(host, uts46=True).decode()
            place = f"[{host}]" if ":" in host else quote(host)
            path, query = quote(parts.path, safe=_KEPT), quote(parts.query, safe=_KEPT)
        except ValueError:  # also what IDNA refuses, and half characters
            raise AddressRefused("This is not an address.") from None
        default = 443 if parts.scheme == "https" else 80
        if port not in {None, 80, 443} and not self._allow:
            raise AddressRefused("Only the ports 80 and 443 may be called.")
        netloc = place if port in {None, default} else f"{place}:{port}"
        return urlunsplit((parts.scheme, netloc, path or "/", query, "")), host, default if port is None else port


def _open(pool: httpcore2.ConnectionPool, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Any:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return pool.stream(method, url, headers=raw, content=body or None)


def _joined(url: str, target: str) -> str:
    """Where a redirect leads. Servers write other characters than ASCII as UTF-8."""
    try:
        return urljoin(url, target.encode("latin-1").decode("utf-8", "replace"))
    except ValueError:
        raise AddressRefused("The redirect does not lead to an address.") from None


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


@contextmanager
def _translated(host: str) -> Iterator[None]:
    try:
        yield
    except httpcore2.TimeoutException:
        raise FetchFailed(f"{host!r} took too long to answer.") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol, OSError) as error:
        raise FetchFailed(f"{host!r} could not be reached: {type(error).__name__}.") from error


__all__ = ["AddressRefused", "Caps", "FetchFailed", "Fetched", "SafeClient", "is_public", "system_resolver"]

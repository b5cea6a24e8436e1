"""The public internet as sockets: which addresses belong to it, and connections that go nowhere else and end in time.

Resolving, checking and connecting are one step, for every connection and so for every redirect hop: a client that
resolves again after a check may be given 127.0.0.1 the second time.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore2

from agentcache_service.errors import ServiceError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
Connector = Callable[[str, int, float | None], httpcore2.NetworkStream]

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# special-purpose networks of the IANA registries that `is_global` of some Python versions lets through
_SPECIAL_4 = [
    ipaddress.ip_network(network)
    for network in ("0.0.0.0/8", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4")
]
_SPECIAL_6 = [ipaddress.ip_network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20")]
_TEREDO = ipaddress.ip_network("2001::/32")
_ISATAP = {0x00005EFE, 0x02005EFE}
_BLOCK = 4096
_resolving = ThreadPoolExecutor(max_workers=16, thread_name_prefix="agentcache-resolver")


class AddressRefused(ServiceError):
    """The address given is not one the service may call."""

    status, code = 422, "address_refused"


class FetchFailed(ServiceError):
    """The address could not be fetched: no answer, a broken one, or one beyond the caps."""

    status, code = 502, "fetch_failed"


def system_resolver(host: str, port: int) -> Sequence[str]:
    """All addresses the system's resolver gives for a name."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: Address) -> bool:
    """True for addresses of the public internet.

    IPv6 is public inside 2000::/3 only. IPv4 inside IPv6 (mapped, NAT64, 6to4, Teredo, ISATAP) must be public too,
    whichever way the tunnel would take; the old forms `::a.b.c.d` and local-use NAT64 lie outside and are refused.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in net for net in _SPECIAL_4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address not in _GLOBAL_UNICAST or not all(is_public(inner) for inner in _embedded(address)):
        return False
    if address in _TEREDO:
        return True
    return address.is_global and not any(address in network for network in _SPECIAL_6)


def _embedded(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


class Deadline:
    """The moment at which a whole fetch must be over, however many pieces it comes in."""

    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self, wanted: float | None = None) -> float:
        """The seconds left, at most `wanted`; raises the transport's own timeout when there are none."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the time of this fetch is over")
        return left if wanted is None else min(left, wanted)


class _TimedStream(httpcore2.NetworkStream):
    """A connection every step of which has only what is left of the deadline: a peer that drips cannot hold it."""

    def __init__(self, inner: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for begin in range(0, len(buffer), _BLOCK):
            self._inner.write(buffer[begin : begin + _BLOCK], self._deadline.left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _TimedStream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class PublicNetwork(httpcore2.NetworkBackend):
    """Resolves, refuses what is not public, and connects to one of the addresses it has just checked, until `deadline`.

    `allow` names networks (CIDR) that are acceptable although they are private.
    """

    def __init__(
        self, resolver: Resolver, connector: Connector | None, allow: Iterable[str], deadline: Deadline
    ) -> None:
        self._resolve = resolver
        self._connect = connector or self._dial
        self._allowed = [ipaddress.ip_network(network) for network in allow]
        self._plain = httpcore2.SyncBackend()
        self._deadline = deadline

    def _dial(self, address: str, port: int, timeout: float | None) -> httpcore2.NetworkStream:
        return self._plain.connect_tcp(address, port, timeout=timeout)

    def checked(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them acceptable; raises `AddressRefused` when one is not."""
        asked = _resolving.submit(self._resolve, host, port)
        try:
            found = list(asked.result(timeout=self._deadline.left()))
            addresses = [ipaddress.ip_address(text.split("%")[0]) for text in found]
        except TimeoutError:
            asked.cancel()
            raise FetchFailed(f"The name {host!r} took too long to resolve.") from None
        except (OSError, ValueError):
            raise FetchFailed(f"The name {host!r} could not be resolved.") from None
        if not found:
            raise FetchFailed(f"The name {host!r} has no address.")
        for address in addresses:
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
                return _TimedStream(self._connect(address, port, self._deadline.left(timeout)), self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout, OSError) as error:
                trouble = error
        raise trouble

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        raise AddressRefused("Unix sockets are not reachable.")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

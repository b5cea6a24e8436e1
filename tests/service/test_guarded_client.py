"""The guarded client: internal addresses, a resolver that rebinds, redirects, caps, TLS against the name."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentcache_service.safe_http import AddressRefused, Caps, FetchFailed, SafeClient, is_public, system_resolver

PUBLIC = "93.184.215.14"


class _Pages(BaseHTTPRequestHandler):
    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        type(self).seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"x" * 5000 if self.path == "/large" else b"hello")

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def pages() -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    """A plain server on this machine; its port and what it has seen."""
    kind = type("Pages", (_Pages,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, kind.seen
    server.shutdown()
    server.server_close()
    thread.join()


def _led_to(port: int, dialled: list[str]) -> Callable[[str, int, float | None], httpcore2.NetworkStream]:
    """Connects to this machine's port whatever public address was dialled, and notes that address."""

    def connect(address: str, _port: int, timeout: float | None) -> httpcore2.NetworkStream:
        dialled.append(address)
        return httpcore2.SyncBackend().connect_tcp("127.0.0.1", port, timeout=timeout)

    return connect


def _names(table: dict[str, Sequence[str]]) -> Callable[[str, int], Sequence[str]]:
    return lambda host, _port: table[host]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://100.64.0.1/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
    ],
)
def test_internal_addresses_are_refused_in_every_spelling(url: str) -> None:
    with pytest.raises((AddressRefused, FetchFailed)):
        SafeClient(resolver=system_resolver).fetch("GET", url)


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example/", "file:///etc/passwd", "http://u:p@a.example/", "http:///x", "//x", "http://a.example:22/"],
)
def test_other_schemes_ports_and_credentials_are_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        SafeClient(resolver=_names({"a.example": [PUBLIC]})).check(url)


def test_a_public_address_is_public_and_wrapped_ones_are_unwrapped() -> None:
    import ipaddress

    assert is_public(ipaddress.ip_address(PUBLIC))
    assert is_public(ipaddress.ip_address("2606:2800:21f:cb07:6820:80da:af6b:8b2c"))
    assert not is_public(ipaddress.ip_address("224.0.0.1"))


def test_a_resolver_that_rebinds_never_gets_a_second_word(pages: tuple[int, Any]) -> None:
    port, seen = pages
    answers = iter([[PUBLIC], ["127.0.0.1"], [PUBLIC]])
    dialled: list[str] = []
    client = SafeClient(resolver=lambda _host, _port: next(answers), connector=_led_to(port, dialled))
    assert client.fetch("GET", "http://rebind.example/").body == b"hello"
    assert dialled == [PUBLIC]  # the address that was checked is the one dialled: one look-up, one connection
    with pytest.raises(AddressRefused):
        client.fetch("GET", "http://rebind.example/")
    assert (len(dialled), len(seen)) == (1, 1)


def test_one_internal_address_among_public_ones_is_enough_to_refuse(pages: tuple[int, Any]) -> None:
    dialled: list[str] = []
    client = SafeClient(resolver=_names({"mixed.example": [PUBLIC, "10.0.0.1"]}), connector=_led_to(pages[0], dialled))
    with pytest.raises(AddressRefused):
        client.fetch("GET", "http://mixed.example/")
    assert dialled == []


def test_every_redirect_hop_is_checked(pages: tuple[int, Any]) -> None:
    table = {"a.example": [PUBLIC], "b.example": [PUBLIC], "inner.example": ["192.168.0.1"]}
    client = SafeClient(resolver=_names(table), connector=_led_to(pages[0], []))
    assert client.fetch("GET", "http://a.example/to/http://b.example/x").url == "http://b.example/x"
    for target in ("http://inner.example/", "http://169.254.169.254/", "file:///etc/passwd"):
        table.setdefault("169.254.169.254", ["169.254.169.254"])
        with pytest.raises(AddressRefused):
            client.fetch("GET", f"http://a.example/to/{target}")
    with pytest.raises(FetchFailed, match="redirects"):
        client.fetch("GET", "http://a.example/to//to//to//to//x", caps=Caps(hops=2))


def test_credentials_do_not_follow_a_redirect_to_another_origin(pages: tuple[int, Any]) -> None:
    port, seen = pages
    client = SafeClient(resolver=_names({"a.example": [PUBLIC], "b.example": [PUBLIC]}), connector=_led_to(port, []))
    client.fetch("GET", "http://a.example/to/http://b.example/x", headers={"Authorization": "Bearer s", "x-other": "1"})
    assert ("authorization" in seen[0][1], "authorization" in seen[1][1], "x-other" in seen[1][1]) == (
        True,
        False,
        True,
    )
    assert seen[1][1]["host"] == "b.example"


def test_bodies_beyond_the_cap_are_cut_off(pages: tuple[int, Any]) -> None:
    client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(pages[0], []))
    assert len(client.fetch("GET", "http://a.example/large", caps=Caps(max_bytes=5000)).body) == 5000
    with pytest.raises(FetchFailed, match="larger"):
        client.fetch("GET", "http://a.example/large", caps=Caps(max_bytes=4999))


def test_a_server_that_never_answers_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(silent.getsockname()[1], []))
        with pytest.raises(FetchFailed, match="too long"):
            client.fetch("GET", "http://a.example/", caps=Caps(seconds=0.05))


def test_proxies_of_the_environment_are_not_used(pages: tuple[int, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(pages[0], []))
    assert client.fetch("GET", "http://a.example/").status == 200


def _certificate(
    name: str, *, issuer: tuple[x509.Certificate, Any] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


@pytest.fixture
def tls_pages(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext, list[str | None]]]:
    """An HTTPS server for `secure.example`, a client context trusting its authority, and the names asked for."""
    authority, authority_key = _certificate("Test authority")
    certificate, key = _certificate("secure.example", issuer=(authority, authority_key))
    pem = serialization.Encoding.PEM
    (tmp_path / "server.pem").write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    kind = type("Pages", (_Pages,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # refused handshakes are expected here
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    trusting = ssl.create_default_context(cadata=authority.public_bytes(pem).decode())
    yield server.server_port, trusting, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_tls_to_the_pinned_address_is_checked_against_the_name(tls_pages: tuple[int, Any, list[str | None]]) -> None:
    port, trusting, asked = tls_pages
    dialled: list[str] = []
    names = _names({"secure.example": [PUBLIC], "wrong.example": [PUBLIC]})
    client = SafeClient(resolver=names, connector=_led_to(port, dialled), tls=trusting)
    assert client.fetch("GET", "https://secure.example/").body == b"hello"
    assert (dialled, asked) == ([PUBLIC], ["secure.example"])
    with pytest.raises(FetchFailed):
        client.fetch("GET", "https://wrong.example/")


def test_an_authority_nobody_trusts_is_refused(tls_pages: tuple[int, Any, list[str | None]]) -> None:
    client = SafeClient(resolver=_names({"secure.example": [PUBLIC]}), connector=_led_to(tls_pages[0], []))
    with pytest.raises(FetchFailed):
        client.fetch("GET", "https://secure.example/")

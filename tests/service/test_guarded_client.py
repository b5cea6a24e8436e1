"""The guarded client: internal addresses, a resolver that rebinds, redirects, caps, TLS against the name."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentcache_service.public_net import Deadline
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
        "http://[::7f00:1]/",
        "http://[64:ff9b:1::7f00:1]/",
        "http://[::ffff:0:127.0.0.1]/",
        "http://[2001:0:5db8:d70e:0:0:80ff:fffe]/",
        "http://[2001:0:a00:1:0:0:a247:28f1]/",
        "http://[2606:2800:21f:cb07:0:5efe:7f00:1]/",
        "http://[fec0::1]/",
        "http://[100::1]/",
        "http://[2001:db8::1]/",
        "http://192.88.99.1/",
        "http://198.18.0.1/",
        "http://240.0.0.1/",
    ],
)
def test_internal_addresses_are_refused_in_every_spelling(url: str) -> None:
    with pytest.raises((AddressRefused, FetchFailed)):
        SafeClient(resolver=system_resolver).fetch("GET", url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "file:///etc/passwd",
        "http://u:p@a.example/",
        "http:///x",
        "//x",
        "http://a.example:22/",
        "http://a.example:99999/",
        "http://[::bad/",
        "http://\ud800.example/",
        "http://a.example/\ud800",
        "http://xn--a.example\u3002\u3002/",
    ],
)
def test_other_schemes_ports_and_credentials_are_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        SafeClient(resolver=_names({"a.example": [PUBLIC]})).check(url)


def test_a_public_address_is_public_and_wrapped_ones_are_unwrapped() -> None:
    import ipaddress

    assert is_public(ipaddress.ip_address(PUBLIC))
    assert is_public(ipaddress.ip_address("2606:2800:21f:cb07:6820:80da:af6b:8b2c"))
    assert is_public(ipaddress.ip_address("64:ff9b::5db8:d70e"))
    assert is_public(ipaddress.ip_address("2001:0:5db8:d70e:0:0:a247:28f1"))  # Teredo, both ends public
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


@contextmanager
def _dripping(answer: bytes, *, stall: bool = False) -> Iterator[int]:
    """A server that sends its answer byte by byte, each soon after the other, and never ends it (or reads nothing)."""
    stopping = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while stall and not stopping.wait(0.02):
                pass
            for number in itertools.count():
                if stopping.wait(0.02):
                    return
                connection.sendall(answer[number : number + 1] or b"x")

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=drip, args=(connection,), daemon=True))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = [threading.Thread(target=serve, daemon=True)]
        threads[0].start()
        yield listening.getsockname()[1]
        stopping.set()
        listening.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nx-", b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n"])
def test_a_server_that_drips_its_head_or_body_is_left_when_the_time_is_up(answer: bytes) -> None:
    with _dripping(answer) as port:
        client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(port, []))
        with pytest.raises(FetchFailed, match="too long"):  # without the cap this would go on for ever
            client.fetch("GET", "http://a.example/", caps=Caps(seconds=0.5))


def test_a_server_that_reads_nothing_is_left_too() -> None:
    with _dripping(b"", stall=True) as port:
        client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(port, []))
        with pytest.raises(FetchFailed, match="too long"):
            client.fetch("POST", "http://a.example/", body=b"x" * (32 << 20), caps=Caps(seconds=0.5))


def test_redirects_share_one_time(pages: tuple[int, Any]) -> None:
    moments: list[float] = []
    left = Deadline.left

    def spending(deadline: Deadline, wanted: float | None = None) -> float:
        moments.append(left(deadline, wanted))
        return moments[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deadline, "left", spending)
        client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(pages[0], []))
        client.fetch("GET", "http://a.example/to//to//x", caps=Caps(seconds=30))
    assert moments == sorted(moments, reverse=True)


def test_a_resolver_that_hangs_is_left() -> None:
    hanging = threading.Event()

    def resolver(_host: str, _port: int) -> Sequence[str]:
        hanging.wait(60)
        return [PUBLIC]

    client = SafeClient(resolver=resolver)
    with pytest.raises(FetchFailed, match="too long"):
        client.fetch("GET", "http://a.example/", caps=Caps(seconds=0.1))
    hanging.set()


def test_addresses_in_other_scripts_are_fetched_in_their_ascii_form(pages: tuple[int, Any]) -> None:
    port, seen = pages
    client = SafeClient(resolver=_names({"xn--bcher-kva.example": [PUBLIC]}), connector=_led_to(port, []))
    assert client.fetch("GET", "http://bücher.example/straße?q=ü%20#part").url.startswith("http://xn--bcher-kva.")
    path, headers = seen[0]
    assert (path, headers["host"]) == ("/stra%C3%9Fe?q=%C3%BC%20", "xn--bcher-kva.example")


@pytest.mark.parametrize(
    "target", ["http://example.com:99999/", "http://[::bad/", "http://bad\xff\xfe.example\xe3\x80\x82\xe3\x80\x82/"]
)
def test_a_redirect_to_no_address_is_refused(pages: tuple[int, Any], target: str) -> None:
    class Odd(_Pages):
        seen: ClassVar[list[Any]] = []

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("location", target)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(server.server_port, []))
    with pytest.raises(AddressRefused):
        client.fetch("GET", "http://a.example/")
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_header_a_server_once_sent_goes_back_as_it_was(pages: tuple[int, Any]) -> None:
    client = SafeClient(resolver=_names({"a.example": [PUBLIC]}), connector=_led_to(pages[0], []))
    client.fetch("GET", "http://a.example/", headers={"if-none-match": '"\xfc"'})
    assert pages[1][0][1]["if-none-match"] == '"\xfc"'


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

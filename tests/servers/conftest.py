"""Fixtures of the tests on servers that are fetched: certificates, and a Redis that speaks TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agentcache_core.testing.servers import RedisServer, fetched_program


class Authority:
    """A certificate authority of the tests' own, and what it signs, as PEM files in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self._subject, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: int = 30
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def sign(self, name: str, *alternatives: str, days: int = 30) -> tuple[Path, Path]:
        """A certificate for a name (and for addresses or host names), and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, days=days)
        if alternatives:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(each) for each in alternatives]), False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        files = (self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key")
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = serialization.PrivateFormat.PKCS8
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
        return files


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Certificates:
    """Two authorities that do not know each other, and what the first has signed."""

    ours: Authority
    others: Authority
    server: tuple[Path, Path]
    client: tuple[Path, Path]

    def options(self, *, clients: str = "no", server: tuple[Path, Path] | None = None) -> Sequence[str]:
        """The options of a Redis that shows a certificate, and asks for its clients' if `clients` is yes."""
        certificate, key = server or self.server
        shown = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
        return (*shown, "--tls-ca-cert-file", str(self.ours.file), "--tls-auth-clients", clients)


class TlsRedis(RedisServer):
    """Debian's Redis 7 that speaks nothing but TLS."""

    def __init__(
        self, certificates: Certificates, *options: str, clients: str = "no", shows: tuple[Path, Path] | None = None
    ) -> None:
        chosen = certificates.options(clients=clients, server=shows)
        super().__init__(*chosen, *options, program=fetched_program("redis7/redis-server"))
        self._client = certificates.client

    def command(self) -> Sequence[str]:
        return (*super().command(), "--port", "0", "--tls-port", str(self.port))

    def connect(self) -> socket.socket:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*self._client)
        return context.wrap_socket(super().connect())

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ours, others = Authority(folder, "ours"), Authority(folder, "others")
    return Certificates(ours, others, ours.sign("server", "127.0.0.1", "localhost"), ours.sign("client"))


@pytest.fixture(scope="session")
def tls_redis(certificates: Certificates) -> Iterator[TlsRedis]:
    """A Redis that speaks TLS and asks for no certificate of its clients'."""
    with TlsRedis(certificates) as server:
        yield server


@pytest.fixture
def start_tls_redis(certificates: Certificates) -> Iterator[Callable[..., TlsRedis]]:
    """Starts a Redis of the test's own that speaks TLS; the arguments are those of `TlsRedis`."""
    with ExitStack() as stack:
        yield lambda *options, **chosen: stack.enter_context(TlsRedis(certificates, *options, **chosen))

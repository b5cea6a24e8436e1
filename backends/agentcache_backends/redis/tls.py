"""TLS for Redis: what a connection trusts and shows, and what its refusals mean."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Any, Final

from redis.connection import SSLConnection

from agentcache_backends.redis.settings import Settings
from agentcache_core.errors import ConfigurationError

_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH, _EXPIRED = 62, 64, 10  # X509_V_ERR_… of OpenSSL
TLS_DOUBT: Final = "perhaps it asks for a client certificate, or for another one (certfile, keyfile)"
_DEPTH: Final = 6  # of causes that are looked through


def context_of(settings: Settings) -> ssl.SSLContext:
    """What the connections of these settings trust: the CAs in `ca_certs` alone, or else those of the system. Made
    once, and anew when a file has changed. Raises `ConfigurationError` for a file that cannot be used."""
    files = (settings.ca_certs, settings.certfile, settings.keyfile)
    system = ssl.get_default_verify_paths()
    read = files if settings.ca_certs else (*files, system.cafile or "", system.capath or "")
    return _context(files, tuple((path, _changed_at(path)) for path in read), settings.check_hostname)


def context_now(settings: Settings) -> ssl.SSLContext:
    """The same for a connection to be opened: a file that was lost since is trouble with the connection."""
    try:
        return context_of(settings)
    except ConfigurationError as error:
        raise ConnectionError("TLS cannot be set up") from error


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns if path else 0
    except OSError:
        return 0  # loading it says what is wrong


@lru_cache(maxsize=64)
def _context(files: tuple[str, str, str], read: tuple[tuple[str, int], ...], check_hostname: bool) -> ssl.SSLContext:
    ca_certs, certfile, keyfile = files
    try:
        context = ssl.create_default_context(cafile=ca_certs or None)
    except OSError as error:
        raise ConfigurationError(f"option ca_certs: {ca_certs} holds no certificates ({_short(error)})") from error
    context.check_hostname = check_hostname
    if keyfile and not certfile:
        raise ConfigurationError("option keyfile needs certfile, the certificate that the key belongs to")
    if certfile:
        try:
            context.load_cert_chain(certfile, keyfile or None, password=_no_passphrase)
        except (OSError, ValueError) as error:
            names = f"{certfile} and {keyfile}" if keyfile else certfile
            said = f"{names} are no certificate with its key ({_short(error)})"
            raise ConfigurationError(f"options certfile and keyfile: {said}") from error
    return context


def _no_passphrase() -> str:
    raise ValueError("the key asks for a passphrase")


def _short(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not in PEM format"
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__


class TlsConnection(SSLConnection):
    """A connection of redis-py's that trusts exactly what the asynchronous face trusts."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        return context_now(self._settings).wrap_socket(sock, server_hostname=self.host)


def tls_reason(error: BaseException) -> str:
    """Why TLS failed and what to change, when an error or one of its causes is TLS's; empty otherwise."""
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        if isinstance(cause, ConfigurationError):
            return str(cause)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _refused_by_us(cause.verify_code)
        if isinstance(cause, ssl.SSLError):
            return _refused_by_them(cause.reason or "")
        if cause is not None:
            cause = cause.__cause__ or cause.__context__
    return ""


def _refused_by_us(code: int) -> str:
    if code in (_HOSTNAME_MISMATCH, _ADDRESS_MISMATCH):
        return "its certificate is for another name; use a name that it holds in the URL, or set check_hostname=no"
    if code == _EXPIRED:
        return "its certificate has expired"
    return "its certificate is not signed by a CA that is trusted here; name the file of its CA in ca_certs"


def _refused_by_them(reason: str) -> str:
    if reason.endswith("CERTIFICATE_REQUIRED"):
        return "it asks for a client certificate; name one in certfile and keyfile"
    if reason.endswith("HANDSHAKE_FAILURE"):
        return f"it refuses the handshake; {TLS_DOUBT}"
    if reason.endswith(("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED")):
        return "it does not accept the client certificate in certfile"
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"):
        return "it does not answer in TLS; use redis:// (or redis+cluster://) if it speaks without"
    if not reason:  # it hung up before, or instead of, saying why
        return f"it closed the connection; {TLS_DOUBT}"
    return f"TLS failed ({reason})"

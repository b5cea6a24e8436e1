"""Secrets at rest: AES-256-GCM envelopes bound to their row, token digests, signed values."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agentcache_service.settings import Settings

_VERSION = b"\x01"
_KEY_ID = 8
_NONCE = 12
_WRAPPED = 32 + 16


class SealBroken(Exception):
    """A sealed value cannot be opened: changed, moved to another row, or sealed under a key that is gone."""


def token_digest(token: str) -> str:
    """SHA-256 of a random token of at least 128 bits, as 64 hex digits: what the database keeps instead of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(nbytes: int = 32) -> str:
    """A random URL-safe token."""
    return secrets.token_urlsafe(nbytes)


class Vault:
    """Seals small secrets under the master key.

    Envelope: every value gets its own random data key, wrapped under the master key; both layers carry `place` as
    associated data, so a sealed value copied into another row or field does not open. Layout: version, master key id
    (8 bytes), nonce and wrapped data key, nonce and ciphertext.
    """

    def __init__(self, current: bytes, *, previous: tuple[bytes, ...] = ()) -> None:
        for key in (current, *previous):
            if len(key) != 32:
                raise ValueError("a master key is 32 bytes, written in base64")
        self._current_id = _key_id(current)
        self._keys = {_key_id(key): key for key in (current, *previous)}
        self._signing = {name: _derive(key, b"sign") for name, key in self._keys.items()}

    def seal(self, plain: bytes, *, place: str) -> bytes:
        """Encrypt `plain` for `place` (for example `org_1/integration_7/token`)."""
        data_key, outer, inner = secrets.token_bytes(32), secrets.token_bytes(_NONCE), secrets.token_bytes(_NONCE)
        aad = place.encode()
        wrapped = AESGCM(self._keys[self._current_id]).encrypt(outer, data_key, aad)
        sealed = AESGCM(data_key).encrypt(inner, plain, aad)
        return _VERSION + self._current_id + outer + wrapped + inner + sealed

    def open(self, sealed: bytes, *, place: str) -> bytes:
        """Decrypt what `seal` made for the same place; raises `SealBroken` otherwise."""
        head = 1 + _KEY_ID
        if sealed[:1] != _VERSION or len(sealed) < head + _NONCE + _WRAPPED + _NONCE + 16:
            raise SealBroken("not a sealed value of a known version")
        master = self._keys.get(sealed[1:head])
        if master is None:
            raise SealBroken("sealed under a master key that is not configured; add it to previous_master_keys")
        outer, rest = sealed[head : head + _NONCE], sealed[head + _NONCE :]
        wrapped, inner, body = rest[:_WRAPPED], rest[_WRAPPED : _WRAPPED + _NONCE], rest[_WRAPPED + _NONCE :]
        aad = place.encode()
        try:
            return AESGCM(AESGCM(master).decrypt(outer, wrapped, aad)).decrypt(inner, body, aad)
        except InvalidTag:
            raise SealBroken("the sealed value was changed or belongs to another place") from None

    def needs_resealing(self, sealed: bytes) -> bool:
        """True when a value was sealed under a previous master key."""
        return sealed[1 : 1 + _KEY_ID] != self._current_id

    def sign(self, message: str, *, purpose: str) -> str:
        """A URL-safe MAC of `message` for one purpose (signed links, cookies, unsubscribe addresses)."""
        return _mac(self._signing[self._current_id], message, purpose)

    def verify(self, message: str, signature: str, *, purpose: str) -> bool:
        """True when `signature` was made by `sign` with this or a previous master key; constant time."""
        given = signature.encode()  # texts with other than ASCII characters cannot be compared
        return any(hmac.compare_digest(_mac(key, message, purpose).encode(), given) for key in self._signing.values())

    def derive(self, purpose: str) -> bytes:
        """32 bytes that depend on the current master key and the purpose only."""
        return _derive(self._keys[self._current_id], purpose.encode())


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"agentcache-service key id" + key).digest()[:_KEY_ID]


def _derive(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, b"agentcache-service derive " + purpose, hashlib.sha256).digest()


def _mac(key: bytes, message: str, purpose: str) -> str:
    digest = hmac.new(key, f"{len(purpose)}:{purpose}{message}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def load_vault(settings: Settings) -> Vault:
    """The vault of this installation: keys from the settings, else a 0600 file in the data directory, made once."""
    previous = tuple(base64.b64decode(key) for key in settings.previous_master_keys)
    if settings.master_key is not None:
        return Vault(base64.b64decode(settings.master_key.get_secret_value()), previous=previous)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Vault(_key_file(settings.data_dir / "master.key"), previous=previous)


def _key_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            return base64.b64decode(stream.read())
    key = secrets.token_bytes(32)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(base64.b64encode(key))
    return key

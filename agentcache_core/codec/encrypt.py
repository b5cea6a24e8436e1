"""Encryption of frames with AES-256-GCM under a keyring: confidential, and refused when anything was changed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from agentcache_core.errors import ConfigurationError, CorruptFrame, UnreadableFrame

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 24
TAG_SIZE: Final = 16
_CONTEXT: Final = "AgentCache 2026-11 frame encryption v1: tenant key"


class Keyring:
    """Keys of 32 bytes by number: the newest encrypts, all of them decrypt, so that keys can be rotated.

    `Keyring({1: old, 2: new})` encrypts with 2, the largest number, unless `primary=` names another. Key numbers are
    1 to 4,294,967,295 and are written in clear into each frame; keys never appear in `repr`.
    """

    __slots__ = ("_keys", "primary")

    def __init__(self, keys: Mapping[int, bytes], *, primary: int | None = None) -> None:
        if not keys:
            raise ConfigurationError("a keyring needs at least one key of 32 bytes: Keyring({1: os.urandom(32)})")
        for number, key in keys.items():
            if type(number) is not int or not 0 < number < 2**32:
                raise ConfigurationError(f"key number {number!r} must be an integer from 1 to 4294967295")
            if not isinstance(key, bytes) or len(key) != KEY_SIZE:
                raise ConfigurationError(f"key {number} must be exactly {KEY_SIZE} bytes, such as os.urandom(32)")
        self._keys = dict(keys)
        self.primary = max(self._keys) if primary is None else primary
        if self.primary not in self._keys:
            raise ConfigurationError(f"primary={primary!r} is no key of this keyring")

    def __repr__(self) -> str:
        return f"Keyring(keys={sorted(self._keys)}, primary={self.primary})"

    def for_tenant(self, tenant: str) -> Cipher:
        """The cipher of one tenant: its keys are derived, so one tenant's frame cannot be opened as another's."""
        named = tenant.encode("utf-8", "surrogatepass")
        derived = {n: blake3(key + named, derive_key_context=_CONTEXT).digest() for n, key in self._keys.items()}
        return Cipher(derived, self.primary)


class Cipher:
    """Encryption for one tenant. Each frame has its own key, made of the tenant's key and a random nonce of 24 bytes,
    so that no count of frames wears a key out."""

    __slots__ = ("_keys", "_primary")

    def __init__(self, keys: Mapping[int, bytes], primary: int) -> None:
        self._keys = dict(keys)
        self._primary = primary

    @property
    def primary(self) -> int:
        """The number of the key that encrypts."""
        return self._primary

    def encrypt(self, clear: bytes, associated: bytes) -> bytes:
        """Nonce, ciphertext and tag of `clear`; `associated` is authenticated with it and must be given to decrypt."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + _aes(self._keys[self._primary], nonce).encrypt(nonce[12:], clear, associated)

    def decrypt(self, sealed: bytes | memoryview, associated: bytes, key: int) -> bytes:
        """What `encrypt` was given; `CorruptFrame` when the key is not held or anything was changed."""
        held = self._keys.get(key)
        if held is None:
            raise UnreadableFrame(f"the frame is encrypted with key {key}, which this keyring does not hold")
        if len(sealed) < NONCE_SIZE + TAG_SIZE:
            raise CorruptFrame("the frame is too short to be encrypted")
        from cryptography.exceptions import InvalidTag

        nonce = bytes(sealed[:NONCE_SIZE])
        try:
            return _aes(held, nonce).decrypt(nonce[12:], sealed[NONCE_SIZE:], associated)
        except InvalidTag as problem:
            raise CorruptFrame("the frame was changed, or belongs to another name, tenant or key") from problem


def _aes(key: bytes, nonce: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as problem:
        raise ConfigurationError("a keyring needs the extra: pip install 'agentcache[encrypt]'") from problem
    return AESGCM(blake3(nonce[:12], key=key).digest())

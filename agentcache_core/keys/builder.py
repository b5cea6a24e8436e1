"""From a request to its key: one BLAKE3 over everything that counts.

    digest = BLAKE3(key = derive(secret, tenant), fields = scheme, tenant, namespace, kind, provider, sample, ...)

Every field is one MessagePack value, which carries its own length. For a model call the rest is: shape, parameters,
tools, attachments, and the messages one by one, last. The fields of the other kinds are in `docs/keys.md`.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3
from ormsgpack import MsgpackEncodeError, packb

from agentcache_core.errors import KeyingError
from agentcache_core.keys.body import GENERIC, body_of, mapping_body, path_of
from agentcache_core.keys.canonical import pack, pack_carefully, pack_quickly
from agentcache_core.keys.lowering import Typing

KEY_SCHEME: Final = 1
"""The scheme written today. It changes with anything that would give an unchanged request another key."""

_CONTEXT: Final = "agentcache exact keys v1: tenant key"


class Key:
    """The exact key of one request in one tenant and namespace: its kind and 32 bytes of digest.

    `plain` is the text or bytes of a plain key (kind `text`), else None; `sample` the index of an independent sample.
    The digest of a plain key is computed when first asked for. Immutable by convention; equal when the digests are.
    """

    __slots__ = ("_builder", "_digest", "kind", "plain", "sample")

    def __init__(
        self,
        kind: str,
        digest: bytes | None,
        plain: str | bytes | None = None,
        sample: int = 0,  # positional: a call with keywords costs twice as much, and every hit makes one
        builder: KeyBuilder | None = None,
    ) -> None:
        if digest is None and builder is None:
            raise ValueError("a Key needs its digest, or the builder that will compute it")
        self.kind = kind
        self.plain = plain
        self.sample = sample
        self._digest = digest
        self._builder = builder

    @property
    def digest(self) -> bytes:
        """32 bytes that name the request within everything its tenant stores."""
        digest = self._digest
        if digest is None:
            assert self._builder is not None
            digest = self._digest = self._builder.digest_of(self.plain, sample=self.sample)
        return digest

    @property
    def address(self) -> str | bytes:
        """What tells this key apart within its tenant, namespace and kind: the plain key where there is one and no
        sample is asked for, else the digest. Costs no digest for plain keys."""
        plain = self.plain
        return self.digest if plain is None or self.sample else plain

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Key({self.kind}, {self.digest.hex()[:16]}…)"


class KeyBuilder:
    """The keys of one view: a tenant, a namespace inside it, and the secret that both are bound to.

    Pure, and safe to share between threads: the same request gives the same key in every process, and on every machine
    with the same secret. `KeyingError` names the path of what has no canonical form.
    """

    __slots__ = ("_head", "_key", "_text_head", "namespace", "scheme", "tenant")

    def __init__(
        self, *, tenant: str = "", namespace: str = "", secret: bytes | None = None, scheme: int = KEY_SCHEME
    ) -> None:
        if scheme != KEY_SCHEME:
            raise KeyingError(f"key scheme {scheme!r} is not known; this version reads and writes scheme {KEY_SCHEME}")
        for name, text in (("tenant", tenant), ("namespace", namespace)):
            if not isinstance(text, str):
                raise KeyingError(f"must be a str, got {type(text).__name__}", path=name)
        if secret is not None and not isinstance(secret, (bytes, bytearray)):
            raise KeyingError(f"must be bytes, got {type(secret).__name__}", path="secret")
        self.tenant = tenant
        self.namespace = namespace
        self.scheme = scheme
        self._head = (scheme, tenant, namespace)
        material = pack([bytes(secret or b""), tenant], Typing.WIRE, ("secret", "tenant").__getitem__)
        self._key = blake3(material, derive_key_context=_CONTEXT).digest()
        self._text_head = pack([*self._head, "text", GENERIC, 0], Typing.WIRE, str)

    def key(self, request: object, *, sample: int = 0) -> Key:
        """The key of `request`; `sample` n > 0 is the n-th independent sample of it."""
        if type(request) is dict:
            body = mapping_body(request, sample)
        elif isinstance(request, (str, bytes)):
            return Key("text", None, request, sample, self)
        elif isinstance(request, (bytearray, memoryview)):
            return Key("text", None, bytes(request), sample, self)
        else:
            body = body_of(request, sample)
        kind, fields, typing = body
        items = [*self._head, *fields]
        packed = pack_quickly(items, typing)
        if packed is None:
            packed = pack_carefully(items, typing, lambda index: path_of(body, index - 3))
        return Key(kind, blake3(padded(packed), key=self._key).digest(), None, sample)

    def digest_of(self, request: object, *, sample: int = 0) -> bytes:
        """The digest of `request`, computed now; what `key(request).digest` gives."""
        if type(request) is str and not sample:  # every field but the last is known
            try:
                return blake3(padded(self._text_head + packb(request)), key=self._key).digest()
            except MsgpackEncodeError:
                pass  # a lone surrogate, which has a form of its own
        body = body_of(request, sample)
        packed = pack([*self._head, *body[1]], body[2], lambda index: path_of(body, index - 3))
        return blake3(padded(packed), key=self._key).digest()

    def short_hash(self, canonical: bytes) -> str:
        """A short hex fingerprint of one component, bound to this tenant; for people to compare, not to look up by."""
        return blake3(canonical, key=self._key).hexdigest(8)


def padded(canonical: bytes) -> bytes:
    """The bytes filled up with 0xC1, which no MessagePack value begins with, to where BLAKE3 is quick.

    It hashes chunks of 1 KiB side by side, but only a power of two of them: 3,300 bytes take 3.4 µs, 4,096 take 1.8.
    """
    size = len(canonical)
    if size <= 1024:
        return canonical
    return canonical.ljust(1 << (size - 1).bit_length() if size <= 16384 else -(-size // 16384) * 16384, b"\xc1")

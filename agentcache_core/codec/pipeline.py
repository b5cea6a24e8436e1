"""The way of bytes to storage and back: header and payload become one frame, compressed and encrypted as configured.

The order is fixed: serialize, digest of the payload, compress, encrypt. A digest of the payload rather than of what
is stored lets dedup survive a new dictionary, level or key.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, Protocol, cast

from blake3 import blake3

from agentcache_core.codec import compress, frame
from agentcache_core.codec.encrypt import NONCE_SIZE, TAG_SIZE, Keyring
from agentcache_core.errors import ConfigurationError, CorruptFrame, MissingDictionary, UnreadableFrame

_DIGEST_CONTEXT: Final = "AgentCache 2026-11 blob digest v1: tenant key"
MAX_HEADER: Final = 16 * 1024 * 1024


class Opened(NamedTuple):
    """What a frame held: its header (MessagePack) and its decompressed body; views of it where a view was opened."""

    header: bytes | memoryview
    body: bytes


class Dictionaries(Protocol):
    """Where trained zstd dictionaries come from. Ids are 1 to 4,294,967,295; objects are `ZstdCompressionDict`."""

    def current(self, kind: str) -> tuple[int, Any] | None:
        """The dictionary new bodies of this kind should be compressed with, or None."""
        ...

    def by_id(self, number: int) -> Any | None:
        """A dictionary an older frame names, or None when it is not held."""
        ...


class Pipeline:
    """One tenant's codec: `seal` makes frames, `open` reads them, `digest` names payloads. Safe from many threads.

    `secret` keys the digests, so that who can list a store cannot test guesses about its content; an empty one still
    separates tenants. With a `keyring` every frame is encrypted, and an unencrypted one is refused.
    """

    __slots__ = ("_cipher", "_compression", "_dictionaries", "_digest_key", "_level", "_min_size")

    def __init__(
        self,
        *,
        tenant: str = "",
        secret: bytes | None = None,
        compression: Literal["zstd"] | None = "zstd",
        level: int = compress.LEVEL,
        min_size: int = compress.MIN_SIZE,
        keyring: Keyring | None = None,
        dictionaries: Dictionaries | None = None,
    ) -> None:
        if compression not in ("zstd", None):
            raise ConfigurationError(f"compression must be 'zstd' or None, got {compression!r}")
        if not 1 <= level <= 19:
            raise ConfigurationError(f"the zstd level must be from 1 to 19, got {level!r}")
        named = tenant.encode("utf-8", "surrogatepass")
        material = len(secret or b"").to_bytes(8, "big") + (secret or b"") + named
        self._digest_key = blake3(material, derive_key_context=_DIGEST_CONTEXT).digest()
        self._compression = compression
        self._level = level
        self._min_size = min_size
        self._cipher = None if keyring is None else keyring.for_tenant(tenant)
        self._dictionaries = dictionaries

    def use(self, dictionaries: Dictionaries) -> None:
        """Compress and read with these dictionaries from now on."""
        self._dictionaries = dictionaries

    @property
    def encrypts(self) -> bool:
        """Whether frames are encrypted."""
        return self._cipher is not None

    def digest(self, payload: bytes | memoryview) -> bytes:
        """The 32-byte keyed BLAKE3 digest that names `payload` within this tenant."""
        return blake3(payload, key=self._digest_key).digest()

    def hasher(self) -> blake3:
        """A running digest, for payloads that come in parts; its `digest()` equals `digest` of them all."""
        return blake3(key=self._digest_key)

    def seal(self, content: int, header: bytes, body: bytes, *, kind: str = "", bound_to: bytes = b"") -> bytes:
        """One frame of `header` and `body`.

        `content` is one of the codes in `frame`. `kind` chooses the dictionary. `bound_to`, with a keyring, is
        authenticated too: the frame opens only with the same bytes, so one stored under another name is refused.
        """
        compression, dictionary, stored = frame.PLAIN, 0, body
        if self._compression is not None:
            chosen = self._dictionaries.current(kind) if self._dictionaries is not None else None
            number, trained = chosen or (0, None)
            squeezed = compress.compress(body, trained, level=self._level, min_size=self._min_size)
            if squeezed is not None:
                compression, dictionary, stored = frame.ZSTD, number, squeezed
        return self._wrapped(content, compression, dictionary, header, len(body), stored, bound_to)

    def _wrapped(
        self,
        content: int,
        compression: int,
        dictionary: int,
        header: bytes,
        raw_size: int,
        stored: bytes,
        bound_to: bytes,
    ) -> bytes:
        cipher = self._cipher
        if cipher is None:
            fields = frame.Prefix(content, compression, frame.CLEAR, dictionary, 0, len(header), raw_size).pack()
            return frame.join(fields, header + stored)
        fields = frame.Prefix(
            content, compression, frame.AES_256_GCM, dictionary, cipher.primary, len(header), raw_size
        ).pack()
        return frame.join(fields, cipher.encrypt(header + stored, fields + bound_to))

    def seal_plain(self, content: int, header: bytes, body: bytes, *, bound_to: bytes = b"") -> bytes:
        """`seal` without compression, for what must be readable before any dictionary is."""
        return self._wrapped(content, frame.PLAIN, 0, header, len(body), body, bound_to)

    def open(self, content: int, data: bytes | memoryview, *, max_size: int, bound_to: bytes = b"") -> Opened:
        """What `seal` was given. Raises `CorruptFrame` for anything else, and never takes more memory than the frame
        itself and `max_size` bytes for the body."""
        prefix = frame.split(data, content=content, max_size=max_size)
        cipher = self._cipher
        if prefix.encryption == frame.CLEAR:
            if cipher is not None:
                raise CorruptFrame("the frame is not encrypted, and this cache has a keyring")
            clear, start = data, frame.OVERHEAD
        elif prefix.encryption == frame.AES_256_GCM:
            if cipher is None:
                raise UnreadableFrame("the frame is encrypted, and this cache has no keyring")
            sealed = memoryview(data)[frame.OVERHEAD :]
            clear, start = cipher.decrypt(sealed, bytes(data[: frame.PREFIX]) + bound_to, prefix.key), 0
            if prefix.header_size > len(clear):
                raise CorruptFrame("the frame is shorter than its header")
        else:
            raise UnreadableFrame(f"unknown encryption {prefix.encryption}")
        end = start + prefix.header_size
        return Opened(clear[start:end], self._expand(prefix, clear, end))

    def _expand(self, prefix: frame.Prefix, clear: bytes | memoryview, start: int) -> bytes:
        if prefix.compression == frame.PLAIN:
            if len(clear) - start != prefix.raw_size:
                raise CorruptFrame(f"the body has {len(clear) - start} bytes where the frame says {prefix.raw_size}")
            return cast(bytes, clear[start:])  # a view of a view, which copies nothing
        if prefix.compression != frame.ZSTD:
            raise UnreadableFrame(f"unknown compression {prefix.compression}")
        trained = None
        if prefix.dictionary:
            trained = self._dictionaries.by_id(prefix.dictionary) if self._dictionaries is not None else None
            if trained is None:
                raise MissingDictionary(prefix.dictionary)
        return compress.decompress(memoryview(clear)[start:], prefix.raw_size, trained)


ENCRYPTION_OVERHEAD: Final = NONCE_SIZE + TAG_SIZE

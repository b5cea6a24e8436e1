"""Compression of payloads with zstd, which leaves alone what does not shrink and what is compressed already."""

from __future__ import annotations

import threading
from typing import Any, Final

from agentcache_core.errors import CorruptFrame

LEVEL: Final = 3
MIN_SIZE: Final = 128
"""Payloads below this many bytes are not worth a try: what zstd saves is eaten by its own header."""
WORTH: Final = 0.85
"""Kept only when the result is at most this part of the original, since every later read pays for decompression."""

_MEDIA: Final = (
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"OggS",
    b"ID3",
    b"fLaC",
    b"\x1aE\xdf\xa3",
    b"wOF2",
)
_CONTEXTS: Final = threading.local()


def is_compressed_media(payload: bytes) -> bool:
    """Whether the first bytes are those of a format that is compressed already (images, audio, video, archives)."""
    head = bytes(payload[:16])
    if head.startswith(_MEDIA):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head[4:8] == b"ftyp" or (head[:1] == b"\xff" and head[1:2] in (b"\xfb", b"\xf3", b"\xf2"))


def compress(payload: bytes, dictionary: Any = None, *, level: int = LEVEL, min_size: int = MIN_SIZE) -> bytes | None:
    """`payload` as one zstd frame that states its size, or None where it is better left alone.

    `dictionary` is a `zstandard.ZstdCompressionDict`. Safe from many threads: each keeps its own contexts.
    """
    if len(payload) < min_size or is_compressed_media(payload):
        return None
    squeezed: bytes = _context("ZstdCompressor", dictionary, level).compress(payload)
    return squeezed if len(squeezed) <= len(payload) * WORTH else None


def decompress(squeezed: bytes | memoryview, size: int, dictionary: Any = None) -> bytes:
    """The `size` bytes that were compressed. `CorruptFrame` when the frame states another size, before any memory is
    taken for it, or when it cannot be read."""
    import zstandard

    try:
        stated = zstandard.frame_content_size(squeezed)
        if stated != size:
            raise CorruptFrame(f"compressed data of {stated} bytes where the frame says {size}")
        payload: bytes = _context("ZstdDecompressor", dictionary, 0).decompress(squeezed, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as problem:
        raise CorruptFrame(f"compressed data cannot be read: {problem}") from problem
    if len(payload) != size:
        raise CorruptFrame(f"compressed data held {len(payload)} bytes where the frame says {size}")
    return payload


def _context(kind: str, dictionary: Any, level: int) -> Any:
    """This thread's zstd context (they must not be shared), made on first use for each dictionary and level."""
    contexts: dict[tuple[str, int, int], tuple[Any, Any]] | None = getattr(_CONTEXTS, "by_use", None)
    if contexts is None:
        contexts = _CONTEXTS.by_use = {}
    use = (kind, id(dictionary), level)
    found = contexts.get(use)
    if found is None:
        import zstandard

        if len(contexts) >= 32:
            contexts.clear()
        options = {"dict_data": dictionary} if dictionary is not None else {}
        if level:
            options["level"] = level
        # The dictionary is kept beside its context so that its id() cannot be taken over by another object.
        found = contexts[use] = (getattr(zstandard, kind)(**options), dictionary)
    return found[0]

"""The frame that everything stored wears: magic, version, codec ids, dictionary and key ids, lengths, checksum.

Layout in `docs/format.md`. A frame holds a small *header* (MessagePack, never compressed) and a *body* (the payload,
perhaps compressed), both under one checksum or, with a keyring, under one authenticated encryption.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from agentcache_core.errors import CorruptFrame, UnreadableFrame

try:
    from zlib_ng.zlib_ng import crc32  # the same sums, four times as fast on large frames
except ImportError:
    from zlib import crc32

MAGIC: Final = b"\xacC"
VERSION: Final = 1
ENTRY, BLOB, DICTIONARY, RECORD = 1, 2, 4, 5
"""What a frame holds: an entry, a blob's payload, a zstd dictionary, a record of the engine."""
PLAIN, ZSTD = 0, 1
"""How the body is compressed."""
CLEAR, AES_256_GCM = 0, 1
"""How header and body are encrypted."""

_FIXED: Final = Struct(">2sBBBBIIIQ")
_WHOLE: Final = Struct(">2sBBBBIIIQI")
_CHECKSUM: Final = Struct(">I")
_new = tuple.__new__  # a Prefix made from its fields, at a third of the cost of calling it
PREFIX: Final = _FIXED.size
OVERHEAD: Final = _FIXED.size + _CHECKSUM.size
"""Bytes that a frame adds to header and body."""


class Prefix(NamedTuple):
    """The fixed fields of a frame. `raw_size` is the body's size in bytes once decompressed."""

    content: int
    compression: int
    encryption: int
    dictionary: int
    key: int
    header_size: int
    raw_size: int

    def pack(self) -> bytes:
        """These fields as the first `PREFIX` bytes of a frame (also the data that encryption authenticates)."""
        return _FIXED.pack(MAGIC, VERSION, *self)


def join(prefix: bytes, sealed: bytes) -> bytes:
    """The frame of packed fields and what follows them."""
    return b"".join((prefix, _CHECKSUM.pack(crc32(sealed, crc32(prefix))), sealed))


def split(frame: bytes | memoryview, *, content: int, max_size: int) -> Prefix:
    """The fields of `frame`, once its magic, version, sizes and checksum have been found good. What they describe
    begins at `OVERHEAD`.

    `content` is what the frame must hold; `max_size` bounds, in bytes, the decompressed body. Raises `CorruptFrame`.
    """
    size = len(frame) - OVERHEAD
    if size < 0:
        raise CorruptFrame(f"{len(frame)} bytes are too few for a frame")
    magic, version, *fields, checksum = _WHOLE.unpack_from(frame)
    if magic != MAGIC:
        raise CorruptFrame("not a frame of AgentCache")
    if version != VERSION:
        raise UnreadableFrame(f"frame version {version}; this program reads version {VERSION}")
    if crc32(memoryview(frame)[OVERHEAD:], crc32(frame[:PREFIX])) != checksum:
        raise CorruptFrame("the checksum does not match")
    prefix = _new(Prefix, fields)
    if prefix.content != content:
        raise CorruptFrame(f"the frame holds content {prefix.content}, expected {content}")
    if prefix.raw_size > max_size:
        raise CorruptFrame(f"the frame claims {prefix.raw_size} bytes, more than the {max_size} allowed")
    if prefix.header_size > size:
        raise CorruptFrame("the frame is shorter than its header")
    return prefix

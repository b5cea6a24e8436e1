"""How names become safe paths, and what stands before the data in every file or object.

A path is made of hexadecimal digits only, so any bytes make a name and no name leaves its folder. Names longer than
`LONGEST` are cut and hashed; the full name stands in the header, and is compared.

    header: magic "ACFS", format 1, 0, length of the name (u16), expires_at (f64, 0 = never), version (16 bytes),
    CRC-32 of all this and the name; then the name; then the data. Integers are big-endian.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from typing import NamedTuple

from blake3 import blake3

from agentcache_core.errors import CorruptFrame

_HEADER = struct.Struct(">4sBBHd16s")
_CRC = struct.Struct(">I")
MAGIC, FORMAT = b"ACFS", 1
FIXED = _HEADER.size + _CRC.size
LONGEST = 100
VERSION = 16


class Header(NamedTuple):
    """What a file says of itself before its data. `size` is the header's own length in bytes."""

    name: bytes
    expires_at: float | None
    version: bytes
    size: int

    def gone(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


def make_header(name: bytes, expires_at: float | None) -> tuple[bytes, bytes]:
    """The header of a new value, and the version it was given."""
    version = secrets.token_bytes(VERSION)
    head = _HEADER.pack(MAGIC, FORMAT, 0, len(name), expires_at or 0.0, version)
    return head + _CRC.pack(zlib.crc32(head + name)) + name, version


def header_size(name: bytes) -> int:
    """Bytes that stand before the data of `name`."""
    return FIXED + len(name)


def read_header(start: bytes | memoryview) -> Header:
    """The header at the start of a file; `start` must hold at least all of it. Raises `CorruptFrame` otherwise."""
    if len(start) < FIXED:
        raise CorruptFrame("a file is shorter than its header")
    magic, version, _, length, expires_at, stamp = _HEADER.unpack_from(start)
    name = bytes(start[FIXED : FIXED + length])
    if magic != MAGIC or version != FORMAT:
        raise CorruptFrame(f"a file of unknown format {magic!r} {version}")
    if len(name) != length or _CRC.unpack_from(start, _HEADER.size)[0] != zlib.crc32(
        name, zlib.crc32(start[: _HEADER.size])
    ):
        raise CorruptFrame("the header of a file is damaged")
    return Header(name, expires_at or None, stamp, FIXED + length)


def flat(name: bytes) -> str:
    """One path component that keeps the order of names, and their prefixes up to `LONGEST` bytes."""
    if len(name) <= LONGEST:
        return name.hex()
    return f"{name[:LONGEST].hex()}~{blake3(name).hexdigest()[:32]}"


def nested(name: bytes) -> list[str]:
    """Path components in sharded folders: two leading segments of the name, a shard, and the file."""
    parts = name.split(b"/", 2)
    if len(parts) == 3 and all(parts) and len(parts[0]) <= LONGEST and len(parts[1]) <= LONGEST:
        return [parts[0].hex(), parts[1].hex(), parts[2][:1].hex(), flat(parts[2])]
    return ["_", name[:1].hex(), flat(name)]

"""The records that an authority keeps of a namespace: generations, the epochs of tags, bans (`docs/format.md`)."""

from __future__ import annotations

import secrets
import struct
import zlib
from collections.abc import Iterable

import ormsgpack

from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.space import Ban, Generation

MAX_BAN_LIST = 64 * 1024 * 1024
_GENERATION = struct.Struct("<3sB16s4Q")
_MAGIC, _FORMAT = b"ACG", 1
_EPOCH_MAGIC = b"ACT\x01"


def encode_generation(generation: Generation) -> bytes:
    """The generation record of `docs/format.md`: magic, format, lineage, four counts, CRC-32."""
    body = _GENERATION.pack(_MAGIC, _FORMAT, *generation)
    return body + zlib.crc32(body).to_bytes(4, "little")


def decode_generation(record: bytes) -> Generation:
    """The inverse of `encode_generation`; `CorruptFrame` for anything else."""
    body, check = record[:-4], record[-4:]
    if len(body) != _GENERATION.size or zlib.crc32(body).to_bytes(4, "little") != check:
        raise CorruptFrame("a generation record is damaged")
    magic, version, lineage, seq, cut, lost, bans = _GENERATION.unpack(body)
    if magic != _MAGIC or version != _FORMAT:
        raise CorruptFrame(f"a generation record of unknown format {magic!r} {version}")
    return Generation(lineage, seq, cut, lost, bans)


def encode_epoch(epoch: bytes) -> bytes:
    """A tag's epoch as stored: magic, CRC-32, the epoch."""
    return _EPOCH_MAGIC + zlib.crc32(epoch).to_bytes(4, "little") + epoch


def decode_epoch(record: bytes) -> bytes:
    """The inverse of `encode_epoch`; `CorruptFrame` for anything else."""
    epoch = record[8:]
    if record[:4] != _EPOCH_MAGIC or zlib.crc32(epoch).to_bytes(4, "little") != record[4:8]:
        raise CorruptFrame(f"a record of type {_EPOCH_MAGIC[:3].decode()} is damaged")
    return epoch


def new_epoch() -> bytes:
    """128 random bits, compared for equality only."""
    return secrets.token_bytes(16)


def encode_bans(pipeline: Pipeline, name: bytes, bans: Iterable[Ban]) -> bytes:
    """The ban list as stored under `name`: in a frame, since patterns tell of plain keys."""
    body = ormsgpack.packb([[ban.seq, ban.pattern] for ban in bans])
    return pipeline.seal_plain(frame.RECORD, b"", body, bound_to=name)


def decode_bans(pipeline: Pipeline, name: bytes, record: bytes) -> tuple[Ban, ...]:
    """The inverse of `encode_bans`; `CorruptFrame` for anything else."""
    try:
        listed = ormsgpack.unpackb(pipeline.open(frame.RECORD, record, max_size=MAX_BAN_LIST, bound_to=name).body)
        return tuple(Ban(int(seq), str(pattern)) for seq, pattern in listed)
    except (ValueError, TypeError) as problem:
        raise CorruptFrame(f"a list of bans is damaged: {problem}") from problem

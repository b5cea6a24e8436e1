"""Vector records: what is stored beside an entry so that it can be found by meaning. The layout is in
`docs/semantic.md`; the frame around it adds checksum, encryption and authentication."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentcache_core.errors import CorruptFrame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION: Final = 1
_HEAD: Final = struct.Struct("<BBHIIIdd")  # version, kind, denied, promoted, dimension, text bytes, created, expires
KINDS: Final = ("text", "chat")
MAX_DENIED: Final = 256
MAX_TEXT: Final = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class VectorRecord:
    """One stored question: the digest (32 bytes) and kind of its entry, its text and vector, when it was stored and
    when it is gone (wall-clock seconds, None = never), and the 8-byte hashes of questions for which its answer was
    reported wrong (`denied`) or judged right (`promoted`)."""

    digest: bytes
    kind: str
    text: str
    vector: NDArray[np.float32]
    created_at: float
    expires_at: float | None = None
    denied: tuple[bytes, ...] = ()
    promoted: tuple[bytes, ...] = ()


def encode_record(record: VectorRecord) -> bytes:
    """The bytes of a record."""
    text = record.text.encode("utf-8", "surrogatepass")
    head = _HEAD.pack(
        VERSION,
        KINDS.index(record.kind),
        len(record.denied),
        len(record.promoted),
        len(record.vector),
        len(text),
        record.created_at,
        float("inf") if record.expires_at is None else record.expires_at,
    )
    body = record.vector.astype("<f4").tobytes()
    return b"".join([head, record.digest, *record.denied, *record.promoted, text, body])


def decode_record(data: bytes) -> VectorRecord:
    """The record in bytes; `CorruptFrame` for anything else."""
    import numpy as np

    try:
        version, kind, denied, promoted, dimension, size, created, expires = _HEAD.unpack_from(data)
    except struct.error as error:
        raise CorruptFrame("a vector record is cut short") from error
    if version != VERSION or kind >= len(KINDS):
        raise CorruptFrame(f"a vector record of version {version}, kind {kind}")
    if size > MAX_TEXT or len(data) != _HEAD.size + 32 + 8 * (denied + promoted) + size + 4 * dimension:
        raise CorruptFrame("a vector record has the wrong size")
    at = _HEAD.size
    digest = data[at : at + 32]
    at += 32
    marks = [data[at + 8 * n : at + 8 * (n + 1)] for n in range(denied + promoted)]
    at += 8 * len(marks)
    try:
        text = data[at : at + size].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise CorruptFrame("a vector record holds no text") from error
    vector = np.frombuffer(data, "<f4", dimension, at + size).astype(np.float32)
    if not np.isfinite(vector).all():
        raise CorruptFrame("a vector record holds NaN or infinity")
    gone = None if expires == float("inf") else expires
    return VectorRecord(digest, KINDS[kind], text, vector, created, gone, tuple(marks[:denied]), tuple(marks[denied:]))

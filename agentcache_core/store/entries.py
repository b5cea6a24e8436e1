"""Entries as stored: the record of one answer, and its frame. The layout is specified in `docs/format.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import ormsgpack

from agentcache_core.codec import frame
from agentcache_core.codec.pipeline import Pipeline
from agentcache_core.errors import CorruptFrame
from agentcache_core.model import Cost

_NO_COST: Final = Cost()
_FIELDS: Final = 17


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Where a payload lies that is not in its entry: the keyed digest (32 bytes) and the size in bytes."""

    digest: bytes
    size: int


@dataclass(slots=True)
class EntryRecord:
    """One stored answer and all that is needed to decide whether it may be served. Times are wall-clock seconds.

    Immutable by convention: a frozen dataclass of 19 fields would cost as much at each hit as all else of decoding.

    kind: of its key. plain: the plain key, where the key was one, so that patterns and listings can see it.
    created_at: when its computation began to be valid. stale_at: fresh until then; None = for ever.
    stale_while_revalidate, stale_if_error: seconds after `stale_at` for which it may still be served, so.
    expires_at: gone from then on; None = never. tags: names with the 16-byte epoch each had. sources: as tags are.
    lineage (16 bytes) and seq: the stamp of the namespace's generation. ns_epoch: the namespace's 16-byte epoch.
    content_type, meta: of adapters and assets. request: the canonical request, where it is kept.
    confirmed: in a copy on a tier that is not the authority, the seq of the last change of the namespace after which
    the authority is known to have held this very answer; None: `seq`.
    Exactly one of payload (inline) and blob (elsewhere) is set.
    """

    kind: str
    created_at: float
    payload: bytes | None = None
    blob: BlobRef | None = None
    plain: str | bytes | None = None
    stale_at: float | None = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    expires_at: float | None = None
    tags: tuple[tuple[str, bytes], ...] = ()
    sources: tuple[tuple[str, bytes], ...] = ()
    lineage: bytes = b""
    seq: int = 0
    ns_epoch: bytes = b""
    cost: Cost = _NO_COST
    content_type: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    request: bytes | None = None
    confirmed: int | None = None

    @property
    def rank(self) -> int:
        """What decides between two copies of one key outside the authority: the later one is confirmed by more."""
        return self.seq if self.confirmed is None else self.confirmed

    @property
    def identity(self) -> tuple[bytes, int, float]:
        """What all copies of one answer have in common, and those of another answer to the same request have not."""
        return self.lineage, self.seq, self.created_at

    @property
    def size(self) -> int:
        """The payload's size in bytes, wherever it lies."""
        if self.blob is not None:
            return self.blob.size
        return len(self.payload or b"")


def encode_entry(record: EntryRecord, pipeline: Pipeline, *, bound_to: bytes = b"") -> bytes:
    """The frame of `record`. `bound_to` is the name it will be stored under (see `Pipeline.seal`)."""
    cost = record.cost
    fields: list[Any] = [
        record.kind,
        float(record.created_at),
        None if record.blob is None else [record.blob.digest, record.blob.size],
        record.plain,
        _seconds(record.stale_at),
        float(record.stale_while_revalidate),
        float(record.stale_if_error),
        _seconds(record.expires_at),
        [part for pair in record.tags for part in pair],
        [part for pair in record.sources for part in pair],
        record.lineage,
        record.rank,
        record.ns_epoch,
        None
        if cost == _NO_COST
        else [cost.usd_micros, cost.input_tokens, cost.cached_input_tokens, cost.output_tokens, cost.seconds],
        record.content_type,
        dict(record.meta) or None,
        None if record.request is None else len(record.request),
    ]
    if record.confirmed is not None:
        fields.append(record.seq)
    header = ormsgpack.packb(fields)
    # The request lies behind the payload in the body, so that both are compressed as one and neither is copied
    # through the header.
    body = (record.payload or b"") + (record.request or b"")
    return pipeline.seal(frame.ENTRY, header, body, kind=record.kind, bound_to=bound_to)


def decode_entry(data: bytes, pipeline: Pipeline, *, max_size: int, bound_to: bytes = b"") -> EntryRecord:
    """The record that `encode_entry` framed. `max_size` bounds payload and request together, in bytes.

    Raises `CorruptFrame` for anything that is not such a frame, and for wrong types within one.
    """
    header, body = pipeline.open(frame.ENTRY, data, max_size=max_size, bound_to=bound_to)
    try:
        return _read(ormsgpack.unpackb(header), body)
    except (ValueError, TypeError, IndexError) as problem:
        raise CorruptFrame(f"the entry's header cannot be read: {problem}") from problem


def _seconds(moment: float | None) -> float | None:
    return None if moment is None else float(moment)


def _read(fields: list[Any], body: bytes) -> EntryRecord:
    if type(fields) is not list or len(fields) < _FIELDS:
        raise ValueError("too few fields")
    kind, created_at, blob, plain, stale_at, revalidate, on_error, expires_at, tags, sources = fields[:10]
    lineage, seq, ns_epoch, cost, content_type, meta, request_size = fields[10:_FIELDS]
    confirmed: int | None = None
    if len(fields) > _FIELDS and fields[_FIELDS] is not None:
        seq, confirmed = fields[_FIELDS], seq
    if not (
        type(kind) is str
        and type(created_at) is float
        and type(stale_at) in _TIME
        and type(expires_at) in _TIME
        and type(revalidate) is float
        and type(on_error) is float
        and type(plain) in _PLAIN
        and type(tags) is list
        and type(sources) is list
        and type(lineage) is bytes
        and type(seq) is int
        and (confirmed is None or type(confirmed) is int)
        and type(ns_epoch) is bytes
        and type(content_type) in _TEXT
        and (meta is None or type(meta) is dict)
    ):
        raise TypeError("a field has the wrong type")
    request: bytes | None = None
    if request_size is not None:
        if type(request_size) is not int or not 0 <= request_size <= len(body):
            raise ValueError("the request is longer than the body")
        cut = len(body) - request_size
        body, request = body[:cut], body[cut:]
    return EntryRecord(
        kind,
        created_at,
        body if blob is None else None,
        None if blob is None else _blob(blob, body),
        plain,
        stale_at,
        revalidate,
        on_error,
        expires_at,
        _stamped(tags) if tags else (),
        _stamped(sources) if sources else (),
        lineage,
        seq,
        ns_epoch,
        _NO_COST if cost is None else Cost(*cost),
        content_type,
        meta or {},
        request,
        confirmed,
    )


_TIME: Final = (float, type(None))
_PLAIN: Final = (str, bytes, type(None))
_TEXT: Final = (str, type(None))


def _blob(fields: Any, body: bytes) -> BlobRef:
    digest, size = fields
    if type(digest) is not bytes or len(digest) != 32 or type(size) is not int or size < 0 or body:
        raise ValueError("the reference to a blob is malformed")
    return BlobRef(digest, size)


def _stamped(flat: list[Any]) -> tuple[tuple[str, bytes], ...]:
    names, epochs = flat[::2], flat[1::2]
    if len(names) != len(epochs):
        raise ValueError("a tag without an epoch")
    for name, epoch in zip(names, epochs, strict=True):
        if type(name) is not str or type(epoch) is not bytes:
            raise TypeError("a tag must be text with an epoch of bytes")
    return tuple(zip(names, epochs, strict=True))

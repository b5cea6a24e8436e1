"""Content encodings undone chunk by chunk, so that what passes through can be read while it passes."""

from __future__ import annotations

import zlib
from typing import Protocol


class Decoder(Protocol):
    """An incremental decoder of one content encoding."""

    @property
    def whole(self) -> bool:
        """Whether everything fed so far is a complete body."""
        ...

    def decode(self, chunk: bytes) -> bytes: ...


class Identity:
    """No encoding."""

    whole = True

    def decode(self, chunk: bytes) -> bytes:
        return chunk


class Inflate:
    """gzip and both shapes of deflate found in the wild (with and without the zlib wrapper)."""

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding != "deflate"
        self._first = True
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16 if self._gzip else zlib.MAX_WBITS)

    @property
    def whole(self) -> bool:
        return self._first or self._inner.eof

    def decode(self, chunk: bytes) -> bytes:
        try:
            decoded = self._inner.decompress(chunk)
        except zlib.error:
            if self._gzip or not self._first:
                raise
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
            decoded = self._inner.decompress(chunk)
        self._first = self._first and not chunk
        return decoded


class Zstandard:
    """zstd."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor().decompressobj()

    @property
    def whole(self) -> bool:
        return self._inner.eof

    def decode(self, chunk: bytes) -> bytes:
        return self._inner.decompress(chunk)


def decoder_for(content_encoding: str) -> Decoder | None:
    """A decoder for the header's value, None when this process cannot read it (then the answer is not stored)."""
    encodings = [
        name.strip().lower() for name in content_encoding.split(",") if name.strip().lower() not in ("", "identity")
    ]
    match encodings:
        case []:
            return Identity()
        case ["gzip" | "x-gzip" | "deflate"]:
            return Inflate(encodings[0])
        case ["zstd"]:
            return Zstandard()
        case _:
            return None

"""Dictionaries for zstd: trained on one tenant's answers of one kind, kept only when they earn their place.

Answers of a few kilobytes are too short for zstd to learn their repeated names and phrases from; a dictionary brings
them along. The trainer is zstd's own (the cover algorithm of Liao et al., "Effective construction of relative
Lempel-Ziv dictionaries", 2016).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentcache_core.codec.compress import LEVEL

SIZE: Final = 64 * 1024
MIN_SAMPLES: Final = 100
MIN_BYTES: Final = 128 * 1024
MOST_SAMPLES: Final = 2000
MAX_SAMPLE: Final = 32 * 1024
WORTH: Final = 0.92
"""A new dictionary must make unseen answers at most this part of what they are without it, or with the one in use."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A dictionary that is worth using: its bytes, and what unseen answers shrank to with and without it."""

    number: int
    content: bytes
    before: int
    after: int

    @property
    def ratio(self) -> float:
        """The size with the dictionary as a share of the size without it."""
        return self.after / self.before


class DictionarySet:
    """The dictionaries of one tenant on one tier that this process has loaded. Safe from many threads."""

    def __init__(self, *, level: int = LEVEL) -> None:
        self._level = level
        self._by_id: dict[int, Any] = {}
        self._current: dict[str, tuple[int, Any, float]] = {}

    def current(self, kind: str) -> tuple[int, Any] | None:
        """The newest dictionary of a kind, by number and as zstd's object; None when there is none."""
        held = self._current.get(kind)
        return None if held is None else (held[0], held[1])

    def by_id(self, number: int) -> Any | None:
        """A loaded dictionary, or None."""
        return self._by_id.get(number)

    def add(self, number: int, kind: str, content: bytes, created_at: float) -> None:
        """Take a dictionary in; the newest of its kind compresses from now on."""
        loaded = load(content, self._level)
        self._by_id[number] = loaded
        held = self._current.get(kind)
        if held is None or created_at >= held[2]:
            self._current[kind] = (number, loaded, created_at)


def load(content: bytes, level: int = LEVEL) -> Any:
    """zstd's object for a dictionary's bytes, prepared for compression."""
    import zstandard

    loaded = zstandard.ZstdCompressionDict(content)
    loaded.precompute_compress(level=level)
    return loaded


def train(samples: Sequence[bytes], in_use: Any = None, *, size: int = SIZE, level: int = LEVEL) -> Trained | None:
    """A dictionary for payloads like `samples`, or None where it would not pay.

    It has at most `size` bytes, and at most an eighth of the samples. Four fifths train, the rest judge: it must beat
    plain zstd, and `in_use` where there is one. Takes about 0.1 s for a megabyte of samples.
    """
    import zstandard

    chosen = [sample for sample in samples[:MOST_SAMPLES] if 0 < len(sample) <= MAX_SAMPLE]
    total = sum(map(len, chosen))
    if len(chosen) < MIN_SAMPLES or total < MIN_BYTES:
        return None
    judges = chosen[::5]
    learners: list[bytes | bytearray | memoryview] = [sample for index, sample in enumerate(chosen) if index % 5]
    try:
        content = zstandard.train_dictionary(min(size, total // 8), learners, level=level).as_bytes()
    except zstandard.ZstdError:
        return None  # too uniform or too varied for the trainer: then plain zstd does as well
    before = compressed_size(judges, in_use, level)
    after = compressed_size(judges, load(content, level), level)
    if after > before * WORTH:
        return None
    return Trained(int.from_bytes(os.urandom(4), "big") or 1, content, before, after)


def compressed_size(samples: Sequence[bytes], dictionary: Any = None, level: int = LEVEL) -> int:
    """The bytes that `samples` take, each compressed by itself."""
    import zstandard

    options = {} if dictionary is None else {"dict_data": dictionary}
    compressor = zstandard.ZstdCompressor(level=level, **options)
    return sum(len(compressor.compress(sample)) for sample in samples)

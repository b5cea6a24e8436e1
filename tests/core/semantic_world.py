"""An embedder without a model, for semantic tests: texts with the same words lie close together."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from agentcache_core.semantic import FunctionEmbedder

DIMENSION = 512
_IDLE_TEXT = "the a an of is s what please to do i you how can tell me actually really not"
IDLE = frozenset(_IDLE_TEXT.split())


def vectors(texts: Sequence[str]) -> Any:
    """Bags of words as float32 rows: order, case and small words do not count."""
    rows = np.zeros((len(texts), DIMENSION), np.float32)
    for row, text in zip(rows, texts, strict=True):
        words = [word for word in re.findall(r"\w+", text.lower()) if word not in IDLE] or ["?"]
        for word in words:
            row[zlib.crc32(word.encode()) % DIMENSION] += 1.0
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class CountingEmbedder:
    """Counts what it was asked to embed."""

    def __init__(self, *, fingerprint: str = "words:1", max_tokens: int | None = None) -> None:
        self.fingerprint = fingerprint
        self.max_tokens = max_tokens
        self.languages: frozenset[str] | None = None
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Any:
        self.asked.extend(texts)
        return vectors(texts)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def words_embedder(**options: Any) -> FunctionEmbedder:
    return FunctionEmbedder(vectors, fingerprint="words:1", **options)


def chat(text: str, **more: Any) -> dict[str, Any]:
    """A model call that ends in a user's text."""
    return {"provider": "openai", "model": "gpt-5", "messages": [{"role": "user", "content": text}], **more}

"""Labelled pairs of questions, their halves, and their scores under the default embedder."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.semantic import Encoder, Guard, compare, judge
from agentcache_core.semantic.guards import first_veto

LANGUAGES = ("de", "es", "fr", "ja", "ko", "zh")
FLOOR = 0.5
"""Pairs below this cosine are served by no setting here, so that their guards need not be asked."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Two questions; `same` says whether they mean the same. `kind` is the family of a near-miss."""

    a: str
    b: str
    same: bool
    kind: str = ""
    ident: int = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair with its cosine and the first guard that vetoes it, if any."""

    pair: Labelled
    cosine: float
    veto: str | None


def load(path: Path) -> list[Labelled]:
    """The pairs of one file: JSON lines, gzipped or not, with a, b and label."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(line) for line in content.decode("utf-8").split("\n") if line.strip()]
    return [Labelled(row["a"], row["b"], bool(row["label"]), row.get("kind", ""), row.get("id", n))
            for n, row in enumerate(rows)]  # fmt: skip


def sampled(pairs: Sequence[Labelled], count: int | None, *, seed: str = "sample") -> list[Labelled]:
    """At most `count` of the pairs, the same ones every time."""
    if count is None or len(pairs) <= count:
        return list(pairs)
    return sorted(pairs, key=lambda pair: _hash(seed, pair))[:count]


def halves(pairs: Iterable[Scored]) -> tuple[list[Scored], list[Scored]]:
    """The half on which thresholds are fixed, and the half on which they are judged. Questions that are linked by a
    chain of pairs are all in one half, so that nothing that was seen is judged."""
    listed = list(pairs)
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for scored in listed:
        parent[root(scored.pair.a)] = root(scored.pair.b)
    fixed: list[Scored] = []
    judged: list[Scored] = []
    for scored in listed:
        digest = hashlib.sha256(f"half\0{root(scored.pair.a)}".encode("utf-8", "surrogatepass")).digest()
        (fixed if digest[0] < 128 else judged).append(scored)
    return fixed, judged


def _hash(seed: str, pair: Labelled) -> str:
    return hashlib.sha256(f"{seed}\0{min(pair.a, pair.b)}".encode("utf-8", "surrogatepass")).hexdigest()


class Vectors:
    """The vectors of texts, kept in a folder between runs where one is named."""

    def __init__(self, encoder: Encoder, folder: Path | None) -> None:
        self.encoder = encoder
        self.folder = folder

    def of(self, name: str, texts: Iterable[str]) -> dict[str, Any]:
        """A float32 vector of length 1 for each text."""
        import numpy as np

        ordered = sorted(set(texts), key=lambda text: (len(text), text))
        if not ordered:
            return {}
        mark = hashlib.sha256("\0".join([self.encoder.fingerprint, *ordered]).encode("utf-8", "surrogatepass"))
        file = None if self.folder is None else self.folder / f"{name}-{mark.hexdigest()[:16]}.npy"
        if file is not None and file.exists():
            rows = np.load(file)
        else:
            parts = [
                drive(self.encoder.encode(BLOCKING, ordered[start : start + 512]))
                for start in range(0, len(ordered), 512)
            ]
            rows = np.concatenate(parts)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, rows)
        return dict(zip(ordered, rows, strict=True))


def score(pairs: Sequence[Labelled], vectors: dict[str, Any], guards: Sequence[Guard]) -> list[Scored]:
    """The cosine of each pair, and the guard that vetoes it."""
    found = []
    for pair in pairs:
        cosine = float(vectors[pair.a] @ vectors[pair.b])
        veto = None
        if cosine >= FLOOR:
            first = first_veto(judge(compare(pair.a, pair.b), guards, stop_at_veto=True))
            veto = None if first is None else first[0]
        found.append(Scored(pair, cosine, veto))
    return found

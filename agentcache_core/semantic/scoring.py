"""Scoring labelled pairs with the embedder and the guards of a configuration, for calibration and for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from agentcache_core.model import Decision
from agentcache_core.runtime import BLOCKING, drive
from agentcache_core.semantic.configuration import Semantic
from agentcache_core.semantic.decision import Step, decision
from agentcache_core.semantic.embedder import Encoder
from agentcache_core.semantic.guards import Verdict, compare, first_veto, judge

BATCH = 256


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two texts with their cosine similarity (None where the model does not read one whole), every asked guard's
    verdict, and the decision of the configuration's policy."""

    similarity: float | None
    guards: dict[str, Verdict]
    decision: Decision

    @property
    def clear(self) -> bool:
        """Whether both texts can be read and no guard vetoes."""
        return self.similarity is not None and first_veto(self.guards) is None


def score_pairs(
    semantic: Semantic, pairs: Iterable[tuple[str, str]], *, encoder: Encoder | None = None
) -> Iterator[ScoredPair]:
    """The pairs scored in their order, embedded in batches. Raises `EmbedderError`."""
    encoder = encoder or Encoder(semantic.embedder)
    rest = iter(pairs)
    while batch := list(islice(rest, BATCH)):
        yield from _score(semantic, encoder, batch)


def score_pair(semantic: Semantic, a: str, b: str) -> ScoredPair:
    """One pair scored, with every guard asked."""
    return next(score_pairs(semantic, [(a, b)]))


def _score(semantic: Semantic, encoder: Encoder, batch: Sequence[tuple[str, str]]) -> Iterator[ScoredPair]:
    texts = dict.fromkeys(text for pair in batch for text in pair if text.strip() and encoder.fits(text))
    vectors = dict(zip(texts, drive(encoder.encode(BLOCKING, list(texts))), strict=True)) if texts else {}
    for a, b in batch:
        verdicts = dict(judge(compare(a, b), semantic.guards))
        if a not in vectors or b not in vectors:
            reason = "empty text" if not (a.strip() and b.strip()) else "longer than the model reads"
            yield ScoredPair(None, verdicts, decision(Step.BYPASS, reason, guards=verdicts))
            continue
        similarity = min(1.0, float(vectors[a] @ vectors[b]))
        yield ScoredPair(similarity, verdicts, _decide(semantic, similarity, verdicts))


def _decide(semantic: Semantic, similarity: float, verdicts: dict[str, Verdict]) -> Decision:
    if similarity < semantic.policy.threshold <= 1.0:
        reason = f"similarity {similarity:.4f} stays below {semantic.policy.threshold:g}"
        return decision(Step.THRESHOLD, reason, guards=verdicts)
    veto = first_veto(verdicts)
    if veto is not None:
        return decision(Step.GUARDS, f"{veto[0]}: {veto[1]}", guards=verdicts)
    ruling = semantic.policy.rule(similarity)
    return decision(ruling.step, ruling.reason, guards=verdicts, bound=ruling.bound)

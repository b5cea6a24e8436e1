"""Calibration: from labelled pairs to a threshold whose error is bounded, with a finite-sample proof.

The pairs that pass every guard are sorted by score. A prefix of the n best is *proven* when the Clopper-Pearson upper
bound of its error rate (C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 1934) is
at most max_error. Prefixes are tried from short to long and the trial stops at the first that fails (fixed-sequence
testing, as in A. Angelopoulos et al., "Learn then Test", 2021), so that choosing among them costs no confidence; a few
starting lengths share the confidence between them, since a single early error would otherwise end everything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentcache_core.errors import ConfigurationError
from agentcache_core.semantic.decision import Ruling, Step

CONFIDENCE = 0.95
FORMAT = 1
_STARTS = 4


def error_upper_bound(errors: int, count: int, *, confidence: float = CONFIDENCE) -> float:
    """The Clopper-Pearson one-sided upper bound of an error rate, by bisection of the binomial tail."""
    if count <= 0 or errors >= count:
        return 1.0
    alpha = 1.0 - confidence
    if errors == 0:
        return float(1.0 - alpha ** (1.0 / count))
    low, high = errors / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_cdf(errors, count, middle) > alpha:
            low = middle
        else:
            high = middle
    return high


def _binomial_cdf(errors: int, count: int, rate: float) -> float:
    """P(at most `errors` of `count`) for an error rate; summed in logarithms."""
    if rate >= 1.0:
        return 0.0
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(rate)
        + (count - k) * math.log1p(-rate)
        for k in range(errors + 1)
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * math.fsum(math.exp(x - top) for x in logs))


@dataclass(frozen=True, slots=True)
class Proof:
    """A threshold and what is proven of it: among `count` labelled pairs at or above it `errors` were wrong, so that
    with the given confidence at most `bound` of all such answers are."""

    threshold: float
    count: int
    errors: int
    bound: float


def prove(
    scores: Sequence[float], correct: Sequence[bool], max_error: float, *, confidence: float = CONFIDENCE
) -> Proof | None:
    """The lowest threshold whose error is proven to be at most `max_error`; None when no threshold qualifies."""
    if not 0.0 < max_error < 1.0:
        raise ValueError(f"max_error is a share between 0 and 1, such as 0.01; got {max_error!r}")
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    ordered = [(scores[i], correct[i]) for i in order]
    share = 1.0 - (1.0 - confidence) / _STARTS
    least = math.ceil(math.log(1.0 - share) / math.log(1.0 - max_error))
    best: Proof | None = None
    for start in (least * 2**power for power in range(_STARTS)):
        found = _longest(ordered, start, max_error, share)
        if found is not None and (best is None or found.count > best.count):
            best = found
    return best


def _longest(ordered: list[tuple[float, bool]], start: int, max_error: float, confidence: float) -> Proof | None:
    """The longest proven prefix that is reached from `start` without a failure. Ties in the score stay together."""
    found: Proof | None = None
    errors = 0
    step = max(1, start // 4)
    for count, (score, right) in enumerate(ordered, 1):
        errors += not right
        last_of_ties = count == len(ordered) or ordered[count][0] < score
        if count < start or not last_of_ties or ((count - start) % step and count != len(ordered)):
            continue
        bound = error_upper_bound(errors, count, confidence=confidence)
        if bound > max_error:
            return found
        found = Proof(score, count, errors, bound)
    return found


@dataclass(frozen=True, slots=True)
class Calibration:
    """Labelled scores of pairs that passed every guard, bound to the embedder and the guards they were taken with."""

    fingerprint: str
    guards_version: str
    scores: tuple[float, ...]
    correct: tuple[bool, ...]
    confidence: float = CONFIDENCE
    pairs: int = 0  # how many labelled pairs there were before the guards

    def with_outcome(self, score: float, correct: bool) -> Calibration:
        """The calibration with one more labelled score."""
        return replace(self, scores=(*self.scores, score), correct=(*self.correct, correct))

    def save(self, path: str | Path, *, max_error: float | None = None) -> None:
        """Write a JSON file; it holds scores and labels, no text."""
        found = None if max_error is None else prove(self.scores, self.correct, max_error, confidence=self.confidence)
        content: dict[str, Any] = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "guards_version": self.guards_version,
            "confidence": self.confidence,
            "pairs": self.pairs,
            "scores": [round(score, 6) for score in self.scores],
            "correct": [int(right) for right in self.correct],
        }
        if max_error is not None and found is not None:
            content["proof"] = {
                "max_error": max_error,
                "threshold": found.threshold,
                "count": found.count,
                "errors": found.errors,
                "bound": found.bound,
            }
        Path(path).write_text(json.dumps(content), encoding="utf-8")


def load_calibration(path: str | Path) -> Calibration:
    """A calibration file; `ConfigurationError` naming what is wrong with it."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"no calibration file {str(path)!r}: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{str(path)!r} is no calibration file: {error}") from error
    try:
        if content["format"] != FORMAT:
            raise ConfigurationError(f"{str(path)!r} has calibration format {content['format']!r}, not {FORMAT}")
        scores = tuple(float(score) for score in content["scores"])
        correct = tuple(bool(right) for right in content["correct"])
        found = Calibration(
            str(content["fingerprint"]),
            str(content["guards_version"]),
            scores,
            correct,
            float(content["confidence"]),
            int(content["pairs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{str(path)!r} is no calibration file: {type(error).__name__}: {error}") from error
    if len(scores) != len(correct) or not all(math.isfinite(score) for score in scores):
        raise ConfigurationError(f"{str(path)!r} is no calibration file: scores and labels do not match")
    return found


def calibrate(
    scored: Iterable[tuple[float, bool, bool]], *, fingerprint: str, guards_version: str, confidence: float = CONFIDENCE
) -> Calibration:
    """The calibration of labelled pairs given as (score, passed every guard, same meaning)."""
    listed = list(scored)
    passed = [(score, right) for score, clear, right in listed if clear]
    return Calibration(
        fingerprint,
        guards_version,
        tuple(score for score, _ in passed),
        tuple(right for _, right in passed),
        confidence,
        len(listed),
    )


@dataclass(frozen=True, slots=True)
class Bounded:
    """Serve only where the error of what is served is proven to stay within `max_error`.

    Without a calibration, or where no threshold qualifies, it serves nothing.
    """

    max_error: float
    calibration: Calibration | None = None
    proof: Proof | None = None
    floor: float = 0.0

    @property
    def threshold(self) -> float:
        """The proven threshold, above 1 when there is none, so that nothing is looked at."""
        return 2.0 if self.proof is None else max(self.proof.threshold, self.floor)

    def rule(self, score: float) -> Ruling:
        """Serve iff `score` reaches the proven threshold; the ruling holds the lower bound of being right."""
        if self.calibration is None:
            return Ruling(False, Step.POLICY, "bounded, but not calibrated: nothing is served")
        if self.proof is None:
            return Ruling(False, Step.POLICY, f"no threshold qualifies for max_error {self.max_error:g}")
        right = 1.0 - self.proof.bound
        if score < self.threshold:
            return Ruling(False, Step.POLICY, f"similarity {score:.4f} stays below the proven {self.threshold:.4f}")
        return Ruling(True, Step.BOUNDED, f"at least {right:.4f} of such answers are right", right)

    def learn(self, score: float, correct: bool) -> Bounded:
        """The policy with one more labelled score. Only the failure of a served answer is news; a threshold once given
        up is not lowered again."""
        if self.calibration is None or correct:
            return self
        grown = self.calibration.with_outcome(score, correct)
        proof = prove(grown.scores, grown.correct, self.max_error, confidence=grown.confidence)
        return replace(self, calibration=grown, proof=proof, floor=max(self.floor, self.threshold))


def bounded(max_error: float, *, calibration: Calibration | str | Path | None = None) -> Bounded:
    """The policy that serves only where at most `max_error` of the answers are wrong, as the calibration proves."""
    if not (isinstance(max_error, int | float) and 0.0 < max_error < 1.0):
        raise ConfigurationError(f"max_error is a share between 0 and 1, such as 0.01; got {max_error!r}")
    if calibration is None:
        return Bounded(max_error)
    held = calibration if isinstance(calibration, Calibration) else load_calibration(calibration)
    return Bounded(max_error, held, prove(held.scores, held.correct, max_error, confidence=held.confidence))

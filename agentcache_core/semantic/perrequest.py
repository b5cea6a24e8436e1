"""The per-request policy: serve and explore so that the share of wrong answers among all requests stays bounded.

After vCache (L. G. Schroeder et al., "vCache: Verified Semantic Prompt Caching", 2025): the chance that an answer is
right is a logistic function of similarity, fitted to what was observed; instead of its threshold t an upper confidence
bound of t is used, and with a probability tau that makes up for what remains uncertain the model is asked (explored):

    alpha(eps) = (1 - eps) * L(s; t + z(1 - eps) * sd(t), gamma)
    tau = max(0, min over eps of 1 - delta / (1 - alpha))

Four things differ. The error is allowed among all requests, and one without a near answer cannot be answered wrongly:
so delta is max_error over the share of requests that have one (its upper confidence bound, W. Hoeffding, 1963).
Evidence is kept per stored question and pooled: a question with too little of its own is judged by the pool, since most
questions are asked about only once. A Gaussian prior on the fit takes the place of a table for the case that right and
wrong observations do not overlap. Where the fit does not rise with similarity, everything explores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from agentcache_core.semantic.decision import Ruling, Step

Observation = tuple[float, bool]
OWN_EVIDENCE = 6
POOLED_EVIDENCE = 30
MAX_POOL = 2_000
_SEEDS: tuple[Observation, ...] = ((0.0, False), (1.0, True))
_LEVELS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_Z = tuple((level, NormalDist().inv_cdf(1.0 - level)) for level in _LEVELS)
_RIDGE = 1e-3
_CENTRE = 0.9
"""Similarities are fitted around here: it keeps slope and intercept from being told apart badly."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A logistic curve over similarity: its threshold (where right and wrong are equally likely), the standard
    deviation of that, and its slope."""

    threshold: float
    deviation: float
    slope: float


def fit_logistic(observed: Sequence[Observation]) -> Fit | None:
    """The maximum a posteriori fit by Newton's method; None where right answers do not grow with similarity."""
    intercept, slope = 0.0, 10.0
    for _ in range(50):
        g0, g1 = -_RIDGE * intercept, -_RIDGE * (slope - 10.0)
        h00, h01, h11 = _RIDGE, 0.0, _RIDGE
        for score, right in observed:
            x = score - _CENTRE
            p = _logistic(intercept + slope * x)
            weight = max(p * (1.0 - p), 1e-9)
            g0 += right - p
            g1 += (right - p) * x
            h00 += weight
            h01 += weight * x
            h11 += weight * x * x
        determinant = h00 * h11 - h01 * h01
        if determinant <= 1e-18:
            return None
        step0 = (h11 * g0 - h01 * g1) / determinant
        step1 = (h00 * g1 - h01 * g0) / determinant
        scale = min(1.0, 20.0 / max(1e-9, abs(step0), abs(step1)))  # no leap farther than 20
        intercept += scale * step0
        slope += scale * step1
        if abs(step0) + abs(step1) < 1e-7:
            break
    if slope <= 1e-3:
        return None
    d0, d1 = -1.0 / slope, intercept / slope**2
    variance = (d0 * d0 * h11 - 2 * d0 * d1 * h01 + d1 * d1 * h00) / determinant
    return Fit(_CENTRE - intercept / slope, math.sqrt(max(variance, 0.0)), slope)


def _logistic(value: float) -> float:
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-min(value, 700.0)))
    grown = math.exp(max(value, -700.0))
    return grown / (1.0 + grown)


def exploring(fit: Fit | None, score: float, max_error: float) -> float:
    """The probability with which the model must be asked, for an answer of this similarity."""
    if fit is None:
        return 1.0
    least = 1.0
    for level, z in _Z:
        alpha = (1.0 - level) * _logistic(fit.slope * (score - (fit.threshold + z * fit.deviation)))
        least = min(least, 1.0 - max_error / (1.0 - alpha) if alpha < 1.0 else 0.0)
    return max(0.0, least)


@dataclass(frozen=True, slots=True)
class PerRequest:
    """Serve so that at most `max_error` of all requests are answered wrongly, in expectation and if right answers
    follow a logistic curve. `floor` is the lowest similarity looked at; `pool` what was observed in this namespace;
    `requests` were asked, of which `candidates` had a near answer that passed the guards."""

    max_error: float
    floor: float = 0.95
    requests: int = 0
    candidates: int = 0
    pool: tuple[Observation, ...] = ()
    fit: Fit | None = None

    @property
    def threshold(self) -> float:
        """The lowest similarity looked at."""
        return self.floor

    @property
    def allowed(self) -> float:
        """The error allowed among requests that have a near answer."""
        if not self.requests:
            return self.max_error
        share = self.candidates / self.requests + math.sqrt(math.log(100.0) / (2 * self.requests))
        return min(0.5, self.max_error / min(1.0, share))

    def asked(self, *, candidate: bool) -> PerRequest:
        """The policy after one more request, with a near answer that passed the guards or without."""
        return replace(self, requests=self.requests + 1, candidates=self.candidates + candidate)

    def rule(self, score: float) -> Ruling:
        """The ruling where nothing is drawn by lot: serve only what needs no exploring."""
        return self.draw(score, (), 0.0)

    def draw(self, score: float, own: Sequence[Observation], chance: float) -> Ruling:
        """The ruling for one candidate: `own` is what was observed of it, `chance` uniform in [0, 1)."""
        if score < self.floor:
            return Ruling(False, Step.THRESHOLD, f"similarity {score:.4f} stays below {self.floor:g}")
        if len(own) >= OWN_EVIDENCE:
            fit, evidence = fit_logistic([*_SEEDS, *own]), f"{len(own)} observations of this question"
        elif len(self.pool) >= POOLED_EVIDENCE:
            fit, evidence = self.fit, f"{len(self.pool)} observations"
        else:
            return Ruling(False, Step.POLICY, f"exploring: {len(self.pool)} of {POOLED_EVIDENCE} observations")
        explore = exploring(fit, score, self.allowed)
        if chance < explore:
            return Ruling(False, Step.POLICY, f"exploring, with probability {explore:.3f} after {evidence}")
        return Ruling(True, Step.BOUNDED, f"exploring {explore:.3f} suffices after {evidence}", 1.0 - self.max_error)

    def observed(self, score: float, correct: bool) -> PerRequest:
        """The policy with one more observation of an explored pair. The curve is fitted anew now and then."""
        pool = (*self.pool, (score, correct))[-MAX_POOL:]
        due = not correct or len(pool) <= 100 or len(pool) % 25 == 0
        return replace(self, pool=pool, fit=fit_logistic([*_SEEDS, *pool]) if due else self.fit)

    def learn(self, score: float, correct: bool) -> PerRequest:
        """A reported failure is an observation; praise is not, for only served answers are praised."""
        return self if correct else self.observed(score, correct)

"""The audit: a share of the semantic hits is recomputed, and what is known of their error is kept, valid at any time.

The confidence sequence is the beta-binomial mixture of H. Robbins ("Statistical methods related to the law of the
iterated logarithm", 1970): after n audits of which k were wrong, an error rate p is ruled out when

    B(1 + k, 1 + n - k) / (p^k (1 - p)^(n - k)) >= 1 / alpha

By Ville's inequality the true rate is ever ruled out with probability at most alpha, however often one looks; with
alpha = 0.1 one clean audit proves an error of at most 0.95.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from agentcache_core.semantic.decision import Policy, Ruling, Step

ALPHA = 0.1
TIGHTEN_AFTER = 50
State = Literal["on", "tightened", "off"]


def confidence_sequence(wrong: int, count: int, *, alpha: float = ALPHA) -> tuple[float, float]:
    """(lower, upper) bound of an error rate after `count` audits with `wrong` errors, valid at every time at once."""
    if count == 0:
        return 0.0, 1.0
    mixture = math.lgamma(1 + wrong) + math.lgamma(1 + count - wrong) - math.lgamma(2 + count)

    def ruled_out(rate: float) -> bool:
        likelihood = (wrong * math.log(rate) if wrong else 0.0) + (
            (count - wrong) * math.log1p(-rate) if count - wrong else 0.0
        )
        return mixture - likelihood >= math.log(1.0 / alpha)

    estimate = wrong / count
    return _edge(ruled_out, 1e-12, estimate), _edge(ruled_out, 1.0 - 1e-12, estimate)


def _edge(ruled_out: Any, outer: float, inner: float) -> float:
    """Where rates begin to be ruled out between an estimate and an end of the scale, by bisection."""
    inner = min(max(inner, 1e-12), 1.0 - 1e-12)
    if not ruled_out(outer):
        return round(outer)
    for _ in range(60):
        middle = (outer + inner) / 2
        if ruled_out(middle):
            outer = middle
        else:
            inner = middle
    return (outer + inner) / 2


@dataclass(frozen=True, slots=True)
class Trail:
    """What the audits of one namespace found: all of them, and those since the bar was last raised."""

    count: int = 0
    wrong: int = 0
    recent: int = 0
    recent_wrong: int = 0
    raised: int = 0  # how often the bar was raised
    off: bool = False

    @property
    def state(self) -> State:
        """Whether semantic answers are on, on behind a raised bar, or off."""
        return "off" if self.off else "tightened" if self.raised else "on"

    def noted(self, *, correct: bool, max_error: float | None) -> Trail:
        """The trail with one more audit. It goes off when the error is proven to exceed `max_error`, and the bar is
        raised when its estimate does after 50 audits. Without a `max_error` it only counts."""
        found = replace(
            self,
            count=self.count + 1,
            wrong=self.wrong + (not correct),
            recent=self.recent + 1,
            recent_wrong=self.recent_wrong + (not correct),
        )
        if max_error is None:
            return found
        if confidence_sequence(found.wrong, found.count)[0] > max_error:
            return replace(found, off=True)
        if found.recent >= TIGHTEN_AFTER and found.recent_wrong / found.recent > max_error:
            return replace(found, raised=found.raised + 1, recent=0, recent_wrong=0)
        return found

    def figures(self) -> dict[str, Any]:
        """The report: what was audited, and what is proven so far."""
        lower, upper = confidence_sequence(self.wrong, self.count)
        return {
            "state": self.state,
            "audits": self.count,
            "wrong": self.wrong,
            "estimate": self.wrong / self.count if self.count else None,
            "lower": lower,
            "upper": upper,
        }


@dataclass(frozen=True, slots=True)
class Tightened:
    """A policy behind a bar that an audit raised: half of what is left to similarity 1, each time."""

    policy: Policy
    times: int

    @property
    def threshold(self) -> float:
        """The raised threshold."""
        base = self.policy.threshold
        return base if base > 1.0 else 1.0 - (1.0 - base) / 2**self.times

    def rule(self, score: float) -> Ruling:
        """The policy's ruling for scores that reach the bar."""
        if score < self.threshold:
            return Ruling(False, Step.AUDIT, f"the audit raised the threshold to {self.threshold:.4f}")
        return self.policy.rule(score)

    def learn(self, score: float, correct: bool) -> Tightened:
        """The bar stays; the policy behind it learns."""
        return replace(self, policy=self.policy.learn(score, correct))


def answer_text(value: Any) -> str | None:
    """The text of an answer: a str, or what a chat response says; None where there is none."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return None
    for name in ("content", "text", "output_text", "message", "choices", "output"):
        inner = value.get(name)
        if isinstance(inner, Sequence) and not isinstance(inner, str | bytes):
            texts = [text for item in inner if (text := answer_text(item)) is not None]
            if texts:
                return "\n".join(texts)
        elif inner is not None and (text := answer_text(inner)) is not None:
            return text
    return None


def plainly_equal(a: Any, b: Any) -> bool | None:
    """Whether two answers are the same without a doubt; None where their texts differ and must be judged."""
    if a == b:
        return True
    one, other = answer_text(a), answer_text(b)
    if one is None or other is None:
        return False
    return True if one.split() == other.split() else None

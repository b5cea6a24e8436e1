"""The steps that decide about a near answer, and the policies that decide on similarity once every guard has passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agentcache_core.model import Decision
from agentcache_core.semantic.guards.guard import Verdict


class Step(StrEnum):
    """The step of the stack that decided. All but `SERVING` refuse."""

    BYPASS = "bypass"  # the request may not be matched semantically at all
    EMPTY = "empty"  # nothing is stored in its partition
    THRESHOLD = "threshold"  # nothing stored is similar enough
    GUARDS = "guards"  # a guard vetoed
    REPORTED = "reported"  # this very pair was reported wrong
    VERIFIER = "verifier"  # the verifier refused
    POLICY = "policy"  # the policy refused: not calibrated, not proven enough, exploring
    AUDIT = "audit"  # the audit switched semantic answers of this namespace off, or raised the bar
    GONE = "gone"  # the stored answer is no longer servable
    EMBEDDER = "embedder"  # the embedder failed or answered nonsense
    STATIC = "static"  # served: similarity reaches a fixed threshold
    BOUNDED = "bounded"  # served: the proven lower bound of being right is high enough
    PROMOTED = "promoted"  # served: this very pair was judged right before


SERVING = frozenset([Step.STATIC, Step.BOUNDED, Step.PROMOTED])


@dataclass(frozen=True, slots=True)
class Ruling:
    """A policy's answer for one score: serve or not, by which step, why, and the proven lower bound of being right."""

    serve: bool
    step: Step
    reason: str
    bound: float | None = None


class Policy(Protocol):
    """Decides on a score alone. `threshold` is the lowest similarity worth looking at; below it nothing is compared.

    `learn` takes the outcome of a served answer and gives the policy to use from now on.
    """

    @property
    def threshold(self) -> float: ...
    def rule(self, score: float) -> Ruling: ...
    def learn(self, score: float, correct: bool) -> Policy: ...


@dataclass(frozen=True, slots=True)
class Static:
    """Serve at or above a fixed threshold, a cosine similarity in (0, 1]. Promises nothing about errors."""

    threshold: float = 0.95

    def __post_init__(self) -> None:
        if not (isinstance(self.threshold, int | float) and 0.0 < self.threshold <= 1.0):
            raise ValueError(f"threshold is a cosine similarity in (0, 1], usually 0.95; got {self.threshold!r}")

    def rule(self, score: float) -> Ruling:
        """Serve iff `score` reaches the threshold."""
        if score >= self.threshold:
            return Ruling(True, Step.STATIC, f"similarity {score:.4f} reaches {self.threshold:g}")
        return Ruling(False, Step.THRESHOLD, f"similarity {score:.4f} stays below {self.threshold:g}")

    def learn(self, score: float, correct: bool) -> Static:
        """A fixed threshold stays; the reported pair itself is never served again."""
        return self


def static(threshold: float = 0.95) -> Static:
    """The policy that serves at or above a fixed threshold."""
    return Static(threshold)


def decision(
    step: Step, reason: str, *, guards: Mapping[str, Verdict] | None = None, bound: float | None = None
) -> Decision:
    """A decision with every asked guard's verdict in words."""
    return Decision(str(step), reason, {name: str(verdict) for name, verdict in (guards or {}).items()}, bound)

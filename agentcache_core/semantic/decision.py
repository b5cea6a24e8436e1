"""What was decided about a question and a stored answer, by which step, and the policies that decide on similarity
alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from .guards.guard import Verdict


class Step(StrEnum):
    """The step of the stack that decided. All but the last three refuse."""

    BYPASS = "bypass"  # the request may not be matched semantically at all
    EMPTY = "empty"  # nothing is stored in its partition
    THRESHOLD = "threshold"  # nothing stored is similar enough
    GUARDS = "guards"  # a guard vetoed every candidate
    VERIFIER = "verifier"  # the verifier refused
    POLICY = "policy"  # the policy refused: not calibrated, not proven enough, exploring, switched off by the audit
    EMBEDDER = "embedder"  # the embedder failed or answered nonsense
    STATIC = "static"  # served: at or above a fixed threshold
    BOUNDED = "bounded"  # served: the proven lower bound of being right is high enough
    PROMOTED = "promoted"  # served: this very pair was judged right before


SERVING = frozenset([Step.STATIC, Step.BOUNDED, Step.PROMOTED])


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a stored answer was served for another question, or was not.

    ``step`` names the step that decided, ``reason`` says it in words, ``guards`` holds every asked guard's verdict
    by name, ``bound`` is the
    proven upper bound of the error of answers like this one (``None`` where nothing is proven), ``similarity`` the
    cosine of the best candidate.
    """

    step: str
    reason: str
    guards: Mapping[str, Verdict] = field(default_factory=dict)
    bound: float | None = None
    similarity: float | None = None

    @property
    def served(self) -> bool:
        """Whether the decision was to serve."""
        return self.step in SERVING


@dataclass(frozen=True, slots=True)
class Ruling:
    """A policy's answer for one similarity: serve or not, why, and the proven error bound if there is one."""

    serve: bool
    step: Step
    reason: str
    bound: float | None = None


class Policy(Protocol):
    """Decides on a score alone, after every guard has passed. Pure: the same score gives the same ruling."""

    @property
    def threshold(self) -> float:
        """The lowest cosine worth looking at; candidates below it are not even compared."""
        ...

    def rule(self, score: float) -> Ruling:
        """The ruling for a candidate of this score."""
        ...


@dataclass(frozen=True, slots=True)
class Static:
    """Serve at or above a fixed threshold."""

    threshold: float = 0.95

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(
                f"threshold must lie in (0, 1], not {self.threshold}: it is a cosine similarity, 0.95 is usual"
            )

    def rule(self, score: float) -> Ruling:
        """Serve iff ``score`` reaches the threshold."""
        if score >= self.threshold:
            return Ruling(True, Step.STATIC, f"similarity {score:.3f} reaches {self.threshold}")
        return Ruling(False, Step.THRESHOLD, f"similarity {score:.3f} stays below {self.threshold}")


def static(threshold: float = 0.95) -> Static:
    """The policy that serves at or above a fixed threshold."""
    return Static(threshold)

"""What a user says about semantic keys, checked once at construction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from blake3 import blake3

from agentcache_core.errors import ConfigurationError
from agentcache_core.semantic.calibration import Calibration, bounded, load_calibration
from agentcache_core.semantic.decision import Policy, Static
from agentcache_core.semantic.embedder import Embedder, as_embedder
from agentcache_core.semantic.guards import DEFAULT_GUARDS, GUARDS_VERSION
from agentcache_core.semantic.guards.guard import Guard
from agentcache_core.semantic.guards.languages import served
from agentcache_core.semantic.perrequest import PerRequest
from agentcache_core.semantic.verifier import Afterwards

Mode = Literal["per_hit", "per_request"]


class NotCalibrated(UserWarning):
    """A bounded policy without a calibration, or for which no threshold qualifies: it serves nothing."""


def guards_version(guards: Iterable[Guard]) -> str:
    """What a calibration is bound to: the version of the guards here and the names of those in use."""
    names = ",".join(guard.name for guard in guards)
    return f"{GUARDS_VERSION}:{blake3(names.encode()).hexdigest(4)}"


class Semantic:
    """Semantic keys: how near questions are found, and when an answer may stand for another question.

    threshold: the lowest cosine similarity looked at, 0.95 unless said otherwise; or a policy of one's own.
    embedder: None for all-MiniLM-L6-v2 (English), the name or path of a sentence-transformers model, a function from
    texts to vectors, or an `Embedder`. guards: veto rules (`default_guards(["en", "de"])` serves further languages).
    verifier: a function (question, stored question, similarity) -> bool or probability, asked after the guards; it may
    be async. max_error: serve only where at most this share of answers is proven wrong; needs `calibration`, the path
    of what `agentcache calibrate` wrote. mode: "per_hit" bounds the error among answers served, "per_request" among
    all requests. audit: the share of hits that is recomputed in the background. recompute: (request) -> value for
    that, where a hit comes without a computation. equivalent: (served, recomputed) -> bool, whether two answers say the
    same; by default equal texts do, and texts that are as similar as an answer must be and pass the guards for facts.
    seed: of the choice which hits are audited. Raises `ConfigurationError` for what cannot work.
    """

    def __init__(
        self,
        threshold: float | Policy = 0.95,
        *,
        embedder: Any = None,
        guards: Iterable[Guard] = DEFAULT_GUARDS,
        verifier: Any = None,
        max_error: float | None = None,
        mode: Mode = "per_hit",
        audit: float = 0.02,
        recompute: Callable[[Any], Any] | None = None,
        calibration: Calibration | str | Path | None = None,
        equivalent: Callable[[Any, Any], bool] | None = None,
        seed: int | None = None,
    ) -> None:
        if mode not in get_args(Mode):
            raise ConfigurationError(f"mode must be 'per_hit' or 'per_request', got {mode!r}")
        if not (isinstance(audit, int | float) and 0.0 <= audit <= 1.0):
            raise ConfigurationError(f"audit is a share of the hits between 0 and 1, got {audit!r}")
        if verifier is not None and not (callable(verifier) or isinstance(verifier, Afterwards)):
            raise ConfigurationError(f"verifier must be callable, got {type(verifier).__name__}")
        self.embedder: Embedder = as_embedder(embedder)
        self.guards = _checked(guards)
        if self.embedder.languages is not None:
            self.guards = (*self.guards, Guard("embedder language", served(self.embedder.languages).check))
        self.guards_version = guards_version(self.guards)
        self.verifier = verifier
        self.max_error = max_error
        self.mode = mode
        self.audit = float(audit)
        self.recompute = recompute
        self.equivalent = equivalent
        self.seed = seed
        self.policy = self._policy(threshold, max_error, calibration)

    def _policy(
        self, threshold: float | Policy, max_error: float | None, calibration: Calibration | str | Path | None
    ) -> Policy:
        if not isinstance(threshold, int | float):
            return threshold
        if max_error is None:
            if self.mode == "per_request":
                raise ConfigurationError("mode='per_request' needs max_error: the share of wrong answers allowed")
            if calibration is not None:
                raise ConfigurationError("calibration needs max_error: the share of wrong answers it is to bound")
            try:
                return Static(float(threshold))
            except ValueError as error:
                raise ConfigurationError(str(error)) from error
        if self.mode == "per_request":
            if calibration is not None:
                raise ConfigurationError("mode='per_request' learns while it runs and takes no calibration")
            if not 0.0 < max_error < 1.0:
                raise ConfigurationError(f"max_error is a share between 0 and 1, such as 0.01; got {max_error!r}")
            return PerRequest(max_error, Static(float(threshold)).threshold)
        held = load_calibration(calibration) if isinstance(calibration, str | Path) else calibration
        if held is not None:
            for what, mine, theirs in (
                ("embedder", self.embedder.fingerprint, held.fingerprint),
                ("guards", self.guards_version, held.guards_version),
            ):
                if mine != theirs:
                    raise ConfigurationError(
                        f"the calibration was taken with another {what} ({theirs!r}, here {mine!r}); "
                        "run `agentcache calibrate` again"
                    )
        policy = bounded(max_error, calibration=held)
        if policy.proof is None:
            why = "it is not calibrated" if held is None else "no threshold qualifies"
            warnings.warn(
                f"Semantic(max_error={max_error:g}) serves nothing: {why}. `agentcache calibrate PAIRS.jsonl "
                f"--max-error {max_error:g} -o calibration.json` makes a calibration from labelled pairs",
                NotCalibrated,
                stacklevel=3,
            )
        return policy


def _checked(guards: Iterable[Guard]) -> tuple[Guard, ...]:
    listed = tuple(guards)
    for guard in listed:
        if not isinstance(guard, Guard):
            raise ConfigurationError(
                f"guards are Guard(name, check) objects, got {type(guard).__name__}; check takes a Pair and gives the "
                "reason for a veto or None"
            )
    names = [guard.name for guard in listed]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"two guards have the same name: {', '.join(sorted(names))}")
    return listed

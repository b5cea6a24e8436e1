"""Semantic keys: near questions are answered only when it is safe. Heavy libraries are imported when first used."""

from __future__ import annotations

from agentcache_core.semantic.calibration import Bounded, Calibration, bounded, load_calibration
from agentcache_core.semantic.configuration import NotCalibrated, Semantic
from agentcache_core.semantic.decision import Policy, Ruling, Static, Step, static
from agentcache_core.semantic.embedder import Embedder, Encoder, FunctionEmbedder
from agentcache_core.semantic.guards import (
    DEFAULT_GUARDS,
    FACT_GUARDS,
    Guard,
    Pair,
    Verdict,
    compare,
    default_guards,
    judge,
)
from agentcache_core.semantic.verifier import Afterwards, PairVerifier

__all__ = [
    "DEFAULT_GUARDS",
    "FACT_GUARDS",
    "Afterwards",
    "Bounded",
    "Calibration",
    "Embedder",
    "Encoder",
    "FunctionEmbedder",
    "Guard",
    "NotCalibrated",
    "Pair",
    "PairVerifier",
    "Policy",
    "Ruling",
    "Semantic",
    "Static",
    "Step",
    "Verdict",
    "bounded",
    "compare",
    "default_guards",
    "judge",
    "load_calibration",
    "static",
]

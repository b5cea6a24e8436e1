"""The per-request policy: what its fit finds, that its bound holds on streams, and how it explores in a cache."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from semantic_world import CountingEmbedder, chat

from agentcache_core import Cache, Semantic
from agentcache_core.errors import ConfigurationError
from agentcache_core.semantic.perrequest import Fit, PerRequest, exploring, fit_logistic


def right(score: float, chance: random.Random, *, middle: float = 0.85, slope: float = 40.0) -> bool:
    return chance.random() < 1.0 / (1.0 + math.exp(-slope * (score - middle)))


def test_the_fit_finds_the_curve_that_made_the_observations() -> None:
    chance = random.Random(1)
    scores = [chance.uniform(0.7, 1.0) for _ in range(3000)]
    fit = fit_logistic([(score, right(score, chance)) for score in scores])
    assert fit is not None
    assert fit.threshold == pytest.approx(0.85, abs=0.01)
    assert fit.slope == pytest.approx(40.0, rel=0.2)
    assert 0.0 < fit.deviation < 0.01


@pytest.mark.parametrize("observed", [[(0.9, True)] * 50, [(0.9, False)] * 50, [(0.9, False), (0.95, True)] * 20])
def test_observations_that_do_not_overlap_give_a_finite_fit_or_none(observed: list[tuple[float, bool]]) -> None:
    fit = fit_logistic(observed)
    assert fit is None or all(math.isfinite(x) for x in (fit.threshold, fit.deviation, fit.slope))


def test_answers_that_get_worse_with_similarity_are_always_explored() -> None:
    chance = random.Random(2)
    scores = [chance.uniform(0.7, 1.0) for _ in range(500)]
    assert exploring(fit_logistic([(score, not right(score, chance)) for score in scores]), 0.99, 0.05) == 1.0


@given(st.floats(0.7, 1.0), st.floats(0.005, 0.2))
@settings(deadline=None)
def test_exploring_is_a_probability_that_falls_with_what_is_allowed(score: float, allowed: float) -> None:
    fit = Fit(0.8, 0.01, 40.0)
    assert 0.0 <= exploring(fit, score, 2 * allowed) <= exploring(fit, score, allowed) <= 1.0
    assert exploring(fit, min(1.0, score + 0.05), allowed) <= exploring(fit, score, allowed) + 1e-12


@pytest.mark.parametrize("allowed", [0.01, 0.02])
def test_the_bound_holds_on_streams(allowed: float) -> None:
    broken = served = 0
    for seed in range(20):
        chance = random.Random(seed)
        policy = PerRequest(allowed, 0.8)
        errors = 0
        for _ in range(1500):
            score = chance.uniform(0.4, 1.0)
            near = score >= 0.8
            policy = policy.asked(candidate=near)
            if not near:
                continue
            correct = right(score, chance)
            if policy.draw(score, (), chance.random()).serve:
                errors += not correct
                served += correct
            else:
                policy = policy.observed(score, correct)
        broken += errors > allowed * 1500
    assert broken <= 1
    assert served > 20 * 100


def test_a_question_with_evidence_of_its_own_is_judged_by_it() -> None:
    policy = PerRequest(0.05, 0.8, requests=1000, candidates=1000)
    good = [(0.95, True)] * 40 + [(0.85, False)] * 10
    assert policy.draw(0.97, good, 0.99).serve
    assert not policy.draw(0.97, [(0.97, False)] * 40, 0.9).serve
    assert "0 of 30 observations" in policy.draw(0.97, (), 0.99).reason


WORDS_TEXT = "apple bridge candle desert engine forest garden harbour island jungle kettle lantern meadow"
WORDS = WORDS_TEXT.split()


def question(n: int, form: str) -> dict[str, Any]:
    one, two = WORDS[n % len(WORDS)], WORDS[(n // len(WORDS)) % len(WORDS)]
    return chat(f"{form} the {one} {two} near the {WORDS[(n * 7) % len(WORDS)]} museum")


def test_a_cache_explores_first_and_then_serves() -> None:
    semantic = Semantic(0.9, embedder=CountingEmbedder(), max_error=0.2, mode="per_request", audit=0.0, seed=1)
    computed = 0

    def compute(n: int) -> str:
        nonlocal computed
        computed += 1
        return f"answer {n}"

    with Cache(semantic=semantic, background=False) as cache:
        for n in range(120):
            cache.set(question(n, "Please tell me what is"), f"answer {n}")
            cache.get_or_compute(question(n, "What is"), lambda n=n: compute(n))
        steps = cache.stats().further["semantic"]["steps"]
    assert computed >= 30
    assert steps["bounded"] >= 20
    assert steps["policy"] + steps["bounded"] <= 120


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs max_error"):
        Semantic(embedder=CountingEmbedder(), mode="per_request")
    with pytest.raises(ConfigurationError, match="takes no calibration"):
        Semantic(embedder=CountingEmbedder(), mode="per_request", max_error=0.1, calibration="c.json")

"""The verifier: what it learns from labelled pairs, how it is kept, and judges that are asked afterwards."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from semantic_world import CountingEmbedder, chat, words_embedder

from agentcache_core import AsyncCache, Cache, Semantic
from agentcache_core.errors import ConfigurationError
from agentcache_core.semantic import FACT_GUARDS, Afterwards, PairVerifier
from agentcache_core.semantic.verifier import threshold_for

NOUNS_TEXT = "door window engine pump valve router printer camera battery screen lamp heater sensor mirror"
NOUNS = NOUNS_TEXT.split()


def labelled(count: int, seed: int) -> Iterator[tuple[str, str, bool]]:
    """Pairs in which "fix" and "mend" mean the same, and "fix" and "paint" do not."""
    chance = random.Random(seed)
    for _ in range(count):
        one, two = chance.sample(NOUNS, 2)
        same = chance.random() < 0.5
        verb = chance.choice(["mend", "repair"]) if same else chance.choice(["paint", "photograph"])
        yield f"how do I fix the {one} near the {two}", f"how do I {verb} the {one} near the {two}", same


@pytest.fixture(scope="module")
def fitted() -> PairVerifier:
    return PairVerifier.fit(labelled(600, 1), embedder=words_embedder(), max_false_hits=0.05)


def test_it_learns_which_words_mean_the_same(fitted: PairVerifier) -> None:
    unseen = list(labelled(200, 2))
    right = sum(fitted(a, b, 0.9) is same for a, b, same in unseen)
    assert right >= 180
    assert fitted.probabilities([(a, b) for a, b, _ in unseen[:3]]) == pytest.approx(
        [fitted.probability(a, b) for a, b, _ in unseen[:3]], abs=1e-5
    )


def test_its_word_does_not_depend_on_the_side(fitted: PairVerifier) -> None:
    for a, b, _ in labelled(20, 3):
        assert fitted.probability(a, b) == pytest.approx(fitted.probability(b, a), abs=1e-4)


def test_a_fit_is_kept_and_bound_to_its_embedder(fitted: PairVerifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fit.npz")
    again = PairVerifier.load(tmp_path / "fit.npz", embedder=words_embedder())
    a, b, _ = next(labelled(1, 4))
    assert again.threshold == fitted.threshold
    assert again.probability(a, b) == pytest.approx(fitted.probability(a, b), abs=1e-6)
    with pytest.raises(ConfigurationError, match="fit it again"):
        PairVerifier.load(tmp_path / "fit.npz", embedder=CountingEmbedder(fingerprint="words:2"))
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError, match="no fitted verifier"):
        PairVerifier.load(tmp_path / "bad.npz", embedder=words_embedder())


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="too few"):
        PairVerifier.fit(labelled(20, 1), embedder=words_embedder())


def test_the_threshold_keeps_wrong_answers_within_what_is_allowed() -> None:
    assert threshold_for([0.9, 0.8, 0.7, 0.6], [True, True, False, True], 0.25) == 0.6
    assert threshold_for([0.9, 0.8, 0.7, 0.6], [True, True, False, True], 0.0) == 0.8
    assert threshold_for([0.9], [False], 0.1) > 1.0


def test_a_fitted_verifier_decides_in_the_cache(fitted: PairVerifier) -> None:
    semantic = Semantic(0.5, embedder=words_embedder(), guards=FACT_GUARDS, verifier=fitted)
    with Cache(semantic=semantic, background=False) as cache:
        cache.set(chat("how do I fix the door near the window"), "oil it")
        hit = cache.lookup(chat("how do I mend the door near the window"))
        assert hit is not None
        assert cache.lookup(chat("how do I paint the door near the window")) is None
        assert cache.stats().further["semantic"]["steps"]["verifier"] == 1


@pytest.mark.parametrize("answer", [False, 0.2, np.float32(0.1)])
def test_any_function_may_verify_and_refuse(answer: Any) -> None:
    semantic = Semantic(0.5, embedder=words_embedder(), verifier=lambda question, stored, similarity: answer)
    with Cache(semantic=semantic, background=False) as cache:
        cache.set(chat("What is the capital of France?"), "Paris")
        assert cache.lookup(chat("What's the capital of France?")) is None


def test_a_verifier_that_fails_refuses() -> None:
    def broken(question: str, stored: str, similarity: float) -> bool:
        raise RuntimeError("no model")

    with Cache(semantic=Semantic(0.5, embedder=words_embedder(), verifier=broken), background=False) as cache:
        cache.set(chat("What is the capital of France?"), "Paris")
        assert cache.lookup(chat("What's the capital of France?")) is None


async def test_an_async_verifier_is_awaited() -> None:
    async def verify(question: str, stored: str, similarity: float) -> float:
        return 0.9

    async with AsyncCache(semantic=Semantic(0.5, embedder=words_embedder(), verifier=verify)) as cache:
        await cache.set(chat("What is the capital of France?"), "Paris")
        await cache._core.background.drain_async()
        assert await cache.get(chat("What's the capital of France?")) == "Paris"


@pytest.mark.parametrize(("says", "then"), [(True, "promoted"), (False, None)])
def test_a_judge_is_asked_afterwards_and_what_it_approves_is_served(
    says: bool, then: str | None, tmp_path: Path
) -> None:
    asked: list[tuple[str, str]] = []

    def decide(question: str, stored: str, similarity: float) -> bool:
        asked.append((question, stored))
        return says

    url = f"sqlite:///{tmp_path}/cache.db"
    semantic = Semantic(0.5, embedder=words_embedder(), verifier=Afterwards(decide))
    with Cache(url, semantic=semantic, background=False) as cache:
        cache.set(chat("What is the capital of France?"), "Paris")
        assert cache.lookup(chat("What's the capital of France?")) is None
        assert asked == [("What's the capital of France?", "What is the capital of France?")]
    with Cache(url, semantic=semantic, background=False) as cache:
        hit = cache.lookup(chat("What's the capital of France?"))
        assert (None if hit is None or hit.decision is None else hit.decision.step) == then

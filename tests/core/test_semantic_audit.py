"""The audit of semantic hits: what its bounds promise, and what it does when the answers go wrong."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from semantic_world import CountingEmbedder, chat, vectors

from agentcache_core import AsyncCache, Cache, Semantic
from agentcache_core.semantic import FunctionEmbedder
from agentcache_core.semantic.audit import Tightened, Trail, answer_text, confidence_sequence, plainly_equal
from agentcache_core.semantic.decision import Static


def test_one_clean_audit_proves_an_error_of_at_most_95_percent() -> None:
    assert confidence_sequence(0, 0) == (0.0, 1.0)
    lower, upper = confidence_sequence(0, 1)
    assert lower == 0.0
    assert upper == pytest.approx(0.95, abs=1e-6)


@given(st.integers(0, 60), st.integers(0, 400))
def test_the_bounds_enclose_the_estimate_and_stay_within_0_and_1(wrong: int, right: int) -> None:
    count = wrong + right
    if count:
        lower, upper = confidence_sequence(wrong, count)
        assert 0.0 <= lower <= wrong / count + 1e-9
        assert wrong / count - 1e-9 <= upper <= 1.0


def test_the_true_error_is_rarely_ever_ruled_out_however_often_one_looks() -> None:
    chance = random.Random(5)
    ever = 0
    for _ in range(200):
        rate, wrong = 0.1, 0
        for count in range(1, 301):
            wrong += chance.random() < rate
            lower, upper = confidence_sequence(wrong, count)
            if not lower <= rate <= upper:
                ever += 1
                break
    assert ever <= 30  # 10 % of 200, and room for luck


def test_a_few_wrong_answers_alone_do_not_switch_off_and_clean_ones_never_do() -> None:
    trail = Trail()
    for _ in range(400):
        trail = trail.noted(correct=True, max_error=0.01)
    assert trail.state == "on"
    assert 0 < trail.figures()["upper"] < 0.03
    assert Trail().noted(correct=False, max_error=0.2).state == "on"


def test_the_bar_is_raised_when_the_estimate_exceeds_what_is_allowed_after_50_audits() -> None:
    trail = Trail()
    for n in range(50):
        trail = trail.noted(correct=n % 12 != 11, max_error=0.05)
    assert trail.state == "tightened"
    policy = Tightened(Static(0.9), trail.raised)
    assert policy.threshold == pytest.approx(0.95)
    assert policy.rule(0.94).step == "audit"
    assert policy.rule(0.96).serve


def test_without_a_bound_to_keep_the_audit_only_counts() -> None:
    trail = Trail()
    for _ in range(200):
        trail = trail.noted(correct=False, max_error=None)
    assert trail.state == "on"
    assert trail.figures()["lower"] > 0.9


def test_the_text_of_an_answer_is_found_in_every_shape() -> None:
    assert answer_text("Paris") == "Paris"
    assert answer_text({"choices": [{"message": {"content": "Paris"}}]}) == "Paris"
    assert answer_text({"content": [{"type": "text", "text": "Paris"}]}) == "Paris"
    assert answer_text({"output": [{"content": [{"text": "Paris"}]}]}) == "Paris"
    assert answer_text({"embedding": [0.1]}) is None
    assert plainly_equal({"id": 1, "content": "a  b"}, {"id": 2, "content": "a b"}) is True
    assert plainly_equal("Paris", "Lyon") is None
    assert plainly_equal([1], [2]) is False


# Through the cache

WORDS_TEXT = "apple bridge candle desert engine forest garden harbour island jungle kettle lantern meadow"
WORDS = WORDS_TEXT.split()


def question(n: int, form: str) -> dict[str, Any]:
    one, two = WORDS[n % len(WORDS)], WORDS[(n // len(WORDS)) % len(WORDS)]
    return chat(f"{form} the {one} {two} near the {WORDS[(n * 7) % len(WORDS)]} museum")


class Allowed:
    """A policy of a user's own, with a fixed threshold."""

    def __new__(cls) -> Any:
        return Static(0.9)


def drifted(tmp_path: Path, wrong: Callable[[int], bool], *, asked: int) -> tuple[Cache, Any]:
    semantic = Semantic(Allowed(), embedder=CountingEmbedder(), max_error=0.05, audit=1.0, seed=1)
    cache = Cache(f"sqlite:///{tmp_path}/cache.db", semantic=semantic, background=False)
    for n in range(asked):
        cache.set(question(n, "Please tell me what is"), f"answer {n}")
        answer = f"another answer, {n + 1000}" if wrong(n) else f"answer {n}"
        cache.get_or_compute(question(n, "What is"), lambda answer=answer: answer)
    return cache, cache.stats().further["semantic"]["audit"]


def test_drift_switches_semantic_answers_off(tmp_path: Path) -> None:
    cache, audit = drifted(tmp_path, lambda n: n >= 20 and n % 2 == 0, asked=60)
    with cache:
        assert audit["state"] == "off"
        assert audit["lower"] > 0.05
        assert cache.lookup(question(0, "Tell me what is")) is None
        assert cache.get(question(0, "Please tell me what is")) == "answer 0"
        assert cache.stats().further["semantic"]["steps"]["audit"] > 0


def test_right_answers_stay_on_and_what_is_proven_grows(tmp_path: Path) -> None:
    cache, audit = drifted(tmp_path, lambda n: False, asked=60)
    with cache:
        assert audit["state"] == "on"
        assert (audit["audits"], audit["wrong"]) == (60, 0)
        assert audit["upper"] < 0.12


def test_an_answer_found_wrong_is_replaced_by_the_fresh_one(tmp_path: Path) -> None:
    semantic = Semantic(0.9, embedder=CountingEmbedder(), audit=1.0)
    with Cache(semantic=semantic, background=False) as cache:
        cache.set(chat("Please tell me what is the apple bridge"), "old, 1")
        assert cache.get_or_compute(chat("What is the apple bridge"), lambda: "new, 2") == "old, 1"
        assert cache.get(chat("What is the apple bridge")) == "new, 2"


def test_a_lookup_is_audited_when_the_cache_knows_how_to_recompute() -> None:
    asked: list[Any] = []

    def recompute(request: Any) -> Any:
        asked.append(request)
        return "old, 1"

    semantic = Semantic(0.9, embedder=CountingEmbedder(), audit=1.0, recompute=recompute)
    with Cache(semantic=semantic, background=False) as cache:
        cache.set(chat("Please tell me what is the apple bridge"), "old, 1")
        assert cache.get(chat("What is the apple bridge")) == "old, 1"
        assert asked == [chat("What is the apple bridge")]
        assert cache.stats().further["semantic"]["audit"]["audits"] == 1
        hit = cache.lookup(chat("What is the apple bridge"))
        assert hit is not None
        assert (hit.how, hit.decision.step if hit.decision else "") == ("semantic", "promoted")


def test_only_a_share_is_audited_and_none_when_told_so() -> None:
    for share, least, most in ((0.0, 0, 0), (0.3, 15, 45)):
        semantic = Semantic(0.9, embedder=CountingEmbedder(), audit=share, seed=3)
        with Cache(semantic=semantic, background=False) as cache:
            for n in range(100):
                cache.set(question(n, "Please tell me what is"), n)
                cache.get_or_compute(question(n, "What is"), lambda n=n: n)
            assert least <= cache.stats().further["semantic"]["audit"]["audits"] <= most


def test_a_users_own_equivalence_decides() -> None:
    semantic = Semantic(0.9, embedder=CountingEmbedder(), audit=1.0, equivalent=lambda served, fresh: True)
    with Cache(semantic=semantic, background=False) as cache:
        cache.set(chat("Please tell me what is the apple bridge"), 1)
        cache.get_or_compute(chat("What is the apple bridge"), lambda: 2)
        assert cache.stats().further["semantic"]["audit"]["wrong"] == 0


async def test_the_async_face_audits_with_async_functions() -> None:
    async def compute() -> str:
        return "fresh, 2"

    semantic = Semantic(0.9, embedder=FunctionEmbedder(vectors, fingerprint="w"), audit=1.0)
    async with AsyncCache(semantic=semantic) as cache:
        await cache.set(chat("Please tell me what is the apple bridge"), "old, 1")
        await cache._core.background.drain_async()
        assert await cache.get_or_compute(chat("What is the apple bridge"), compute) == "old, 1"
        await cache._core.background.drain_async()
        assert cache.stats().further["semantic"]["audit"]["wrong"] == 1

"""Semantic keys through the whole cache: what is served, what never is, what a restart and another process see."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from semantic_world import CountingEmbedder, chat, vectors  # the folder of the tests is no package

from agentcache_core import AsyncCache, Cache, CacheControl, Semantic
from agentcache_core.clock import ManualClock
from agentcache_core.semantic import FunctionEmbedder

FRANCE = chat("What is the capital of France?")
FRANCE_TOO = chat("What's the capital of France, actually?")
GERMANY = chat("What is the capital of Germany?")


@pytest.fixture(params=["memory://", "sqlite", "both"])
def tiers(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    disk = f"sqlite:///{tmp_path}/cache.db"
    return {"memory://": "memory://", "sqlite": disk, "both": ["memory://", disk]}[request.param]


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def cache(tiers: Any, embedder: CountingEmbedder, clock: ManualClock) -> Iterator[Cache]:
    with Cache(tiers, semantic=Semantic(0.9, embedder=embedder, audit=0.0), background=False, clock=clock) as cache:
        yield cache


def test_a_similar_question_is_answered_with_similarity_and_decision(cache: Cache) -> None:
    cache.set(FRANCE, "Paris")
    hit = cache.lookup(FRANCE_TOO)
    assert hit is not None
    assert (hit.value, hit.how) == ("Paris", "semantic")
    assert hit.similarity is not None
    assert hit.similarity >= 0.9
    assert hit.decision is not None
    assert hit.decision.step == "static"
    assert set(hit.decision.guards.values()) == {"ok"}
    assert cache.get(FRANCE_TOO) == "Paris"
    assert cache.get_or_compute(FRANCE_TOO, lambda: "computed") == "Paris"
    assert cache.get_many([FRANCE, FRANCE_TOO, GERMANY])[:2] == ["Paris", "Paris"]
    assert cache.stats().semantic_hits == 4


def test_the_exact_answer_is_an_exact_hit_and_nothing_is_embedded_for_it(
    cache: Cache, embedder: CountingEmbedder
) -> None:
    cache.set(FRANCE, "Paris")
    embedder.asked.clear()
    hit = cache.lookup(FRANCE)
    assert hit is not None
    assert hit.how == "exact"
    assert embedder.asked == []


def test_another_question_is_a_miss_and_the_step_is_counted(cache: Cache) -> None:
    cache.set(FRANCE, "Paris")
    assert cache.lookup(GERMANY) is None
    assert cache.lookup(chat("What is the capital of France not?")) is None
    steps = cache.stats().further["semantic"]["steps"]
    assert steps == {"threshold": 1, "guards": 1}


@pytest.mark.parametrize(
    "other",
    [
        chat("What's the capital of France?", model="gpt-4"),
        chat("What's the capital of France?", temperature=1),
        chat("What's the capital of France?", tools=[{"name": "search"}]),
        {**chat("What's the capital of France?"), "provider": "azure"},
        {
            "provider": "openai",
            "model": "gpt-5",
            "messages": [
                {"role": "system", "content": "Answer in French."},
                {"role": "user", "content": "What's the capital of France?"},
            ],
        },
    ],
)
def test_anything_else_of_the_request_that_differs_is_another_partition(cache: Cache, other: Any) -> None:
    cache.set(FRANCE, "Paris")
    assert cache.lookup(other) is None
    assert cache.stats().further["semantic"]["steps"] == {"empty": 1}


def test_tenants_and_namespaces_never_see_each_other(cache: Cache) -> None:
    cache.tenant("a").set(FRANCE, "Paris")
    assert cache.tenant("b").lookup(FRANCE_TOO) is None
    assert cache.tenant("a").namespace("n").lookup(FRANCE_TOO) is None
    hit = cache.tenant("a").lookup(FRANCE_TOO)
    assert hit is not None
    assert hit.how == "semantic"


def test_plain_text_keys_are_matched_and_bytes_are_not(cache: Cache) -> None:
    cache.set("What is the capital of France?", "Paris")
    hit = cache.lookup("What's the capital of France?")
    assert hit is not None
    assert hit.how == "semantic"
    cache.set(b"What is the capital of Spain?", "Madrid")
    assert cache.lookup(b"What's the capital of Spain?") is None
    assert cache.lookup("What's the capital of Spain?") is None


def test_a_caller_may_forbid_near_answers(cache: Cache, embedder: CountingEmbedder) -> None:
    cache.set(FRANCE, "Paris")
    embedder.asked.clear()
    assert cache.lookup(FRANCE_TOO, control=CacheControl(semantic=False)) is None
    assert cache.lookup(FRANCE_TOO, control=CacheControl(no_cache=True)) is None
    assert cache.lookup(FRANCE_TOO, control=CacheControl(sample=1)) is None
    assert embedder.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"finish_reason": "length", "message": {"content": "Par"}}]},
        {"choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I cannot"}}]},
        {"stop_reason": "max_tokens", "content": [{"type": "text", "text": "Par"}]},
        {"status": "incomplete", "output": []},
    ],
)
def test_a_refused_or_truncated_answer_never_stands_for_another_question(cache: Cache, answer: Any) -> None:
    cache.set(FRANCE, answer)
    assert cache.lookup(FRANCE) is not None
    assert cache.lookup(FRANCE_TOO) is None


def test_expiry_and_invalidation_remove_the_near_answer(cache: Cache, clock: ManualClock) -> None:
    cache.set(FRANCE, "Paris", ttl="10s")
    clock.advance(11)
    assert cache.lookup(FRANCE_TOO) is None
    cache.set(FRANCE, "Paris", tags=["geo"])
    assert cache.lookup(FRANCE_TOO) is not None
    cache.invalidate(tag="geo")
    assert cache.lookup(FRANCE_TOO) is None
    cache.set(FRANCE, "Paris")
    assert cache.lookup(FRANCE_TOO) is not None
    cache.delete(FRANCE)
    assert cache.lookup(FRANCE_TOO) is None
    assert cache.stats().further["semantic"]["vectors"] == 0


def test_an_overwritten_answer_is_served_as_it_is_now(cache: Cache) -> None:
    cache.set(FRANCE, "Lyon")
    cache.set(FRANCE, "Paris")
    assert cache.get(FRANCE_TOO) == "Paris"


def test_a_pair_reported_wrong_is_never_served_again(cache: Cache) -> None:
    cache.set(FRANCE, "Paris")
    hit = cache.lookup(FRANCE_TOO)
    assert hit is not None
    hit.report(correct=False)
    assert cache.lookup(FRANCE_TOO) is None
    assert cache.lookup(chat("Tell me what the capital of France is")) is not None
    assert cache.stats().further["semantic"]["steps"]["reported"] == 1


def test_too_long_a_text_is_not_served(clock: ManualClock) -> None:
    embedder = CountingEmbedder(max_tokens=20)
    long = "word " * 60
    with Cache(semantic=Semantic(0.5, embedder=embedder), background=False, clock=clock) as cache:
        cache.set(chat(long + "one"), 1)
        cache.set(chat("short text"), 2)
        assert cache.lookup(chat(long + "two")) is None
        assert embedder.asked == ["short text"]


def test_a_failing_embedder_is_a_miss_and_an_event() -> None:
    def broken(texts: Any) -> Any:
        return np.full((len(texts), 4), np.nan, np.float32)

    told: list[Any] = []
    semantic = Semantic(0.5, embedder=FunctionEmbedder(broken, fingerprint="broken"))
    with Cache(semantic=semantic, background=False) as cache:
        cache.events.subscribe(told.append)
        cache.set(FRANCE, "Paris")
        assert cache.lookup(FRANCE_TOO) is None
        assert cache.get(FRANCE) == "Paris"
        assert any("NaN" in (event.reason or "") for event in told if event.name == "semantic")


def test_a_durable_cache_keeps_what_it_knows_over_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url, semantic=Semantic(0.9, embedder=CountingEmbedder())) as first:
        first.set(FRANCE, "Paris")
        hit = None
    embedder = CountingEmbedder()
    with Cache(url, semantic=Semantic(0.9, embedder=embedder)) as second:
        hit = second.lookup(FRANCE_TOO)
        assert hit is not None
        assert (hit.value, hit.how) == ("Paris", "semantic")
        assert embedder.asked == [FRANCE_TOO["messages"][0]["content"]]
        hit.report(correct=False)
    with Cache(url, semantic=Semantic(0.9, embedder=CountingEmbedder())) as third:
        assert third.lookup(FRANCE_TOO) is None


def test_another_embedder_never_reads_the_first_ones_vectors(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url, semantic=Semantic(0.9, embedder=CountingEmbedder())) as first:
        first.set(FRANCE, "Paris")
    other = CountingEmbedder(fingerprint="words:2")
    with Cache(url, semantic=Semantic(0.9, embedder=other)) as second:
        assert second.lookup(FRANCE_TOO) is None
        assert second.get(FRANCE) == "Paris"


def test_what_another_process_stored_appears_within_max_staleness(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/cache.db"
    clock = ManualClock()
    options: dict[str, Any] = {"background": False, "clock": clock, "max_staleness": "5s"}
    with (
        Cache(url, semantic=Semantic(0.9, embedder=CountingEmbedder()), **options) as here,
        Cache(url, semantic=Semantic(0.9, embedder=CountingEmbedder()), **options) as there,
    ):
        assert here.lookup(FRANCE_TOO) is None
        there.set(FRANCE, "Paris")
        clock.advance(5)
        hit = here.lookup(FRANCE_TOO)
        assert hit is not None
        there.delete(FRANCE)
        clock.advance(5)
        assert here.lookup(FRANCE_TOO) is None


def test_entries_are_embedded_off_the_write_path(embedder: CountingEmbedder) -> None:
    with Cache(semantic=Semantic(0.9, embedder=embedder)) as cache:
        cache.set(FRANCE, "Paris")
        cache._core.background.drain()
        assert cache.get(FRANCE_TOO) == "Paris"


async def test_the_async_face_serves_the_same_with_an_async_embedder(tmp_path: Path) -> None:
    async def embed(texts: Any) -> Any:
        return vectors(texts)

    semantic = Semantic(0.9, embedder=FunctionEmbedder(embed, fingerprint="words:async"))
    async with AsyncCache(f"sqlite:///{tmp_path}/cache.db", semantic=semantic) as cache:
        await cache.set(FRANCE, "Paris")
        await cache._core.background.drain_async()
        hit = await cache.lookup(FRANCE_TOO)
        assert hit is not None
        assert hit.how == "semantic"
        assert await cache.get_or_compute(FRANCE_TOO, lambda: "computed") == "Paris"
        hit.report(correct=False)
        await cache._core.background.drain_async()
        assert await cache.lookup(FRANCE_TOO) is None


def test_an_async_embedder_works_under_the_blocking_face() -> None:
    async def embed(texts: Any) -> Any:
        return vectors(texts)

    semantic = Semantic(0.9, embedder=FunctionEmbedder(embed, fingerprint="words:async"))
    with Cache(semantic=semantic, background=False) as cache:
        cache.set(FRANCE, "Paris")
        assert cache.get(FRANCE_TOO) == "Paris"


def test_a_fork_may_ask_while_a_thread_of_the_parent_holds_every_lock(tmp_path: Path) -> None:
    import os

    with Cache(f"sqlite:///{tmp_path}/cache.db", semantic=Semantic(0.9, embedder=CountingEmbedder())) as cache:
        cache.set(FRANCE, "Paris")
        cache._core.background.drain()
        similar = cache._engine.similar
        assert similar is not None
        with similar._lock, similar.matcher._lock, similar.encoder._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if cache.get(FRANCE_TOO) == "Paris" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_maintenance_removes_vectors_that_outlived_their_entries(tmp_path: Path) -> None:
    clock = ManualClock()
    url = f"sqlite:///{tmp_path}/cache.db"
    semantic = Semantic(0.9, embedder=CountingEmbedder())
    with Cache(url, semantic=semantic, background=False, clock=clock, maintenance="manual") as cache:
        cache.set(FRANCE, "Paris", ttl="1h", sliding=True)
        cache.set(GERMANY, "Berlin")
        clock.advance(2 * 3600)
        cache.maintain()
        clock.advance(2 * 3600)
        cache.maintain()
        names = [stat.name for stat in cache._core.tiers.stored[0].store("blocking").backend.scan(b"")]
        assert sum(b"/v/" in name for name in names) == 1


def test_with_a_keyring_neither_text_nor_vector_lies_open(tmp_path: Path) -> None:
    from agentcache_core.codec.encrypt import Keyring

    url = f"sqlite:///{tmp_path}/cache.db"
    ring = Keyring({1: b"k" * 32})
    embedder = CountingEmbedder()
    with Cache(url, semantic=Semantic(0.9, embedder=embedder), keyring=ring, background=False) as cache:
        cache.set(FRANCE, "Paris")
        assert cache.get(FRANCE_TOO) == "Paris"
    vector = vectors([FRANCE["messages"][0]["content"]])[0].astype("<f4").tobytes()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"capital of France" not in stored
    assert vector not in stored
    assert vector[:64] not in stored or not any(vector[:64])

"""What hits saved: exact sums by namespace, tag and model, over processes and restarts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core import AsyncCache, Cache, Computed, Cost
from agentcache_core.backend import Capabilities
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.ledger import MAX_NAMES, OTHER, Avoided, Latency, added, bounded, percentile, subtracted
from agentcache_core.store.entries import EntryRecord
from agentcache_core.testing import DictBackend

CALL = Cost(usd_micros=1500, input_tokens=1000, cached_input_tokens=200, output_tokens=50, seconds=1.25)
OPENAI = {"provider": "openai", "model": "gpt-5"}


def ask(cache: Cache, question: str, *, model: str = "gpt-5", tags: tuple[str, ...] = ()) -> Any:
    request = {"provider": "openai", "model": model, "messages": [{"role": "user", "content": question}]}
    meta = {"provider": "openai", "model": model}
    return cache.get_or_compute(request, lambda: Computed("an answer", cost=CALL), tags=tags, meta=meta)


def test_a_hit_saves_what_its_answer_cost_and_a_miss_saves_nothing() -> None:
    with Cache() as cache:
        for _ in range(3):
            ask(cache, "a")
        stats = cache.stats()
    assert stats.saved == Cost(3000, 2000, 400, 100, 2.5)
    assert (stats.savings.hits, stats.savings.misses) == (2, 1)
    assert stats.savings.total.hits == 2


def test_savings_are_told_apart_by_model_and_by_tag() -> None:
    with Cache() as cache:
        for _ in range(2):
            ask(cache, "a", tags=("policy", "eu"))
            ask(cache, "b", model="gpt-5-mini", tags=("policy",))
        savings = cache.stats().savings
    assert {name: saving.hits for name, saving in savings.by_model.items()} == {
        "openai/gpt-5": 1,
        "openai/gpt-5-mini": 1,
    }
    assert {name: saving.cost.usd_micros for name, saving in savings.by_tag.items()} == {"policy": 3000, "eu": 1500}


def test_the_short_cut_of_get_counts_the_same_as_the_engine() -> None:
    request = {**OPENAI, "messages": [{"role": "user", "content": "a"}]}
    with Cache() as cache:
        ask(cache, "a", tags=("t",))
        cache.get(request)
        short = cache.stats().savings
        cache.lookup(request)
        engine = cache.stats().savings
    assert engine.total.cost == short.total.cost + short.total.cost
    assert engine.by_tag["t"].hits == 2 * short.by_tag["t"].hits


def test_a_model_without_a_price_is_listed_and_not_guessed() -> None:
    with Cache() as cache:
        request = {"model": "tomorrow-1", "messages": []}
        for _ in range(2):
            cache.get_or_compute(
                request,
                lambda: Computed("x", cost=Cost(0, 10, 0, 5)),
                meta={"provider": "openai", "model": "tomorrow-1"},
            )
        assert cache.stats().savings.unpriced == ("openai/tomorrow-1",)


def test_bypasses_are_counted_with_their_reason() -> None:
    with Cache() as cache:
        cache.bypassed("server-side state", kind="http")
        cache.bypassed("server-side state", kind="http")
        stats = cache.stats()
    assert stats.bypasses == 2
    assert stats.reasons == {"server-side state": 2}


def test_savings_survive_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    for _ in range(3):
        with Cache(url, namespace="desk", deadline="30s") as cache:
            ask(cache, "a", tags=("t",))
    with Cache(url, deadline="30s") as cache:
        report = cache.savings()
    (desk,) = (savings for savings in report.namespaces if savings.namespace == "desk")
    assert (desk.hits, desk.misses) == (2, 1)
    assert desk.total.cost == CALL + CALL
    assert desk.by_tag["t"].cost.usd_micros == 3000
    assert report.total.total.cost == CALL + CALL
    assert "input_tokens" in report.formula
    assert report.prices_as_of
    assert report.as_json()["total"]["hits"] == 2


def test_a_report_holds_what_is_not_yet_written_and_counts_nothing_twice(tmp_path: Path) -> None:
    with Cache(f"sqlite:///{tmp_path / 'agent.db'}", deadline="30s") as cache:
        for expected in (0, 1, 2):
            ask(cache, "a")
            assert cache.savings().total.hits == expected
            cache._core.figures._due.clear()


def test_processes_add_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    program = (
        "import sys; from agentcache_core import Cache, Computed, Cost\n"
        "with Cache(sys.argv[1], deadline='30s') as cache:\n"
        "    for _ in range(5):\n"
        "        cache.get_or_compute('k', lambda: Computed('v', cost=Cost(usd_micros=7)))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, url]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    with Cache(url, deadline="30s") as cache:
        total = cache.savings().total
    assert total.hits + total.misses == 15
    assert total.total.cost.usd_micros == 7 * total.hits


def test_threads_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"

    def work() -> None:
        with Cache(url, background=False, deadline="30s") as cache:
            for _ in range(5):
                cache.get("absent")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Cache(url, deadline="30s") as cache:
        assert cache.savings().total.misses == 30


def test_a_forked_child_does_not_add_what_its_parent_counted(tmp_path: Path) -> None:
    with Cache(f"sqlite:///{tmp_path / 'agent.db'}", background=False, deadline="30s") as cache:
        for _ in range(3):
            cache.get("absent")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                cache.get("absent")
                cache.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    with Cache(f"sqlite:///{tmp_path / 'agent.db'}", deadline="30s") as cache:
        assert cache.savings().total.misses == 4


class Plainest(DictBackend):
    """A store that cannot write conditionally."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(durable=True, shared=True, conditional_put=False)


def test_where_a_store_cannot_write_conditionally_each_process_keeps_its_own_record() -> None:
    store = Plainest()
    for _ in range(2):
        cache = Cache(store, background=False)
        cache.get("absent")
        cache._core.figures._own = os.urandom(4).hex().encode()
        from agentcache_core.runtime import BLOCKING, drive

        drive(cache._core.add_figures(BLOCKING))
    assert Cache(store, background=False).savings().total.misses == 2


def test_figures_of_one_tenant_are_not_told_to_another(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    with Cache(url, deadline="30s") as cache:
        ask(cache.tenant("acme"), "a")
        ask(cache.tenant("acme"), "a")
    with Cache(url, deadline="30s") as cache:
        assert cache.tenant("acme").savings().total.hits == 1
        assert cache.tenant("globex").savings().total.hits == 0
        assert cache.savings().total.hits == 0


def test_with_a_keyring_tags_in_figures_are_not_readable(tmp_path: Path) -> None:
    ring = Keyring({1: os.urandom(32)})
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    for _ in range(2):
        with Cache(url, keyring=ring) as cache:
            ask(cache, "a", tags=("a-telling-tag",))
    assert not any(b"a-telling-tag" in path.read_bytes() for path in tmp_path.iterdir())
    with Cache(url, keyring=ring) as cache:
        assert cache.savings().total.by_tag["a-telling-tag"].hits == 1


def test_damaged_figures_cost_the_figures_and_nothing_else(tmp_path: Path) -> None:
    store = DictBackend()
    with Cache(store, background=False) as cache:
        cache.get("absent")
    store.reopen() if hasattr(store, "reopen") else None
    fresh = DictBackend()
    with Cache(fresh, background=False) as cache:
        name = cache._space.tenant_prefix + b"/f/" + cache._space.prefix[16:]
        fresh.put(name, b"nonsense")
        cache.get("absent")
        assert cache.savings().total.misses == 1


async def test_the_async_face_reports_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    for _ in range(2):
        async with AsyncCache(url, deadline="30s") as cache:
            await cache.get_or_compute("k", lambda: Computed("v", cost=CALL))
    async with AsyncCache(url, deadline="30s") as cache:
        assert (await cache.savings()).total.total.cost == CALL


def test_latencies_of_look_ups_and_computations_are_told(tmp_path: Path) -> None:
    with Cache(f"sqlite:///{tmp_path / 'agent.db'}", deadline="30s") as cache:
        for _ in range(4):
            ask(cache, "a")
        savings = cache.stats().savings
    assert savings.looking is not None
    assert savings.looking.count == 4
    assert 0 < savings.looking.p50 <= savings.looking.p90 <= savings.looking.p99
    assert savings.computing is not None
    assert savings.computing.count == 1


# The arithmetic

trees: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 10**12), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8
)
shape = st.fixed_dictionaries(
    {"a": st.integers(0, 10**12), "b": st.dictionaries(st.sampled_from("xyz"), st.integers(0, 10**12))}
)


@given(one=shape, other=shape, third=shape)
def test_adding_is_commutative_and_associative(one: Any, other: Any, third: Any) -> None:
    assert added(one, other) == added(other, one)
    assert added(added(one, other), third) == added(one, added(other, third))


@given(one=shape, more=shape)
def test_subtracting_gives_back_what_was_added(one: Any, more: Any) -> None:
    rebuilt = added(one, subtracted(added(one, more), one))
    assert subtracted(rebuilt, {}) == subtracted(added(one, more), {})  # without zeros


@given(durations=st.lists(st.floats(1e-6, 100.0), min_size=1), share=st.floats(0.01, 1.0))
def test_a_percentile_is_never_below_the_true_one_and_at_most_a_bucket_above(
    durations: list[float], share: float
) -> None:
    histogram = Latency()
    for seconds in durations:
        histogram.add(seconds)
    ranked = sorted(durations)
    true = next(value for at, value in enumerate(ranked, start=1) if at >= share * len(ranked) - 1e-9)
    told = percentile(histogram.plain(), share)
    assert told is not None
    assert true * 0.999999 <= told <= true * 2**0.25 * 1.000001


def test_more_tags_than_a_ledger_holds_are_counted_together() -> None:
    avoided = Avoided()
    for n in range(MAX_NAMES + 5):
        avoided.credit(EntryRecord("chat", 0.0, b"", tags=((f"user:{n}", b""),), cost=Cost(usd_micros=1)))
    plain = avoided.plain()
    assert len(plain["by_tag"]) == MAX_NAMES + 1
    assert plain["by_tag"][OTHER]["usd_micros"] == 5
    merged = bounded(
        {"avoided": added(plain, {"by_tag": {f"late:{n}": {"hits": 1, "usd_micros": 1} for n in range(9)}})}
    )
    assert len(merged["avoided"]["by_tag"]) <= MAX_NAMES
    assert sum(tally["usd_micros"] for tally in merged["avoided"]["by_tag"].values()) == MAX_NAMES + 5 + 9


@pytest.mark.parametrize("nothing", [{}, {"0": 0}])
def test_a_percentile_of_nothing_is_none(nothing: dict[str, int]) -> None:
    assert percentile(nothing, 0.5) is None

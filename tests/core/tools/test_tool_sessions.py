"""Runs of agents: worlds that are shared, worlds that are private and start equal, and what their keys hold."""

from __future__ import annotations

import asyncio
import contextvars
import gzip
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core import Cache
from agentcache_core.tools import Pure, Read

EFFECTS = {
    "tools": {
        "look": {"effect": "read", "reads": ["box"]},
        "put": {"effect": "write", "writes": ["box"]},
        "twice": {"effect": "pure"},
    }
}
REPOSITORY = Path(__file__).resolve().parents[3]


class Box:
    """A private world: a list that starts empty."""

    def __init__(self) -> None:
        self.things: list[int] = []
        self.looked = 0

    def look(self) -> list[int]:
        self.looked += 1
        return list(self.things)

    def put(self, arguments: dict[str, Any]) -> int:
        if arguments["thing"] < 0:
            raise ValueError("nothing below zero")
        self.things.append(arguments["thing"])
        return len(self.things)


@pytest.fixture
def cache() -> Iterator[Cache]:
    with Cache(background=False) as cache:
        yield cache


def test_runs_in_equal_worlds_share_reads_until_they_write_differently(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    boxes = [Box(), Box(), Box()]
    for run, (box, thing) in enumerate(zip(boxes, (1, 1, 2), strict=True)):
        with tools.session(f"run {run}", scope="session"):
            assert tools.call("look", {}, box.look) == []
            tools.call("put", {"thing": thing}, box.put)
            assert tools.call("look", {}, box.look) == [thing]
    assert [box.looked for box in boxes] == [2, 0, 1]


def test_the_run_id_never_enters_a_key(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    box = Box()
    for scope in ("shared", "session"):
        for run in ("monday", "tuesday"):
            with tools.session(run, scope=scope):
                tools.call("look", {}, box.look)
    assert box.looked == 2


def test_a_private_world_and_the_shared_one_are_apart(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    shared, private = Box(), Box()
    shared.things = [9]
    assert tools.call("look", {}, shared.look) == [9]
    with tools.session("run", scope="session"):
        assert tools.call("look", {}, private.look) == []
        tools.call("put", {"thing": 1}, private.put)
    assert tools.call("look", {}, shared.look) == [9]
    assert shared.looked == 1


def test_a_write_that_raises_counts_into_the_history(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    box = Box()
    with tools.session("a", scope="session"):
        with pytest.raises(ValueError, match="below zero"):
            tools.call("put", {"thing": -1}, box.put)
        tools.call("look", {}, box.look)
    with tools.session("b", scope="session"):
        tools.call("look", {}, box.look)
    assert box.looked == 2


def test_an_undeclared_tool_may_have_changed_a_private_world(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    box = Box()
    with tools.session("a", scope="session"):
        tools.call("look", {}, box.look)
        tools.call("shake", {}, lambda: box.things.append(3))
        assert tools.call("look", {}, box.look) == [3]


def test_pure_tools_are_shared_by_all_worlds(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    ran: list[int] = []
    for scope in ("shared", "session"):
        with tools.session("run", scope=scope):
            tools.call("put", {"thing": 1}, lambda: None)
            assert tools.call("twice", {"n": 2}, lambda: ran.append(1) or 4) == 4
    assert ran == [1]


def test_a_write_whose_arguments_cannot_be_read_shares_nothing_afterwards(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    box = Box()
    for run in "ab":
        with tools.session(run, scope="session"):
            tools.call("put", "{broken", lambda: box.things.append(1))
            tools.call("look", {}, box.look)
    assert box.looked == 2


def test_overlapping_writes_lead_to_a_world_that_is_not_shared(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    box = Box()
    for run in "ab":
        with tools.session(run, scope="session"):
            tools.call("put", {"thing": 1}, lambda: tools.call("put", {"thing": 2}, lambda: None))
            tools.call("look", {}, box.look)
            tools.call("look", {}, box.look)
    assert box.looked == 2


def test_a_read_inside_a_write_of_its_own_run_is_not_stored(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    box = Box()
    with tools.session("a", scope="session"):
        tools.call("put", {"thing": 1}, lambda: (tools.call("look", {}, box.look), box.things.append(1)))
        assert tools.call("look", {}, box.look) == [1]


def test_a_thread_outside_the_run_can_neither_read_nor_poison_its_world(cache: Cache) -> None:
    tools = cache.tools(effects=EFFECTS)
    box = Box()
    seen: list[Any] = []

    def stray() -> None:
        seen.append(tools.call("look", {}, box.look))
        tools.call("put", {"thing": 7}, box.put)

    with tools.session("a", scope="session") as run:
        tools.call("look", {}, box.look)
        thread = threading.Thread(target=stray)
        thread.start()
        thread.join()
        assert tools.call("look", {}, box.look) == [7]
        copied = contextvars.copy_context()
        thread = threading.Thread(target=lambda: seen.append(copied.run(tools.call, "look", {}, box.look)))
        thread.start()
        thread.join()
        thread = threading.Thread(target=lambda: seen.append(run.call("look", {}, box.look)))
        thread.start()
        thread.join()
    assert seen == [[], [7], [7]]
    assert box.looked == 3


async def test_runs_in_tasks_do_not_mix(cache: Cache) -> None:
    tools = cache.aio.tools(effects=EFFECTS)

    async def one_run(thing: int) -> list[int]:
        box = Box()
        async with tools.session(f"run {thing}", scope="session"):
            await asyncio.sleep(0)
            await tools.call("put", {"thing": thing}, box.put)
            await asyncio.sleep(0)
            return list(await tools.call("look", {}, box.look))

    assert await asyncio.gather(*(one_run(n % 3) for n in range(9))) == [[n % 3] for n in range(9)]


steps = st.lists(
    st.one_of(st.tuples(st.just("look"), st.just(0)), st.tuples(st.just("put"), st.integers(-1, 2))), max_size=6
)


@given(runs=st.lists(steps, min_size=1, max_size=6))
def test_no_sequence_of_runs_in_equal_worlds_is_ever_answered_wrongly(runs: list[list[tuple[str, int]]]) -> None:
    with Cache(background=False) as cache:
        tools = cache.tools(effects=EFFECTS)
        for at, run in enumerate(runs):
            box = Box()
            with tools.session(str(at), scope="session"):
                for name, thing in run:
                    if name == "look":
                        assert tools.call("look", {}, box.look) == box.things
                    else:
                        try:
                            tools.call("put", {"thing": thing}, box.put)
                        except ValueError:
                            assert thing < 0


def airline_runs() -> list[dict[str, Any]]:
    folder = Path(os.environ.get("AGENTCACHE_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
    for candidate in (folder, REPOSITORY.parents[1] / "shared" / "data"):
        path = candidate / "agent_trajectories_airline.jsonl.gz"
        if path.exists():
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return [json.loads(line) for line in lines]
    pytest.skip("the airline trajectories are not here; name their folder in AGENTCACHE_BENCH_DATA")


def test_real_airline_runs_hit_where_it_is_safe_and_are_never_answered_wrongly(cache: Cache) -> None:
    tools = cache.tools(effects=REPOSITORY / "examples" / "airline-effects.toml")
    total = cacheable = hits = wrong = 0
    for run in airline_runs():
        with tools.session(f"{run['task_id']}/{run['trial']}", scope="session"):
            for at, message in enumerate(run["traj"]):
                for offset, call in enumerate(message.get("tool_calls") or [], start=1):
                    recorded, ran = run["traj"][at + offset]["content"], []
                    name, arguments = call["function"]["name"], call["function"]["arguments"]
                    answer = tools.call(name, arguments, lambda r=recorded, ran=ran: ran.append(1) or r)
                    total += 1
                    cacheable += isinstance(tools.effect_of(name), Pure | Read)
                    hits += not ran
                    wrong += answer != recorded
    assert (total, cacheable, wrong) == (621, 454, 0)
    assert hits >= 200

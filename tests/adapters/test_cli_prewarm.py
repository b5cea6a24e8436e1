"""`agentcache prewarm`: a file of requests, a function, one run or a schedule."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app
from agentcache_core import Cache
from agentcache_core.clock import ManualClock
from agentcache_core.schedule import Schedule, run_on

FUNCTIONS = """
from agentcache_core import Computed, Cost
asked = []
def answer(request):
    asked.append(request)
    if request["messages"] == "fail":
        raise TimeoutError("too slow")
    return Computed("an answer", cost=Cost(usd_micros=5))
async def answer_async(request):
    return answer(request)
not_a_function = 3
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"functions_{tmp_path.name}.py").write_text(FUNCTIONS)
    lines = [{"model": "m", "messages": n} for n in range(3)]
    text = "\n".join(
        [json.dumps(lines[0]), json.dumps({"request": lines[1]}), json.dumps({"body": lines[2]}), "", "{broken", "17"]
    )
    (tmp_path / "requests.jsonl").write_text(text)
    return tmp_path


def run(place: Path, *arguments: str, function: str = "answer") -> tuple[int, str]:
    named = f"functions_{place.name}:{function}"
    result = CliRunner().invoke(app, ["prewarm", *arguments, "--with", named, "--backend", "sqlite:///warm.db"])
    return result.exit_code, result.output


@pytest.mark.parametrize("function", ["answer", "answer_async"])
def test_a_file_is_asked_once_and_bad_lines_are_named(place: Path, function: str) -> None:
    code, output = run(place, "requests.jsonl", "--json", function=function)
    report = json.loads(output)
    assert code == 0
    assert (report["total"], report["computed"], report["usd_micros"]) == (3, 3, 15)
    assert [line.split(" ")[0] for line in report["bad_lines"]] == ["requests.jsonl:5:", "requests.jsonl:6:"]
    code, output = run(place, "requests.jsonl", "--json", function=function)
    assert (json.loads(output)["already"], json.loads(output)["computed"]) == (3, 0)
    with Cache(f"sqlite:///{place / 'warm.db'}") as cache:
        assert cache.get({"model": "m", "messages": 1}) == "an answer"


def test_failures_are_listed_and_end_with_status_1(place: Path) -> None:
    (place / "some.jsonl.gz").write_bytes(
        gzip.compress(b'{"model": "m", "messages": "fail"}\n{"model": "m", "messages": 1}\n')
    )
    code, output = run(place, "some.jsonl.gz")
    assert code == 1
    assert "request 0: TimeoutError: too slow" in output


def test_ttl_tags_and_namespace_reach_the_entries(place: Path) -> None:
    code, _ = run(place, "requests.jsonl", "--ttl", "1h", "--tag", "a", "--tag", "b", "--namespace", "desk")
    assert code == 0
    with Cache("sqlite:///warm.db", namespace="desk") as cache:
        hit = cache.lookup({"model": "m", "messages": 0})
    assert hit is not None
    assert set(hit.tags) == {"a", "b"}
    assert hit.ttl is not None
    assert hit.ttl <= 3600


@pytest.mark.parametrize(
    ("arguments", "function", "named"),
    [
        (["absent.jsonl"], "answer", "cannot read absent.jsonl"),
        (["requests.jsonl"], "nothing", "has no function 'nothing'"),
        (["requests.jsonl"], "not_a_function", "not a function"),
        (["requests.jsonl", "--ttl", "soon"], "answer", "is not a duration"),
        (["requests.jsonl", "--schedule", "often"], "answer", "five fields"),
        (["requests.jsonl", "--rate", "0"], "answer", "rate"),
    ],
)
def test_wrong_use_says_what_is_wrong(place: Path, arguments: list[str], function: str, named: str) -> None:
    code, output = run(place, *arguments, function=function)
    assert code == 2
    assert named in output.replace("\n", " ")


def test_a_module_that_does_not_exist_is_named(place: Path) -> None:
    result = CliRunner().invoke(app, ["prewarm", "requests.jsonl", "--with", "no_such_module:f"])
    assert result.exit_code == 2
    assert "no_such_module" in result.output


def test_a_schedule_runs_the_job_when_it_is_due_and_never_catches_up() -> None:
    clock, runs = ManualClock(1_774_742_400.0), []

    def job() -> None:
        runs.append(clock.now())
        clock.advance(5400)  # longer than the hour between two due times

    run_on(Schedule("0 * * * *"), job, clock=clock, wait=clock.advance, times=3)
    assert [run % 3600 for run in runs] == [0, 0, 0]
    assert [later - earlier for earlier, later in itertools.pairwise(runs)] == [7200, 7200]

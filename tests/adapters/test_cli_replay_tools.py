"""`agentcache replay --tools`: tool calls of a log, played through their declared effects."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app

REPOSITORY = Path(__file__).resolve().parents[2]
EFFECTS = REPOSITORY / "examples" / "airline-effects.toml"


def replay(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(app, ["replay", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    told: dict[str, object] = json.loads(result.stdout)["tool_calls"]
    return told


def conversation(*calls: tuple[str, dict[str, object], str]) -> str:
    messages: list[dict[str, object]] = [{"role": "user", "content": "go"}]
    for name, arguments, result in calls:
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": result},
        ]
    return json.dumps({"traj": messages})


def airline_log() -> Path:
    folder = Path(os.environ.get("AGENTCACHE_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
    for candidate in (folder, REPOSITORY.parents[1] / "shared" / "data"):
        if (candidate / "agent_trajectories_airline.jsonl.gz").exists():
            return candidate / "agent_trajectories_airline.jsonl.gz"
    pytest.skip("the airline trajectories are not here; name their folder in AGENTCACHE_BENCH_DATA")


def test_real_airline_runs_hit_where_it_is_safe_and_never_wrongly() -> None:
    told = replay(airline_log(), "--tools", EFFECTS, "--scope", "session")
    assert told["total"] == 621
    assert told["repeats"] == 266
    assert told["cacheable"] == 454
    assert told["hits"] >= 200
    assert told["wrong_hits"] == 0


def test_a_second_pass_over_private_worlds_is_answered_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    write = ("book_reservation", {"user_id": "ada"}, "booked")
    log.write_text(
        conversation(
            ("get_user_details", {"user_id": "ada"}, "no flights"),
            write,
            ("get_user_details", {"user_id": "ada"}, "one flight"),
        )
    )
    told = replay(log, "--tools", EFFECTS, "--scope", "session", "--passes", "2")
    assert told == {"total": 6, "repeats": 4, "cacheable": 4, "hits": 2, "wrong_hits": 0}


def test_in_a_shared_world_a_hit_that_differs_from_the_record_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    read = ("get_user_details", {"user_id": "ada"})
    log.write_text(conversation((*read, "one thing")) + "\n" + conversation((*read, "another thing")))
    told = replay(log, "--tools", EFFECTS)
    assert told == {"total": 2, "repeats": 1, "cacheable": 2, "hits": 1, "wrong_hits": 1}


def test_calls_whose_result_was_not_recorded_are_not_counted_as_cacheable(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    call = {"id": "c", "type": "function", "function": {"name": "calculate", "arguments": '{"expression": "1+1"}'}}
    response = {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}
    line = json.dumps({"request": {"model": "m", "messages": []}, "response": response})
    log.write_text(f"{line}\n{line}\n")
    assert replay(log, "--tools", EFFECTS)["cacheable"] == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--tools", "absent.toml"], "absent.toml"), (["--tools", str(EFFECTS), "--scope", "world"], "scope must be")],
)
def test_wrong_use_is_named(tmp_path: Path, arguments: list[str], named: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(conversation(("think", {}, "")))
    result = CliRunner().invoke(app, ["replay", str(log), *arguments])
    assert result.exit_code == 2
    assert named in result.output


def test_the_table_tells_what_was_played(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(conversation(("think", {"thought": "x"}, ""), ("think", {"thought": "x"}, "")))
    output = CliRunner().invoke(app, ["replay", str(log), "--tools", str(EFFECTS)]).output
    assert "of pure and reading tools" in output

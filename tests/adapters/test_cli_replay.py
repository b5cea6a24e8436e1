"""`agentcache replay`: what would caching have saved me?"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_cli_logs import AIRLINE, CHAT, batch_files
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app
from agentcache_adapters.cli.replaying import Frequent, Timeline


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "150"}, catch_exceptions=False)


def log(path: Path, *lines: Any) -> Path:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def asked(n: int, answer: Any = "same", **more: Any) -> dict[str, Any]:
    return {"request": {**CHAT, "n": n}, "response": {"text": answer}, **more}


def counted(*arguments: str | Path) -> dict[str, Any]:
    done = run("replay", *arguments, "--json")
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.skipif(not AIRLINE.exists(), reason=f"no {AIRLINE}: set AGENTCACHE_BENCH_DATA")
@pytest.mark.parametrize("backend", [None, "memory://?max_bytes=1GB", "sqlite:///{}/kept.db"])
def test_two_passes_over_real_conversations(backend: str | None, tmp_path: Path) -> None:
    options = [] if backend is None else ["--backend", backend.format(tmp_path)]
    told = counted(AIRLINE, "--passes", "2", "--model", "gpt-4o", *options)
    assert told["model_calls"] == {"total": 2 * 1381, "exact_hits": 3 + 1381, "wrong_hits": 0}
    assert told["tool_calls"] == {"total": 2 * 621, "repeats": 266 + 621}
    assert set(told) == {"model_calls", "tool_calls", "bytes", "seconds", "bad_lines"}
    assert told["bad_lines"] == 0
    assert told["bytes"]["served"] > told["bytes"]["stored"] > 0
    assert told["seconds"] > 0


def test_a_hit_whose_stored_answer_is_not_the_recorded_one_is_wrong(tmp_path: Path) -> None:
    told = counted(log(tmp_path / "log", asked(1), asked(2), asked(1), asked(2, "another")))
    assert told["model_calls"] == {"total": 4, "exact_hits": 2, "wrong_hits": 1}


def test_several_files_plain_and_compressed_are_one_log(tmp_path: Path) -> None:
    told = counted(log(tmp_path / "a", asked(1)), log(tmp_path / "b.gz", asked(1), asked(2)), "--passes", "3")
    assert told["model_calls"] == {"total": 9, "exact_hits": 7, "wrong_hits": 0}


def test_bad_lines_are_counted_over_passes_and_told_once_with_their_places(tmp_path: Path) -> None:
    path = log(tmp_path / "log", asked(1), "{", {"x": 1}, asked(1), {"request": {"deep": nested(300)}, "response": 1})
    done = run("replay", path, "--passes", "2", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["bad_lines"] == 6
    assert json.loads(done.stdout)["model_calls"]["total"] == 4
    for number, reason in ((2, "not JSON"), (3, "neither a request"), (5, "has no key")):
        assert done.stderr.count(f"{path}:{number}: ") == 1
        assert reason in done.stderr


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_many_bad_lines_are_not_all_told(tmp_path: Path) -> None:
    done = run("replay", log(tmp_path / "log", *(["{"] * 50)))
    assert done.exit_code == 0
    assert "and 30 more bad lines" in done.stderr
    assert "no call was found" in done.stderr


def test_failed_calls_are_not_stored_and_calls_without_an_answer_still_repeat(tmp_path: Path) -> None:
    failed = {"request": {**CHAT, "n": 1}, "response": {"error": "no"}, "error": {"code": 500}}
    unanswered = {"request": {**CHAT, "n": 2}}
    told = counted(log(tmp_path / "log", failed, failed, unanswered, unanswered, asked(2)))
    assert told["model_calls"] == {"total": 5, "exact_hits": 2, "wrong_hits": 0}


def test_a_batch_s_input_and_output_are_replayed_together(tmp_path: Path) -> None:
    asks, outputs = batch_files(tmp_path)
    for files in ((asks, outputs), (outputs, asks)):
        done = run("replay", *files, "--passes", "2", "--json")
        told = json.loads(done.stdout)
        assert told["model_calls"] == {"total": 10, "exact_hits": 3, "wrong_hits": 0}
        assert told["bad_lines"] == 2
        assert "c9" in done.stderr


def test_a_kept_backend_answers_the_next_run_and_not_the_owner_s_cache(tmp_path: Path) -> None:
    from agentcache_core import Cache

    path = log(tmp_path / "log", asked(1))
    url = f"sqlite:///{tmp_path}/kept.db"
    assert counted(path, "--backend", url)["model_calls"]["exact_hits"] == 0
    assert counted(path, "--backend", url)["model_calls"]["exact_hits"] == 1
    with Cache(url) as cache:
        assert not cache.get({**CHAT, "n": 1}), "recorded answers stay in a namespace of their own"


def test_the_table_reads_without_the_manual_and_names_what_was_saved(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 1000}
    call = {"request": {**CHAT, "provider": "openai", "model": "gpt-4o"}, "response": {"usage": usage}}
    done = run("replay", log(tmp_path / "log", call, call, asked(1)))
    assert done.exit_code == 0
    for text in ("What caching would have saved", "model calls", "33.3%", "tokens not spent", "2,000", "dollars"):
        assert text in done.stdout
    assert "\r" not in done.stdout


def test_on_a_terminal_a_bar_shows_how_far_it_is(tmp_path: Path) -> None:
    path = log(tmp_path / "log", *(asked(number) for number in range(500)))
    main, other = pty.openpty()
    command = [str(Path(sys.executable).with_name("agentcache")), "replay", str(path), "--json"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=other, env=environment)
    os.close(other)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(main, 65536):
            shown += part
    os.close(main)
    told, _ = running.communicate()
    assert running.returncode == 0
    assert b"replaying" in shown
    assert b"%" in shown
    assert json.loads(told)["model_calls"]["total"] == 500


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{log}", "--backend", "nope://x"], "nope"),
        (["{log}", "--backend", "memory://?max_bytes=-1"], "max_bytes"),
        (["{folder}/missing"], "cannot read"),
        (["{folder}"], "is a folder"),
        (["{log}", "--passes", "0"], "--passes"),
        ([], "FILE"),
    ],
)
def test_wrong_use_says_what_was_wrong_and_exits_with_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    path = log(tmp_path / "log", asked(1))
    done = run("replay", *(argument.format(log=path, folder=tmp_path) for argument in arguments))
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = log(tmp_path / "log", asked(1))
    path.chmod(0)
    assert run("replay", path).exit_code == 2


def test_a_timeline_keeps_its_sums_while_it_merges() -> None:
    timeline = Timeline()
    for number in range(10_000):
        timeline.add(number % 3 == 0)
    points = timeline.points()
    assert len(points) <= 400
    assert sum(calls for calls, _ in points) == 10_000
    assert sum(hits for _, hits in points) == 3334
    assert {calls for calls, _ in points[:-1]} == {timeline.width}


def test_what_is_frequent_is_kept_among_many_others() -> None:
    frequent = Frequent()
    for number in range(20_000):
        frequent.add(number.to_bytes(4, "big"), "once")
        if number % 10 == 0:
            frequent.add(b"often", "often")
    assert frequent.most(3)[0][0] == "often"
    assert 1900 < frequent.most(1)[0][1] <= 2000

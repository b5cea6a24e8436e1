"""Every benchmark runs, once and small; nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = sorted(
    path.stem
    for folder in ("micro", "traces", "quality", "load")
    for path in (REPOSITORY / "benchmarks" / folder).glob("*.py")
    if not path.stem.startswith("_") and "def run(" in path.read_text(encoding="utf-8")
    if path.stem != "faults"  # run, and judged, by test_outages.py
)


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=150, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_small(name: str) -> None:
    done = benchmarks(name, "--small", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)["reports"][name]
    assert report["question"].strip()
    assert report["rows"]
    assert all(row["name"] and row["value"] >= 0 for row in report["rows"])


def test_an_unknown_benchmark_is_named_and_the_known_ones_listed() -> None:
    done = benchmarks("hitt")
    assert done.returncode == 2
    assert "hitt" in done.stderr
    assert "hit" in done.stderr


def test_the_tables_are_for_people() -> None:
    done = benchmarks("plain", "--small")
    assert "What does a hit on a plain string key cost" in done.stdout
    assert "agentcache get" in done.stdout


def test_the_request_of_the_benchmarks_is_what_the_questions_say() -> None:
    sys.path.insert(0, str(REPOSITORY))
    try:
        from benchmarks.workload import chat_request
    finally:
        sys.path.remove(str(REPOSITORY))
    request = chat_request()
    assert 3584 <= len(json.dumps(request, separators=(",", ":"))) <= 4096
    asked = next(message for message in request["messages"] if message["content"] is None)
    assert asked["tool_calls"]
    floats = [value for value in request.values() if isinstance(value, float)]
    assert floats == [0.7]


@pytest.mark.parametrize("name", ["hit", "miss", "keys", "log", "disk"])
def test_a_user_can_measure_his_own_log_on_any_backend(name: str, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    log = tmp_path / "calls.jsonl"
    log.write_text(json.dumps({"model": "m", "messages": turns}) + "\n{broken\n")
    done = benchmarks(name, "--small", "--json", "--log", str(log), "--backend", f"sqlite:///{tmp_path}/cache.db")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["reports"][name]["rows"]


def test_a_log_without_model_calls_is_told(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    log.write_text("{broken\n")
    done = benchmarks("log", "--small", "--log", str(log))
    assert done.returncode == 1
    assert "no model call" in done.stderr
    assert "calls.jsonl:1" in done.stderr


def test_the_page_holds_ratios_and_goals_and_no_times(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = benchmarks("plain", "memory", "--small", "--page", str(page))
    assert done.returncode == 0, done.stderr[-3000:]
    text = page.read_text(encoding="utf-8")
    assert "| agentcache get |" in text
    assert "`memory`: agentcache, bytes" in text
    assert "python -m benchmarks plain memory" in text
    assert " ns" not in text


def test_a_page_takes_in_what_an_earlier_run_printed(tmp_path: Path) -> None:
    earlier, page = tmp_path / "earlier.json", tmp_path / "page.md"
    earlier.write_text(benchmarks("plain", "--small", "--json").stdout, encoding="utf-8")
    done = benchmarks("memory", "--small", "--page", str(page), "--and", str(earlier))
    assert done.returncode == 0, done.stderr[-3000:]
    text = page.read_text(encoding="utf-8")
    assert text.index("## memory") < text.index("## plain")
    assert "--and earlier.json (python -m benchmarks plain --json)" in text

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

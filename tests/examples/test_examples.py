"""The examples: three lines make them cached, and then the second run asks nobody and prints the same."""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = ("chatbot", "rag", "agent")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from support_desk.stand_in import StandIn

    with StandIn(first_token_seconds=0.0, seconds_per_token=0.0) as model:
        yield model


def run(example: Path, model: object, folder: Path) -> str:
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": model.url,
        "OPENAI_API_KEY": "none-needed",
        "PYTHONPATH": str(EXAMPLES),
        "PYTHONIOENCODING": "utf-8",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(example)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_the_second_run_asks_nobody_and_prints_the_same(name: str, model: object, tmp_path: Path) -> None:
    first = run(EXAMPLES / f"{name}.py", model, tmp_path)
    asked = model.calls
    assert asked > 0
    assert run(EXAMPLES / f"{name}.py", model, tmp_path) == first
    assert model.calls == asked


@pytest.mark.parametrize("name", NAMES)
def test_the_cached_version_prints_what_the_uncached_one_does(name: str, model: object, tmp_path: Path) -> None:
    assert run(EXAMPLES / "uncached" / f"{name}.py", model, tmp_path) == run(EXAMPLES / f"{name}.py", model, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_at_most_three_lines_differ_from_the_uncached_version(name: str) -> None:
    plain = (EXAMPLES / "uncached" / f"{name}.py").read_text().splitlines()
    cached = (EXAMPLES / f"{name}.py").read_text().splitlines()
    changed = [line[2:] for line in difflib.ndiff(plain, cached) if line.startswith("+ ")]
    assert 0 < len([line for line in changed if line.strip()]) <= 3

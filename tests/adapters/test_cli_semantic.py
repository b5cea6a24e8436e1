"""`agentcache calibrate`, `agentcache explain-pair` and `agentcache replay --semantic`, as typed at a prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app

EMBEDDER = """
import numpy as np

def bag(texts):
    rows = np.zeros((len(texts), 64), np.float32)
    for row, text in zip(rows, texts):
        for word in text.lower().replace("?", "").split():
            row[sum(map(ord, word)) % 64] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bags_of_words.py").write_text(EMBEDDER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"}, catch_exceptions=False)


def pairs(path: Path, *, wrong: int = 0) -> Path:
    same = [{"a": f"How do I open box number {n}?", "b": f"How can I open box number {n}?", "label": 1}
            for n in range(900)]  # fmt: skip
    off = [{"a": f"Please open box number {n}", "b": f"Please close box number {n}", "label": 0} for n in range(90)]
    worse = [{"a": f"Open box {n}", "b": f"Open box {n}", "label": 0} for n in range(wrong)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in same + off + worse))
    return path


def test_calibrate_writes_a_proven_threshold_that_a_cache_can_use(folder: Path) -> None:
    from agentcache_core.semantic import Semantic

    written = folder / "calibration.json"
    done = run("calibrate", pairs(folder / "p.jsonl"), "--max-error", "0.01", "-o", written, "--json",
               "--embedder", "bags_of_words:bag")  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["pairs"], told["errors"]) == (990, 0)
    assert told["bound"] <= 0.01
    import bags_of_words  # type: ignore[import-not-found]  # written by this test

    semantic = Semantic(embedder=bags_of_words.bag, max_error=0.01, calibration=written)
    assert semantic.policy.threshold == pytest.approx(told["threshold"], abs=1e-5)


def test_calibrate_says_when_no_threshold_qualifies(folder: Path) -> None:
    written = folder / "calibration.json"
    done = run("calibrate", pairs(folder / "p.jsonl", wrong=600), "--max-error", "0.01", "-o", written,
               "--embedder", "bags_of_words:bag")  # fmt: skip
    assert done.exit_code == 3
    assert "no threshold qualifies" in done.stdout
    assert not written.exists()


@pytest.mark.parametrize("line", ["nonsense", '{"a": "x"}', '{"a": 1, "b": "y", "label": 1}', "[]"])
def test_a_line_that_is_no_pair_is_named(folder: Path, line: str) -> None:
    (folder / "p.jsonl").write_text(line + "\n")
    done = run("calibrate", folder / "p.jsonl", "--embedder", "bags_of_words:bag")
    assert done.exit_code == 2
    assert "p.jsonl:1" in done.output


def test_explain_pair_shows_similarity_guards_and_decision(folder: Path) -> None:
    done = run("explain-pair", "How do I open box 3?", "How do I open box 4?", "--embedder", "bags_of_words:bag",
               "--threshold", "0.5", "--json")  # fmt: skip
    told = json.loads(done.stdout)
    assert 0.5 < told["similarity"] < 1.0
    assert told["guards"]["numbers"] == "veto: 3 against 4"
    assert told["decision"]["step"] == "guards"
    assert not told["decision"]["served"]
    shown = run("explain-pair", "How do I open box 3?", "How can I open box 3?", "--embedder", "bags_of_words:bag",
                "--threshold", "0.5")  # fmt: skip
    assert "served by step static" in shown.stdout
    assert "negation" in shown.stdout


def test_an_unknown_embedder_is_named(folder: Path) -> None:
    done = run("explain-pair", "a", "b", "--embedder", "bags_of_words:sack")
    assert done.exit_code == 2
    assert "bags_of_words:sack" in done.output


def test_replay_counts_similar_questions(folder: Path) -> None:
    def line(text: str, answer: str) -> str:
        request = {"model": "m", "messages": [{"role": "user", "content": text}]}
        return json.dumps({"request": request, "response": {"text": answer}}) + "\n"

    log = folder / "log.jsonl"
    log.write_text(
        line("How do I open box 3?", "x") + line("How can I open box 3?", "y") + line("How do I open box 4?", "z")
    )
    done = run("replay", log, "--semantic", "--threshold", "0.6", "--embedder", "bags_of_words:bag", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["model_calls"]
    assert told == {"total": 3, "exact_hits": 0, "wrong_hits": 0, "semantic_hits": 1}

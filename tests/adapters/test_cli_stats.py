"""`agentcache stats`: what was saved, by namespace, model and tag, with the formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli import console
from agentcache_adapters.cli.app import app
from agentcache_core import Cache, Computed, Cost


@pytest.fixture(autouse=True)
def a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "_width", 200)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'agent.db'}"
    with Cache(url, namespace="desk") as cache:
        for model in ("gpt-5", "gpt-5", "gpt-5", "tomorrow-1", "tomorrow-1"):
            cost = Cost(2500 if model == "gpt-5" else 0, 1000, 0, 100, 2.0)
            request = {"provider": "openai", "model": model, "messages": []}
            answer = Computed("an answer", cost=cost)
            cache.get_or_compute(
                request,
                lambda answer=answer: answer,
                tags=["[bold]policy"],
                meta={"provider": "openai", "model": model},
            )
        cache.bypassed("server-side state", kind="http")
    return url


def test_the_table_shows_what_each_namespace_saved(url: str) -> None:
    result = CliRunner().invoke(app, ["stats", url])
    assert result.exit_code == 0
    row = next(line for line in result.output.splitlines() if "desk" in line)
    assert [cell.strip() for cell in row.strip("│┃").split("│")] == ["desk", "3", "2", "60.0%", "1", "0.005000", "6.0"]


def test_the_explanation_shows_models_tags_reasons_times_and_the_formula(url: str) -> None:
    output = CliRunner().invoke(app, ["stats", url, "--explain"]).output
    assert "openai/gpt-5" in output
    assert "[bold]policy" in output
    assert "server-side state" in output
    assert "look-ups outside memory" in output
    assert "no price is known for openai/tomorrow-1" in output
    assert "usd = (input_tokens - cached_input_tokens)" in output


def test_as_json_everything_is_there(url: str) -> None:
    report = json.loads(CliRunner().invoke(app, ["stats", url, "--json"]).output)
    assert report["total"]["total"]["cost"]["usd_micros"] == 5000
    assert report["total"]["by_model"]["openai/gpt-5"]["hits"] == 2
    assert report["total"]["unpriced"] == ["openai/tomorrow-1"]


def test_an_unknown_url_is_named() -> None:
    result = CliRunner().invoke(app, ["stats", "nosuch://place"])
    assert result.exit_code == 2
    assert "nosuch" in result.output


def test_looking_at_a_file_that_does_not_exist_does_not_make_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["stats", f"sqlite:///{tmp_path / 'typo.db'}"])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []

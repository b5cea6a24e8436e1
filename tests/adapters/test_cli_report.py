"""The page that `agentcache replay --html` writes."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentcache_adapters.cli.app import app

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> & http://evil.example \x1b[31m"


class Page(HTMLParser):
    """The page as a browser's parser sees it: every tag with its attributes, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def lines(count: int, text: str) -> list[dict[str, Any]]:
    def call(n: int) -> dict[str, Any]:
        function = {"name": text, "arguments": json.dumps({"n": n % 3, text: text})}
        message = {"role": "assistant", "content": "x" * (n % 7) * 100, "tool_calls": [{"function": function}]}
        request = {"model": f"gpt-4o{text}", "messages": [{"role": "user", "content": f"{text}{n % 20}"}]}
        return {"request": request, "response": {"choices": [{"message": message}]}}

    return [call(n) for n in range(count)]


def page(tmp_path: Path, recorded: list[Any], *options: str) -> Page:
    log = tmp_path / f"log {HOSTILE[:8].replace('/', '')}.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in recorded))
    out = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["replay", str(log), "--html", str(out), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return Page(out.read_text(encoding="utf-8"))


def test_the_page_shows_figures_and_plots_of_what_was_replayed(tmp_path: Path) -> None:
    shown = page(tmp_path, lines(100, "f"), "--passes", "2")
    assert shown.open == []
    for heading in ("Hit rate over time", "Where savings are: models", "tools", "Sizes of stored", "Most repeated"):
        assert heading in shown.text
    assert "90.0%" in shown.text, "180 of 200 calls are hits"
    assert "180 of 200" in shown.text
    plots = [attributes["aria-label"] for tag, attributes in shown.tags if tag == "svg"]
    assert plots == ["Hit rate over time", "Savings by model", "Savings by tool", "Sizes of stored answers"]
    (curve,) = [attributes["points"] for tag, attributes in shown.tags if tag == "polyline"]
    assert curve is not None
    heights = [float(point.split(",")[1]) for point in curve.split()]
    assert len(heights) == 100
    assert heights[0] > heights[-1], "misses at first, hits at the end; SVG counts downwards"


def test_nothing_in_a_log_can_become_part_of_the_page(tmp_path: Path) -> None:
    shown = page(tmp_path, lines(30, HOSTILE))
    assert shown.open == []
    known = (
        "html head meta title style body h1 h2 p dl div dt dd svg line text polyline rect g table thead tbody tr th td"
    )
    assert {tag for tag, _ in shown.tags} == set(known.split())
    assert "<script>alert(1)</script>" in shown.text
    for _, attributes in shown.tags:
        assert not [name for name in attributes if name.startswith("on")]
    assert "\x1b" not in shown.text


def test_the_page_needs_nothing_else_and_allows_nothing_else(tmp_path: Path) -> None:
    shown = page(tmp_path, lines(10, "f"))
    assert not [name for _, attributes in shown.tags for name in ("src", "href", "xlink:href") if name in attributes]
    policies = [
        attributes.get("content") for tag, attributes in shown.tags if tag == "meta" and "http-equiv" in attributes
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert not re.search(r"url\(|@import", (tmp_path / "report.html").read_text())


@pytest.mark.parametrize("recorded", [[], ["junk"], [{"request": "k", "response": 1}]])
def test_a_log_with_little_in_it_still_makes_a_page(recorded: list[Any], tmp_path: Path) -> None:
    assert page(tmp_path, recorded).open == []


def test_a_page_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    for where in (tmp_path, tmp_path / "no" / "page.html"):
        done = CliRunner().invoke(app, ["replay", str(log), "--html", str(where)], catch_exceptions=False)
        assert done.exit_code == 2
        assert "cannot write" in done.stderr
    kept = tmp_path / "kept.html"
    kept.write_text("kept")
    arguments = ["replay", str(log), "--html", str(kept), "--backend", "nope://"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 2
    assert kept.read_text() == "kept"

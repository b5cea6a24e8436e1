"""The page of measured ratios: what `--page FILE` writes, one table a question and one of goals, no absolute times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = """# Measured beside its peers

Ratios of one run, each contender's median, all interleaved in one process: 2.00x means twice as long as the
contender marked 1.00x. Absolute times differ from machine to machine, so none are given here; `--json` prints them. A
goal that is missed stays in, and [decisions.md](decisions.md#benchmarks) says why.

Written by `{command}`
on {machine}. With your own log and on your own backend:
`python -m benchmarks log hit --log calls.jsonl --backend sqlite:///cache.db`.
"""


def page_of(reports: Mapping[str, Mapping[str, Any]], *, command: str, machine: Mapping[str, Any]) -> str:
    """The page as Markdown: the goals first, then every contender of every question. A report is its `as_json()`."""
    shown = f"Python {machine['python']}, {machine['cpus']} CPUs"
    lines = [HEAD.format(command=command, machine=shown), "## Goals", ""]
    lines += ["| question | measured | goal | stretch | |", "|---|---|---|---|---|"]
    for name, report in reports.items():
        for verdict in report["goals"]:
            stretch = "" if verdict["stretch"] is None else f"{verdict['stretch']:.3g}"
            mark = "met" if verdict["met"] else "**missed**"
            cells = (f"`{name}`: {verdict['ratio']}", f"{verdict['measured']:.3g}", verdict["goal"], stretch, mark)
            lines.append(f"| {' | '.join(cells)} |")
    for name, report in reports.items():
        lines += ["", f"## {name}", "", report["question"].strip(), ""]
        if report.get("prose"):
            lines += [report["prose"].strip(), ""]
        lines += ["| contender | |", "|---|---|"]
        for row in report["rows"]:
            figure = _number(row["value"]) if row["ratio"] is None else f"{row['ratio']:.2f}x"
            told = [figure, report["unit"] if row["ratio"] is None else "", row.get("note", "")]
            lines.append(f"| {row['name']} | {' '.join(part for part in told if part)} |")
        lines += [f"\nLeft out: {left} ({reason})." for left, reason in report["left_out"].items()]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"

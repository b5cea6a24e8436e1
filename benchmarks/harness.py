"""How contenders are measured side by side, and the report made of it.

All contenders of a question run interleaved in one process: in every round each has one short turn, in an order that
rotates, and what counts is the median over the rounds. So a slow moment of the machine slows all of them, and ratios
within a report mean something where absolute times between two machines do not.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SLICE = 1_000_000
"""How long one turn of a contender should take, in nanoseconds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for. `small`: once, quickly, only to see that it runs. `url`: the cache to measure where the
    question allows another than its own; `log`: a file of requests to take instead of the built-in ones; `seconds`: how
    long a question that asks what happens over time should look."""

    small: bool = False
    url: str | None = None
    log: str | None = None
    seconds: float | None = None

    @property
    def rounds(self) -> int:
        return 1 if self.small else 151

    def loops(self, full: int) -> int:
        """How often a contender is called in a round."""
        return max(1, full // 1000) if self.small else full


@dataclass(frozen=True, slots=True)
class Row:
    """One contender: its median, and how it compares with the one the report compares to."""

    name: str
    value: float
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a ratio should be: `contender` over `against` at most (or at least) `goal`, better still `stretch`.

    With `against=""` it is the contender's own figure, in the unit of the report."""

    contender: str
    against: str
    goal: float
    stretch: float | None = None
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to one question: rows of one unit, the goals, and what could not be measured and why."""

    question: str
    unit: str
    rows: tuple[Row, ...]
    goals: tuple[Goal, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    prose: str = ""
    """What must be known to read the figures, where they do not speak for themselves."""

    def verdicts(self) -> list[dict[str, Any]]:
        """Each goal with the ratio that was measured and whether it is met."""
        values = {row.name: row.value for row in self.rows}
        verdicts = []
        for goal in self.goals:
            if goal.contender not in values or (goal.against and not values.get(goal.against)):
                continue
            ratio = values[goal.contender] / (values[goal.against] if goal.against else 1.0)
            met = ratio >= goal.goal if goal.at_least else ratio <= goal.goal
            verdicts.append(
                {
                    "ratio": f"{goal.contender} / {goal.against}"
                    if goal.against
                    else ", ".join(part for part in (goal.contender, self.unit) if part),
                    "measured": round(ratio, 3),
                    "goal": ("≥ " if goal.at_least else "≤ ") + f"{goal.goal:g}",
                    "stretch": goal.stretch,
                    "met": met,
                }
            )
        return verdicts

    def as_json(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "question": self.question,
            "unit": self.unit,
            "rows": [
                {"name": row.name, "value": row.value, "ratio": row.ratio, **({"note": row.note} if row.note else {})}
                for row in self.rows
            ],
            "goals": self.verdicts(),
            **({"prose": self.prose} if self.prose else {}),
            "left_out": dict(self.left_out),
            **({"extra": dict(self.extra)} if self.extra else {}),
        }

    def as_table(self) -> str:
        """The report for people."""
        width = max(len(row.name) for row in self.rows)
        lines = [self.question]
        for row in self.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:8.2f}x"
            lines.append(f"  {row.name:<{width}}  {row.value:>12,.1f} {self.unit:<10}{ratio}  {row.note}".rstrip())
        for verdict in self.verdicts():
            mark = "met" if verdict["met"] else "MISSED"
            lines.append(f"  goal {verdict['goal']} for {verdict['ratio']}: {verdict['measured']:g}, {mark}")
        lines += [f"  left out: {name} ({reason})" for name, reason in self.left_out.items()]
        return "\n".join(lines)


Contender = Callable[[], object]


def nanoseconds_per_call(contenders: Mapping[str, Contender], settings: Settings, *, loops: int) -> dict[str, float]:
    """The median time of one call of each contender, in nanoseconds, measured interleaved.

    A turn of a contender is about `SLICE` long, at most `loops` calls: shorter than what a busy machine lets a process
    run at a stretch, so that a turn is either undisturbed or an outlier, and quick contenders get no advantage.
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    counts = {name: 1 if settings.small else _calls_in_a_slice(contenders[name], loops) for name in names}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(settings.rounds):
            for at in range(len(names)):
                name = names[(turn + at) % len(names)]
                times[name].append(_time(contenders[name], counts[name]) / counts[name])
            if turn % 10 == 0:
                gc.collect()
    finally:
        if enabled:
            gc.enable()
    return {name: statistics.median(values) for name, values in times.items()}


def _calls_in_a_slice(contender: Contender, most: int) -> int:
    contender()
    quickest = min(_time(contender, 1) for _ in range(5))
    return max(1, min(most, SLICE // max(1, quickest)))


def _time(call: Contender, count: int) -> int:
    loop = range(count)
    started = time.perf_counter_ns()
    for _ in loop:
        call()
    return time.perf_counter_ns() - started


def rows_against(values: Mapping[str, float], against: str) -> tuple[Row, ...]:
    """Rows with their ratio to one of them."""
    base = values[against]
    return tuple(Row(name, value, value / base if base else None) for name, value in values.items())

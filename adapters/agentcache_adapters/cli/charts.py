"""Plots as SVG text, for a page without scripts: a line, horizontal bars, columns. Every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 900
_LABEL = 260
_LABEL_CHARS = 38


def escaped(text: str) -> str:
    """Text from a log as text of a page: markup escaped, characters that cannot be seen spelled out."""
    return escape("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar: a whole, the part of it in colour, and a note at its end."""

    label: str
    whole: int
    part: int
    note: str


def line(shares: Sequence[float], *, title: str, last: str) -> str:
    """A curve through `shares` (each 0 to 1), evenly spaced; the axis ends at `last`."""
    height, left, bottom, top = 240, 48, 24, 8
    plot_width, plot_height = _WIDTH - left - 8, height - bottom - top
    parts = []
    for percent in (0, 25, 50, 75, 100):
        y = top + plot_height * (1 - percent / 100)
        parts.append(f'<line class="rule" x1="{left}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{percent}%</text>')
    gaps = max(1, len(shares) - 1)
    points = [(left + plot_width * at / gaps, top + plot_height * (1 - share)) for at, share in enumerate(shares)]
    if len(points) == 1:
        points.append((left + plot_width, points[0][1]))
    parts.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    parts.append(f'<text class="soft" x="{left}" y="{height - 6}">call 1</text>')
    parts.append(f'<text class="soft" x="{_WIDTH - 8}" y="{height - 6}" text-anchor="end">{escaped(last)}</text>')
    return _svg(height, title, parts)


def bars(items: Sequence[Bar], *, title: str) -> str:
    """Horizontal bars, one below the other, on one scale."""
    row, note = 28, 190
    scale = (_WIDTH - _LABEL - note) / max(1, *(item.whole for item in items))
    parts = []
    for at, item in enumerate(items):
        y = at * row
        label = item.label if len(item.label) <= _LABEL_CHARS else item.label[: _LABEL_CHARS - 1] + "…"
        whole, part = item.whole * scale, item.part * scale
        parts.append(f"<g><title>{escaped(item.label)}: {escaped(item.note)}</title>")
        parts.append(f'<text x="{_LABEL - 10}" y="{y + 18}" text-anchor="end">{escaped(label)}</text>')
        parts.append(f'<rect class="miss" x="{_LABEL}" y="{y + 5}" width="{max(whole, 1):.1f}" height="18" rx="3"/>')
        parts.append(f'<rect class="hit" x="{_LABEL}" y="{y + 5}" width="{part:.1f}" height="18" rx="3"/>')
        parts.append(f'<text class="soft" x="{_LABEL + whole + 8:.1f}" y="{y + 18}">{escaped(item.note)}</text></g>')
    return _svg(row * len(items) + 4, title, parts)


def columns(items: Sequence[tuple[str, int]], *, title: str) -> str:
    """Columns side by side, each with its count above and its label below."""
    height, bottom, top = 220, 24, 20
    plot_height = height - bottom - top
    width = _WIDTH / max(1, len(items))
    highest = max(1, *(count for _, count in items)) if items else 1
    parts = [f'<line class="rule" x1="0" x2="{_WIDTH}" y1="{height - bottom}" y2="{height - bottom}"/>']
    for at, (label, count) in enumerate(items):
        tall = plot_height * count / highest
        middle = at * width + width / 2
        y = height - bottom - tall
        side = min(width * 0.7, 80)
        parts.append(
            f'<rect class="hit" x="{middle - side / 2:.1f}" y="{y:.1f}" width="{side:.1f}" height="{tall:.1f}"/>'
        )
        if count:
            parts.append(f'<text class="soft" x="{middle:.1f}" y="{y - 5:.1f}" text-anchor="middle">{count:,}</text>')
        parts.append(f'<text x="{middle:.1f}" y="{height - 6}" text-anchor="middle">{escaped(label)}</text>')
    return _svg(height, title, parts)


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escaped(title)}">{inside}</svg>'

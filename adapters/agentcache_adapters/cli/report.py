"""The page that `agentcache replay --html` writes: one file that needs nothing else, no script, everything escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentcache_adapters.cli.charts import Bar, bars, columns, escaped, line
from agentcache_adapters.cli.replaying import Group, Tally

_MOST = 15
_POINTS = 100

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --paper: #ffffff; --card: #f5f6f9; --rule: #d9dde5;
  --hit: #1f7a5a; --miss: #c3cad6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #9aa5b8; --paper: #12161d; --card: #1b212b;
  --rule: #323b49; --hit: #4cc294; --miss: #4a5568; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p { margin: .25rem 0 1rem; color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
dl div { background: var(--card); border-radius: .5rem; padding: .75rem 1rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .rule { stroke: var(--rule); } svg .soft { fill: var(--soft); } svg .hit { fill: var(--hit); }
svg .miss { fill: var(--miss); } svg .curve { fill: none; stroke: var(--hit); stroke-width: 2; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; color: var(--soft); font-weight: normal; }
th, td { padding: .35rem .5rem .35rem 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td { overflow-wrap: anywhere; } td.number, th.number { text-align: right; white-space: nowrap; }
"""


def render(tally: Tally, *, files: Sequence[str], passes: int) -> str:
    """The whole page for one replay."""
    times = "" if passes == 1 else f", {passes} passes"
    body = [
        "<h1>What caching would have saved</h1>",
        f"<p>{escaped(', '.join(files))}{times}</p>",
        _figures(tally),
        *_hit_rate(tally),
        *_savings(tally),
        *_sizes(tally),
        *_repeated(tally),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>AgentCache replay</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _figures(tally: Tally) -> str:
    figures = [
        ("model calls", f"{tally.model_calls:,}"),
        ("answered from the cache", _share(tally.exact_hits, tally.model_calls)),
        ("hits not as recorded", f"{tally.wrong_hits:,}"),
        ("tool calls", f"{tally.tool_calls:,}"),
        ("tool calls repeated", _share(tally.repeats, tally.tool_calls)),
        ("stored", _bytes(tally.bytes_stored)),
        ("served from the cache", _bytes(tally.bytes_served)),
        ("bad lines", f"{tally.bad_lines:,}"),
    ]
    if tally.saved.usd_micros:
        figures.insert(3, ("dollars not spent, at list prices", f"{tally.saved.usd_micros / 1e6:,.2f}"))
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures) + "</dl>"


def _hit_rate(tally: Tally) -> Iterable[str]:
    points = tally.timeline.points()
    if not points:
        return
    merged = max(1, -(-len(points) // _POINTS))  # single calls are all or nothing, which says little
    step = tally.timeline.width * merged
    of = "each call" if step == 1 else f"each stretch of {step:,} calls"
    yield "<h2>Hit rate over time</h2>"
    yield f"<p>Share of model calls that the cache would have answered, for {of}, in the order of the log.</p>"
    groups = [points[at : at + merged] for at in range(0, len(points), merged)]
    shares = [sum(hits for _, hits in group) / sum(calls for calls, _ in group) for group in groups]
    yield line(shares, title="Hit rate over time", last=f"call {tally.model_calls:,}")


def _savings(tally: Tally) -> Iterable[str]:
    if tally.models:
        yield "<h2>Where savings are: models</h2>"
        yield "<p>All calls, and in colour those that the cache would have answered.</p>"
        yield bars([_bar(name, group) for name, group in _largest(tally.models)], title="Savings by model")
    if tally.tools:
        yield "<h2>Where savings are: tools</h2>"
        yield (
            "<p>All calls, and in colour those that repeat an earlier one by name and arguments. Only tools declared "
            "to read, or to be pure, may be answered from a cache; one that changes something never is.</p>"
        )
        yield bars([_bar(name, group) for name, group in _largest(tally.tools)], title="Savings by tool")


def _largest(groups: dict[str, Group]) -> list[tuple[str, Group]]:
    return sorted(groups.items(), key=lambda pair: (-pair[1].hits, -pair[1].calls, pair[0]))[:_MOST]


def _bar(name: str, group: Group) -> Bar:
    dollars = f", ${group.saved.usd_micros / 1e6:,.2f}" if group.saved.usd_micros else ""
    return Bar(name, group.calls, group.hits, f"{group.hits:,} of {group.calls:,}{dollars}")


def _sizes(tally: Tally) -> Iterable[str]:
    if not tally.sizes:
        return
    yield "<h2>Sizes of stored answers</h2>"
    yield "<p>How many answers are up to so many bytes, before compression.</p>"
    low, high = min(tally.sizes), max(tally.sizes)
    labelled = [(_bytes(1 << power), tally.sizes[power]) for power in range(low, high + 1)]
    yield columns(labelled, title="Sizes of stored answers")


def _repeated(tally: Tally) -> Iterable[str]:
    most = tally.frequent.most(_MOST)
    if not most:
        return
    yield "<h2>Most repeated requests</h2>"
    yield '<table><thead><tr><th class="number">times</th><th>request</th></tr></thead><tbody>'
    for label, count in most:
        yield f'<tr><td class="number">{count:,}</td><td>{escaped(label)}</td></tr>'
    yield "</tbody></table>"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _bytes(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "B" or amount == int(amount) else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"

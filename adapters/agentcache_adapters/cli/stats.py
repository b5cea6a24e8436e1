"""`agentcache stats URL`: what a cache has saved since its first record, over every process and restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from rich.table import Table

from agentcache_adapters.cli.console import failures, out, plain, print_json
from agentcache_adapters.cli.opening import must_exist
from agentcache_core import Cache
from agentcache_core.savings import Percentiles, Saving, Savings

MOST_NAMES = 20


def stats(
    url: Annotated[str, typer.Argument(help="The cache, such as sqlite:///agent.db.")],
    tenant: Annotated[str, typer.Option(help="The tenant whose figures are asked for.")] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="By model and tag, with latencies and the formula.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show hits, misses, bypasses, and the money and time saved, by namespace; with --explain by model and tag too."""
    must_exist(url)
    with failures(), Cache(url, tenant=tenant) as cache:
        report = cache.savings()
        tiers = cache.stats().tiers
    if as_json:
        print_json({**report.as_json(), "tiers": [tier.name for tier in tiers]})
        return
    table = Table("namespace", "hits", "misses", "hit rate", "bypasses", "dollars saved", "seconds saved")
    for row in (*report.namespaces, report.total):
        name = "(all)" if row is report.total else row.namespace or "(default)"
        rate = "" if row.hit_rate is None else f"{row.hit_rate:.1%}"
        cost = row.total.cost
        table.add_row(
            plain(name), f"{row.hits:,}", f"{row.misses:,}", rate, f"{row.bypasses:,}", _dollars(cost.usd_micros),
            f"{cost.seconds:,.1f}",
        )  # fmt: skip
    out.print(table)
    if explain:
        _explain(report.total)
        out.print(plain(f"{report.formula}; prices of {report.prices_as_of}"))


def _explain(total: Savings) -> None:
    for title, named in (("model", total.by_model), ("tag", total.by_tag)):
        if named:
            out.print(_by_name(title, named))
    reasons = Table("bypassed or not stored because", "times")
    for reason, count in sorted(total.reasons.items(), key=lambda pair: -pair[1])[:MOST_NAMES]:
        reasons.add_row(plain(reason), f"{count:,}")
    if total.reasons:
        out.print(reasons)
    times = Table("what took how long", "times", "half within", "90 % within", "99 % within")
    for name, told in (("look-ups outside memory", total.looking), ("computing what was missed", total.computing)):
        if told is not None:
            times.add_row(name, *_percentiles(told))
    if total.looking is not None or total.computing is not None:
        out.print(times)
    for model in total.unpriced:
        out.print(plain(f"no price is known for {model}: it counts as no money"))


def _by_name(title: str, named: Mapping[str, Saving]) -> Table:
    table = Table(title, "hits", "input tokens", "of them cached", "output tokens", "dollars saved", "seconds saved")
    for name, saving in list(named.items())[:MOST_NAMES]:
        cost = saving.cost
        counts = (saving.hits, cost.input_tokens, cost.cached_input_tokens, cost.output_tokens)
        table.add_row(
            plain(name), *(f"{count:,}" for count in counts), _dollars(cost.usd_micros), f"{cost.seconds:,.1f}"
        )
    if len(named) > MOST_NAMES:
        table.caption = f"and {len(named) - MOST_NAMES:,} more (--json lists all)"
    return table


def _percentiles(told: Percentiles) -> tuple[str, ...]:
    return (f"{told.count:,}", *(_duration(seconds) for seconds in (told.p50, told.p90, told.p99)))


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _dollars(usd_micros: int) -> str:
    return f"{usd_micros / 1e6:,.6f}"

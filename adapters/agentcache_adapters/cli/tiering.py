"""`agentcache tiering plan URL…`: which entries should move between tiers, and what that saves."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.table import Table

from agentcache_adapters.cli.console import err, fail, failures, out, plain, print_json
from agentcache_adapters.cli.opening import AsJson, Tenant, Urls, opened, stored_of
from agentcache_core.maintenance import MaintenanceReport
from agentcache_core.policy.freshness import seconds_of
from agentcache_core.policy.placement import CostModel, Policy, Rules
from agentcache_core.store.ledger import digest_of

tiering = typer.Typer(help="Which entries should move between tiers, and what that saves.", no_args_is_help=True)
_SHOWN = 50
_WIDTH = 60


@tiering.callback()
def _group() -> None:
    """Which entries should move between tiers, and what that saves."""


@tiering.command()
def plan(
    urls: Urls,
    tenant: Tenant = "",
    policy: Annotated[Literal["rules", "cost"], typer.Option(help="By hit rate and age, or by price.")] = "rules",
    hot: Annotated[float, typer.Option(min=0, max=1, help="Hot above this hit rate.")] = 0.8,
    cold: Annotated[float, typer.Option(min=0, max=1, help="Cold below this hit rate …")] = 0.1,
    cold_after: Annotated[str, typer.Option(help="… and unread for this long.")] = "30d",
    as_json: AsJson = False,
) -> None:
    """Show every move that maintenance would make, and what it saves in US dollars a month. Changes nothing."""
    with failures():
        chosen: Policy = (
            CostModel() if policy == "cost" else Rules(hot, seconds_of(cold_after, name="cold-after"), cold)
        )
    with opened(urls, tenant=tenant) as cache:
        if len(stored_of(urls)) < 2:
            raise fail("a plan is about moves between stored tiers: name two tiers or more, hottest first")
        report = cache.maintain(dry_run=True, policy=chosen)
    names = list(report.swept)
    if as_json:
        moves = [
            {
                **asdict(move),
                "name": move.name.hex(),
                "key": report.shown.get(move.name),
                "source": names[move.source],
                "target": names[move.target],
            }
            for move in report.plan.moves
        ]
        print_json(
            {
                "items": report.plan.items,
                "moves": moves,
                "saves": report.plan.saves,
                "bytes_moved": report.plan.bytes_moved,
                "trouble": report.trouble,
            }
        )
    else:
        _show(report, names)
    if report.trouble:
        raise typer.Exit(1)


def _shortened(report: MaintenanceReport, name: bytes) -> str:
    """The plain key of an entry or the beginning of its digest, as far as a table has room for it."""
    digest = digest_of(name)
    known = report.shown.get(name, digest)
    return f"{digest[:16]}…" if known == digest else known if len(known) <= _WIDTH else f"{known[: _WIDTH - 1]}…"


def _show(report: MaintenanceReport, names: list[str]) -> None:
    table = Table("entry", "bytes", "from", "to", "because", "saves $/month")
    for move in report.plan.moves[:_SHOWN]:
        table.add_row(
            plain(_shortened(report, move.name)),
            f"{move.size:,}",
            plain(names[move.source]),
            plain(names[move.target]),
            plain(move.reason),
            f"{move.saves:.6f}",
        )
    out.print(table)
    more = len(report.plan.moves) - _SHOWN
    if more > 0:
        out.print(f"… and {more:,} more (all of them with --json)")
    out.print(
        f"{len(report.plan.moves):,} of {report.plan.items:,} entries would move, "
        f"{report.plan.bytes_moved:,} bytes, saving {report.plan.saves:.4f} US dollars a month at list prices"
    )
    for name, trouble in report.trouble.items():
        err.print(plain(f"{name}: {trouble}"))

"""`agentcache sweep URL…`: remove what nobody can be served any more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from agentcache_adapters.cli.console import err, fail, failures, out, plain, print_json
from agentcache_adapters.cli.opening import AsJson, DryRun, Tenant, Urls, opened
from agentcache_core.maintenance import MaintenanceReport
from agentcache_core.policy.freshness import seconds_of

_COLUMNS = ("entries", "expired", "dead", "corrupt", "unreadable", "blobs", "unnamed", "young", "missing")


def sweep(
    urls: Urls,
    tenant: Tenant = "",
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="Sweep every tenant on these tiers.")] = False,
    grace: Annotated[str, typer.Option(help="How long a blob that nothing names is kept.")] = "24h",
    alone: Annotated[bool, typer.Option("--alone", help="No program writes meanwhile: any --grace is safe.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove expired and invalidated entries, blobs that nothing names, and what is damaged. Safe beside users.

    Name every tier of the cache, hottest first: the last one says what was invalidated.
    """
    with failures():
        seconds = seconds_of(grace, name="--grace")
    with opened(urls, tenant=tenant) as cache:
        least = cache.least_grace()
        if seconds < least and not (alone or dry_run):
            raise fail(
                "a tier cannot make a blob young again that is about to be named again, so a sweep beside writers "
                f"needs --grace {least / 3600:g}h or more; say --alone if no program writes meanwhile"
            )
        if all_tenants:
            report = cache.sweep_all(dry_run=dry_run, grace=seconds)
        else:
            report = cache.maintain(dry_run=dry_run, grace=seconds, move=False)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                "tiers": {name: asdict(swept) for name, swept in report.swept.items()},
                "trouble": report.trouble,
            }
        )
    else:
        _show(report)
    if report.trouble:
        raise typer.Exit(1)


def _show(report: MaintenanceReport) -> None:
    title = "Would be removed" if report.dry_run else "Removed"
    table = Table("tier", *_COLUMNS, "bytes freed", title=title, title_justify="left")
    for name, swept in report.swept.items():
        figures = [f"{getattr(swept, column):,}" for column in _COLUMNS]
        table.add_row(plain(name), *figures, f"{swept.freed_bytes:,}")
    out.print(table)
    for name, trouble in report.trouble.items():
        err.print(plain(f"{name}: {trouble}"))
    if any(swept.unreadable for swept in report.swept.values()):
        err.print("Some entries can be read only with another key or version; their blobs were left alone.")

"""`agentcache verify URL…`: read everything back, and tell or mend what is damaged."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from agentcache_adapters.cli.console import err, out, plain, print_json
from agentcache_adapters.cli.opening import AsJson, Tenant, Urls, opened


def verify(
    urls: Urls,
    tenant: Tenant = "",
    repair: Annotated[bool, typer.Option("--repair", help="Remove what is damaged; it becomes a miss.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every entry and every blob of a tenant back and hash it. Exit status 1 when something is damaged."""
    with opened(urls, tenant=tenant) as cache:
        reports = cache.verify(repair=repair)
    if as_json:
        print_json({name: asdict(report) for name, report in reports.items()})
    else:
        table = Table("tier", "entries", "blobs", "bytes read", "damaged", "unreadable", "repaired")
        for name, report in reports.items():
            table.add_row(
                plain(name),
                f"{report.entries:,}",
                f"{report.blobs:,}",
                f"{report.bytes_read:,}",
                f"{report.damaged:,}",
                f"{report.unreadable:,}",
                f"{report.repaired:,}",
            )
        out.print(table)
        for name, report in reports.items():
            for entry, problem in report.problems:
                err.print(plain(f"{name} {entry}: {problem}"))
    if any(report.damaged > report.repaired for report in reports.values()):
        raise typer.Exit(1)

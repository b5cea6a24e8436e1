"""`agentcache doctor URL…`: look stores over, and say what to change."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from agentcache_adapters.cli.console import fail, failures, out, plain, print_json
from agentcache_adapters.cli.opening import AsJson
from agentcache_adapters.doctor import examine
from agentcache_core.urls import parse_url

_SIGNS = {"good": "[green]good[/green]", "mind": "[yellow]mind[/yellow]", "bad": "[red]bad[/red]"}


def doctor(
    urls: Annotated[
        list[str], typer.Argument(help="The stores: redis://…, s3://…, agentcache+https://…", metavar="URL…")
    ],
    namespace: Annotated[str, typer.Option(help="For agentcache+https://, with AGENTCACHE_API_KEY set.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check connection, permissions, latency, clock, version, bounds, durability. Exit status 1 if something is bad."""
    with failures():
        places = {url: parse_url(url).shown for url in urls}
        if any(url.startswith("memory:") for url in urls):
            raise fail("memory:// lives in the program that opened it; there is nothing to look over from outside")
        findings = {places[url]: examine(url, namespace=namespace) for url in urls}
    if as_json:
        print_json({place: [asdict(finding) for finding in found] for place, found in findings.items()})
    else:
        for place, found in findings.items():
            table = Table("check", "state", "what was seen", "what to change", title=plain(place), title_justify="left")
            for finding in found:
                table.add_row(finding.check, _SIGNS[finding.state], plain(finding.said), plain(finding.remedy))
            out.print(table)
    if any(finding.state == "bad" for found in findings.values() for finding in found):
        raise typer.Exit(1)

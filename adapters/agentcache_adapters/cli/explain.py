"""`agentcache explain FILE`: what the exact key of a request is made of."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from agentcache_adapters.cli.console import failures, out, plain, print_json
from agentcache_adapters.cli.requests import read_request
from agentcache_core.keys import explain as explain_request

Tenant = Annotated[str, typer.Option(help="The tenant whose key is asked for.")]
Namespace = Annotated[str, typer.Option(help="The namespace whose key is asked for.")]
Sample = Annotated[int, typer.Option(min=0, help="The index of an independent sample.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def explain(
    file: Annotated[str, typer.Argument(help="A JSON file with one request; - reads standard input.")],
    tenant: Tenant = "",
    namespace: Namespace = "",
    sample: Sample = 0,
    as_json: AsJson = False,
) -> None:
    """Show every part of a request: what counts in its key, what does not, and why."""
    request = read_request(file)
    with failures():
        told = explain_request(request, tenant=tenant, namespace=namespace, sample=sample)
    if as_json:
        print_json(told.to_dict())
        return
    out.print(Text.assemble(("key  ", "bold"), told.digest))
    out.print(plain(f"kind {told.kind}, provider {told.provider}, scheme {told.scheme}, sample {told.sample}"))
    counted = Table("part", "fingerprint", "value", title="Counts in the key", title_justify="left")
    for part in told.counted:
        counted.add_row(plain(part.path or "(itself)"), part.hash or "withheld", plain(part.value))
    out.print(counted)
    if told.excluded:
        title = f"Does not count (deny-list version {told.denylist_version})"
        left_out = Table("part", "rule", "because", title=title, title_justify="left")
        for part in told.excluded:
            left_out.add_row(plain(part.path), plain(part.rule), plain(part.reason))
        out.print(left_out)

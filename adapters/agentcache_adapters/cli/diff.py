"""`agentcache diff A B`: where two requests differ, and whether they have one key all the same."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from agentcache_adapters.cli.console import fail, failures, out, plain, print_json
from agentcache_adapters.cli.explain import AsJson
from agentcache_adapters.cli.requests import read_request
from agentcache_core.keys import KeyBuilder
from agentcache_core.keys import diff as diff_requests

_STYLES = {"added": "green", "removed": "red", "changed": "yellow", "reordered": "yellow", "ignored": "dim"}


def diff(
    a: Annotated[str, typer.Argument(help="A JSON file with one request; - reads standard input.")],
    b: Annotated[str, typer.Argument(help="Another; only one of the two may be -.")],
    as_json: AsJson = False,
) -> None:
    """Show where request B differs from request A, and whether both have the same exact key."""
    if a == b == "-":
        raise fail("standard input holds one request; give the other as a file")
    ours, theirs = read_request(a), read_request(b)
    with failures():
        builder = KeyBuilder()
        same = builder.key(ours) == builder.key(theirs)
        found = diff_requests(ours, theirs)
    if as_json:
        print_json({"same_key": same, "differences": [part.to_dict() for part in found]})
        return
    verdict = "one key: B would be answered from what A stored" if same else "two keys: B would miss what A stored"
    out.print(verdict, style="bold green" if same else "bold red")
    if not found:
        out.print("no differences")
        return
    table = Table("where", "change", "A", "B")
    for part in found:
        change = "does not count" if part.change == "ignored" else part.change
        texts = (plain(part.path or "(the request)"), Text(change, style=_STYLES[part.change]))
        table.add_row(*texts, plain(part.before or ""), plain(part.after or ""))
    out.print(table)

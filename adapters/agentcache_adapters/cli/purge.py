"""`agentcache purge URL…`: make stored answers unservable, by one selector."""

from __future__ import annotations

from typing import Annotated

import typer

from agentcache_adapters.cli.console import fail, out, print_json
from agentcache_adapters.cli.opening import AsJson, Namespace, Tenant, Urls, opened


def purge(
    urls: Urls,
    tenant: Tenant = "",
    namespace: Namespace = "",
    tag: Annotated[str | None, typer.Option(help="Everything with this tag.")] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Every plain key that matches this glob, such as 'user:*'.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Everything made from this source.")] = None,
    key: Annotated[str | None, typer.Option(help="This one plain key.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole namespace.")] = False,
    as_json: AsJson = False,
) -> None:
    """Invalidate by exactly one of --tag, --pattern, --source, --key and --all, and say how many entries that met.

    Name every tier of the cache, hottest first. Space is freed by the next sweep.
    """
    given = {"tag": tag, "pattern": pattern, "source": source, "request": key}
    chosen = {name: value for name, value in given.items() if value is not None}
    if everything:
        chosen["namespace"] = namespace
    if len(chosen) != 1:
        raise fail("purge takes exactly one of --tag, --pattern, --source, --key and --all")
    with opened(urls, tenant=tenant, namespace=namespace, strict=True) as cache:
        count = int(cache.invalidate(**chosen, count=True) or 0)
    if as_json:
        print_json({"invalidated": count})
    else:
        out.print(f"{count:,} {'entry' if count == 1 else 'entries'} invalidated")

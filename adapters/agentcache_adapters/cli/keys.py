"""`agentcache keys URL…`: the plain keys that are stored."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

from agentcache_adapters.cli.console import out, plain, print_json
from agentcache_adapters.cli.opening import AsJson, Namespace, Tenant, Urls, opened


def keys(
    urls: Urls,
    tenant: Tenant = "",
    namespace: Namespace = "",
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    pattern: Annotated[str, typer.Option(help="Only keys that match this glob.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the live plain keys of a namespace, one a line, in order. Requests have no plain key and are not listed."""
    with opened(urls, tenant=tenant, namespace=namespace) as cache:
        found = sorted(key for key in cache.keys(prefix) if fnmatchcase(key, pattern))
    if as_json:
        print_json(found)
    else:
        for key in found:
            out.print(plain(key))

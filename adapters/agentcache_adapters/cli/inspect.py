"""`agentcache inspect URL… --key KEY`: one stored answer and all that is known about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from agentcache_adapters.cli.console import fail, out, plain, print_json
from agentcache_adapters.cli.opening import AsJson, Namespace, Tenant, Urls, opened
from agentcache_adapters.cli.requests import read_request
from agentcache_core.model import Hit

_PREVIEW = 2000


def inspect(
    urls: Urls,
    tenant: Tenant = "",
    namespace: Namespace = "",
    key: Annotated[str | None, typer.Option(help="A plain key.")] = None,
    request: Annotated[str | None, typer.Option(help="A JSON file with a request; - reads standard input.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the answer stored for a key or a request: where it is, how old, how long it lasts, its tags, its value.

    Exit status 1 when nothing that may be served is stored.
    """
    if (key is None) == (request is None):
        raise fail("inspect takes exactly one of --key and --request")
    asked: Any = key if request is None else read_request(request)
    with opened(urls, tenant=tenant, namespace=namespace) as cache:
        exact = cache.key(asked)
        hit = cache.lookup(asked)
    if as_json:
        print_json({"key": exact.digest.hex(), "kind": exact.kind, "stored": hit is not None, **_told(hit)})
    else:
        table = Table("", "", show_header=False)
        table.add_row("key", exact.digest.hex())
        table.add_row("kind", exact.kind)
        for name, value in _told(hit).items():
            table.add_row(name, plain(str(value)[:_PREVIEW]))
        out.print(table if hit is not None else plain(f"{exact.digest.hex()}: nothing that may be served is stored"))
    if hit is None:
        raise typer.Exit(1)


def _told(hit: Hit | None) -> dict[str, Any]:
    if hit is None:
        return {}
    return {
        "tier": hit.tier,
        "age_seconds": round(hit.age, 3),
        "seconds_left": None if hit.ttl is None else round(hit.ttl, 3),
        "freshness": hit.freshness.value,
        "tags": list(hit.tags),
        "cost": asdict(hit.saved),
        "type": type(hit.value).__name__,
        "value": _plain_value(hit.value),
    }


def _plain_value(value: Any) -> Any:
    """The value as JSON can say it; anything else as Python spells it."""
    if isinstance(value, dict):
        return {name: _plain_value(item) for name, item in value.items()}
    if type(value) is list:
        return [_plain_value(item) for item in value]
    if value is None or isinstance(value, bool | float | str):
        return value
    if type(value) is int and -(2**53) < value < 2**53:
        return value
    return repr(value)

"""The cache a command works on: URLs from the command line, secrets only from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from agentcache_adapters.absent import absent
from agentcache_adapters.cli.console import fail, failures
from agentcache_core import Cache
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.errors import ConfigurationError

SECRET = "AGENTCACHE_SECRET"  # noqa: S105 - the name of a variable
KEYRING = "AGENTCACHE_KEYRING"

Urls = Annotated[
    list[str], typer.Argument(help="Every tier of the cache, hottest first: redis://…, s3://…", metavar="URL…")
]
Url = Annotated[str, typer.Argument(help="Where the cache lies: sqlite:///agent.db, redis://…", metavar="URL")]
Tenant = Annotated[str, typer.Option(help="The tenant; without it that of caches which name none.")]
Namespace = Annotated[str, typer.Option(help="The namespace; without it that of caches which name none.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be done.")]


@contextmanager
def opened(urls: list[str], *, tenant: str = "", namespace: str = "", **options: Any) -> Iterator[Cache]:
    """The cache on these URLs, closed afterwards. The secret and the keyring come from `AGENTCACHE_SECRET` and
    `AGENTCACHE_KEYRING` (`number:hex,number:hex`), so that neither is seen in the list of processes."""
    stored = stored_of(urls)
    if not stored:
        raise fail("memory:// holds nothing that another program could see; name the URL of a stored tier")
    for url in stored:
        must_exist(url)
    with failures():
        cache = Cache(
            stored,
            tenant=tenant,
            namespace=namespace,
            secret=os.environ.get(SECRET) or None,
            keyring=keyring_from(os.environ.get(KEYRING, "")),
            background=False,
            maintenance="manual",
            deadline="60s",
            **options,
        )
    cache.uncounted()
    with cache, failures():
        yield cache


def stored_of(urls: list[str]) -> list[str]:
    """The tiers that other programs can see."""
    return [url for url in urls if not url.startswith("memory:")]


def must_exist(url: str) -> None:
    """A mistyped path must not become an empty store."""
    with failures():
        missing = absent(url)
    if missing:
        raise fail(missing)


def keyring_from(text: str) -> Keyring | None:
    """The keyring in `number:hex,number:hex`; None when the text is empty. Never repeats the text in an error."""
    if not text:
        return None
    try:
        pairs = [pair.split(":", 1) for pair in text.split(",")]
        return Keyring({int(number): bytes.fromhex(key) for number, key in pairs})
    except ValueError as problem:
        if isinstance(problem, ConfigurationError):
            raise
        raise ConfigurationError(
            f"{KEYRING} must be number:hex,number:hex with keys of 64 hexadecimal digits"
        ) from None

"""What an S3 store tells only when it is tried: who sends the requests, and whether it spares what is newer."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from agentcache_adapters.finding import Finding
from agentcache_backends.filesystem.s3 import S3Backend
from agentcache_backends.filesystem.s3.connection import installed
from agentcache_core.errors import AgentCacheError

_PREFIX = b"agentcache-doctor/"


def told_by_s3(backend: S3Backend) -> Iterator[Finding]:
    """The findings about the client, and about deletes of a version that has been replaced."""
    connection = backend.connection
    if connection.client == "obstore":
        yield Finding("client", "good", "obstore")
    elif connection.settings.client == "s3fs":
        yield Finding("client", "good", "s3fs, as the URL asks")
    else:
        remedy = "" if installed() else "pip install 'agentcache[obstore]'"
        yield Finding("client", "mind", f"s3fs, several times slower: {connection.without_obstore}", remedy)
    name = _PREFIX + secrets.token_hex(8).encode()
    try:
        spares = backend.spares_newer(name)
        backend.delete(name)
    except AgentCacheError as error:
        yield Finding("conditional deletes", "bad", str(error), "give the account the right to delete")
        return
    if spares:
        yield Finding("conditional deletes", "good", "enforced")
    else:
        yield Finding(
            "conditional deletes",
            "mind",
            "not enforced by this store: a value written in the very moment of a sweep may be removed with the old one",
            "it is a miss, no wrong answer; sweep when little is written",
        )

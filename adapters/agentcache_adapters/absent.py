"""Whether a URL names a place on this machine where nothing lies: opening it would make an empty store there."""

from __future__ import annotations

import os

from agentcache_core.urls import parse_url


def absent(url: str) -> str:
    """What is missing, "" when the store is there or lies elsewhere. Raises `ConfigurationError` for what is no URL."""
    place = parse_url(url)
    database = place.path.removeprefix("/")
    if place.scheme == "sqlite" and database and not os.path.exists(database):
        return f"there is no database {database}"
    local = place.scheme == "file" or (place.scheme, place.host) in (("fsspec", "file"), ("fsspec", "local"))
    if local and place.path and not os.path.isdir(place.path):
        return f"there is no store in {place.path}: no such folder"
    return ""

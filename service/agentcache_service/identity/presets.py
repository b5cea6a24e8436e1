"""Sector and node presets: data files, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from agentcache_service.errors import Unprocessable

_CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Room:
    """A namespace a sector begins with."""

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sector:
    """What an organization of one sector is given at sign-up."""

    key: str
    title: str
    description: str
    namespaces: tuple[Room, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A named, versioned preset of engine features."""

    key: str
    version: int
    title: str
    description: str
    settings: Mapping[str, Any]


@cache
def sectors() -> Mapping[str, Sector]:
    """Every sector by its key."""
    found = {}
    for file in resources.files("agentcache_service.identity").joinpath("sectors").iterdir():
        if file.name.endswith(".toml"):
            table = tomllib.loads(file.read_text("utf-8"))
            rooms = tuple(Room(room["name"], tuple(room["nodes"])) for room in table["namespaces"])
            key = file.name.removesuffix(".toml")
            found[key] = Sector(key, table["title"], table["description"], rooms)
    return dict(sorted(found.items()))


@cache
def nodes() -> Mapping[str, Node]:
    """Every node preset by its key."""
    text = resources.files("agentcache_service.identity").joinpath("nodes.toml").read_text("utf-8")
    return {
        key: Node(key, table["version"], table["title"], table["description"], table["settings"])
        for key, table in tomllib.loads(text).items()
    }


@cache
def _known_settings() -> Mapping[str, type | tuple[type, ...]]:
    return {
        "ttl_s": int,
        "semantic": (bool, float),
        "assets": bool,
        "deduplicate": bool,
        "listen": bool,
        "inline_max_bytes": int,
        "stale_while_revalidate_s": int,
    }


def _is_setting(name: str, value: object) -> bool:
    kind = _known_settings().get(name)
    if kind is None or not isinstance(value, kind):
        return False
    return kind is not int or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def as_stored(preset: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The form a namespace keeps: preset name, its version now, and the settings that differ from it."""
    node = nodes().get(preset)
    if node is None and preset != _CUSTOM:
        raise Unprocessable(f"Unknown node {preset!r}; known are {[*nodes(), _CUSTOM]}.", code="node_unknown")
    for name, value in (settings or {}).items():
        if not _is_setting(name, value):
            raise Unprocessable(
                f"The node setting {name!r} is unknown or has a wrong value; known are {sorted(_known_settings())}.",
                code="node_setting",
            )
    return {"preset": preset, "version": node.version if node else 1, "settings": dict(settings or {})}


def effective(stored: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings a namespace's nodes amount to: later nodes win, a namespace's own settings win over presets."""
    result: dict[str, Any] = {}
    for entry in stored:
        node = nodes().get(entry["preset"])
        result.update(node.settings if node else {})
    for entry in stored:
        result.update(entry.get("settings") or {})
    return result

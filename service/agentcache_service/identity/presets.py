"""Sector and node presets: data files, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from agentcache_service.errors import Unprocessable

CUSTOM = "custom"


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


_TEN_YEARS = 315_360_000
_BOUNDS: Mapping[str, tuple[int, int]] = {"ttl_s": (1, _TEN_YEARS), "stale_while_revalidate_s": (0, _TEN_YEARS)}
_SETTINGS = sorted({*_BOUNDS, "assets", "semantic"})


def _is_setting(name: str, value: object) -> bool:
    """Whole numbers within their bounds, a switch, and for `semantic` a switch or a similarity from 0.5."""
    if name == "assets":
        return isinstance(value, bool)
    if name == "semantic":
        return isinstance(value, bool) or (isinstance(value, int | float) and 0.5 <= value <= 1)
    low, high = _BOUNDS.get(name, (1, 0))
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def as_stored(preset: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The form a namespace keeps: the preset, its version and what it says now, and settings that differ from it.

    What the preset says is kept with it, so that a later version changes no namespace until its nodes are chosen anew.
    """
    node = nodes().get(preset)
    if node is None and preset != CUSTOM:
        raise Unprocessable(f"Unknown node {preset!r}; known are {[*nodes(), CUSTOM]}.", code="node_unknown")
    for name, value in (settings or {}).items():
        if not _is_setting(name, value):
            raise Unprocessable(
                f"The node setting {name!r} is unknown or its value is not acceptable; known are {_SETTINGS}.",
                code="node_setting",
            )
    return {
        "preset": preset,
        "version": node.version if node else 1,
        "base": dict(node.settings) if node else {},
        "settings": dict(settings or {}),
    }


def chosen_anew(
    stored: Sequence[Mapping[str, Any]], preset: str, settings: Mapping[str, Any] | None, version: int | None
) -> dict[str, Any]:
    """The form of a node that a namespace is given, where `stored` is what it has.

    A preset it has already keeps its version; `version` names the newest to move to it. Raises `Unprocessable`.
    """
    newest = as_stored(preset, settings)
    known = next((entry for entry in stored if entry["preset"] == preset), newest)
    if version in (None, known["version"]):
        return {**newest, "version": known["version"], "base": known.get("base", newest["base"])}
    if version != newest["version"]:
        raise Unprocessable(
            f"The node {preset!r} can have version {known['version']} or {newest['version']}.", code="node_version"
        )
    return newest


def newest_version(preset: str) -> int:
    """The version a namespace that chooses this preset today is given."""
    node = nodes().get(preset)
    return node.version if node else 1


def effective(stored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings a namespace's nodes amount to: the first node that says something decides, the namespace's own
    settings win over every preset. What an older version said and nothing heeds any longer is left out."""
    result: dict[str, Any] = {}
    for entry in stored:
        node = nodes().get(entry["preset"])
        said = entry.get("base", node.settings if node else {})
        result = {**said, **result}
    for entry in stored:
        result.update(entry.get("settings") or {})
    return {name: value for name, value in result.items() if name in _SETTINGS}

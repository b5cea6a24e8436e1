"""The four templates agents start from, and making a new agent of one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

NAME_MARK = "__AGENT_NAME__"
_NAME = re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]\Z")


class TemplateError(ValueError):
    """A template or a name that does not fit; the message says what does."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template: its name, one line about it, and its files by path."""

    name: str
    about: str
    files: Mapping[str, str]


_ABOUT = {
    "basic-agent": "One Python program with a cached model call and a deployment file.",
    "web-agent": "A backend that answers through the cache, a page in front of it, and a compose file.",
    "mobile-agent": "An iOS and an Android client over one shared contract.",
    "enterprise-agent": "Two services, Kubernetes manifests and monitoring.",
}
NAMES = tuple(_ABOUT)


def template(name: str) -> Template:
    """One template; `TemplateError` names the ones there are."""
    if name not in _ABOUT:
        raise TemplateError(f"there is no template {name!r}; choose one of {', '.join(NAMES)}")
    root = resources.files("agentcache_adapters.agents") / "templates" / name
    return Template(name, _ABOUT[name], dict(sorted(_read(root, ""))))


def every_template() -> list[Template]:
    """All templates."""
    return [template(name) for name in NAMES]


def new_agent(name: str, folder: Path, *, of: str = "basic-agent") -> list[Path]:
    """Write a new agent into `folder / name` and return its files; refuses to touch a folder that exists."""
    if not _NAME.match(name):
        raise TemplateError("a name has 3 to 40 lower-case letters, digits and dashes, such as ticket-triage")
    chosen = template(of)
    home = folder / name
    if home.exists():
        raise TemplateError(f"{home} exists already")
    written = []
    for path, text in chosen.files.items():
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(NAME_MARK, name), "utf-8")
        written.append(target)
    return written


def _read(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for item in folder.iterdir():
        if item.name == "__pycache__":
            continue
        if item.is_dir():
            found += _read(item, f"{prefix}{item.name}/")
        else:
            found.append((f"{prefix}{item.name.removesuffix('.txtpl')}", item.read_text("utf-8")))
    return found

"""The templates of agents, as the marketplace shows them; the files themselves come with the command line."""

from __future__ import annotations

from typing import Any

from agentcache_adapters.agents.templates import every_template


def described() -> list[dict[str, Any]]:
    """Every template: its name, what it is, its files with their text, and the command that starts from it."""
    return [
        {
            "name": template.name,
            "about": template.about,
            "files": dict(template.files),
            "command": f"agentcache agents new my-agent --template {template.name}",
        }
        for template in every_template()
    ]

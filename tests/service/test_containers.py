"""Dockerfile, compose file and guide, checked without a container engine: settings exist, nothing runs as root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from agentcache_service.settings import Settings

ROOT = Path(__file__).parents[2]
KNOWN = {f"AGENTCACHE_SERVICE_{name.upper()}" for name in Settings.model_fields}


def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return loaded


def test_every_setting_that_is_named_exists() -> None:
    for file in ("Dockerfile", "compose.yaml", "docs/how-to/self-host.md"):
        named = set(re.findall(r"AGENTCACHE_SERVICE_[A-Z_]+[A-Z]", (ROOT / file).read_text()))
        assert named
        assert named - KNOWN == set(), file
    table = re.findall(r"^\| `([A-Z_`, ]+)` \|", (ROOT / "docs/how-to/self-host.md").read_text(), re.M)
    names = {f"AGENTCACHE_SERVICE_{name}" for cell in table for name in re.findall(r"[A-Z_]+", cell)}
    assert len(names) > 15
    assert names - KNOWN == set()


def test_the_image_does_not_run_as_root_and_holds_no_secret() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "USER agentcache" in lines
    assert lines.index("USER agentcache") < lines.index('CMD ["agentcache-service", "serve"]')
    assert not re.search(r"(PASSWORD|SECRET|MASTER_KEY|TOKEN)\s*=", "\n".join(lines))
    copied = {part for line in lines if line.startswith("COPY") and "--from" not in line for part in line.split()[1:-1]}
    assert all((ROOT / part).exists() for part in copied)


def test_the_services_depend_on_what_there_is_and_secrets_come_from_outside() -> None:
    services = _compose()["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|MASTER_KEY|SECRET", name):
                assert str(value).startswith("${"), name
    volumes = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert volumes == set(_compose()["volumes"])
    assert services["web"]["ports"] == ["127.0.0.1:8080:8080"]

"""Dockerfile, compose file and guide, checked without a container engine: settings exist, nothing runs as root."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from agentcache_service import check, cli, operations_routes
from agentcache_service.crypto import load_vault
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


def test_the_image_installs_extras_that_exist_and_is_asked_for_its_health_where_it_answers() -> None:
    text = (ROOT / "Dockerfile").read_text()
    extras = re.search(r"ARG EXTRAS=(\S+)", text)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras is not None
    assert set(extras[1].split(",")) <= set(known)
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", text[text.index("HEALTHCHECK") :])
    assert asked is not None
    assert f"AGENTCACHE_SERVICE_PORT={asked[1]}" in text
    assert f"EXPOSE {asked[1]}" in text
    assert asked[2] in {route.path for route in operations_routes.router.routes if isinstance(route, APIRoute)}


def test_a_worker_has_no_server_to_be_asked_and_every_command_exists() -> None:
    services = _compose()["services"]
    assert services["worker"]["healthcheck"] == {"disable": True}
    assert "healthcheck" not in services["web"]  # the image's own
    for name in ("postgres", "redis"):
        assert services[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    commands = {command.name or getattr(command.callback, "__name__", "") for command in cli.app.registered_commands}
    assert services["worker"]["command"] == ["agentcache-service", "worker"]
    assert {"worker", "serve", "check"} <= commands


@pytest.mark.parametrize("name", ["web", "worker"])
def test_the_composed_settings_are_good_and_leave_nothing_to_one_machine(name: str) -> None:
    fixed = dict(re.findall(r"AGENTCACHE_SERVICE_(\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    given = _compose()["services"][name]["environment"]
    filled = {key: re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", _filled, text) for key, text in given.items()}
    ours = {key.removeprefix("AGENTCACHE_SERVICE_"): text for key, text in filled.items() if key in KNOWN}
    settings = Settings(**{key.lower(): text for key, text in (fixed | ours).items()})  # type: ignore[arg-type]
    told = {(finding.level, finding.setting) for finding in check.of_settings(settings)}
    # what an operator must still bring: a real address with its metrics token, mails, payments
    assert told <= {("warning", item) for item in ("PUBLIC_URL", "METRICS_TOKEN", "MAIL_TRANSPORT", "PAYMENTS")}
    load_vault(settings)


def _filled(variable: re.Match[str]) -> str:
    """A value for a variable: its default, or something of its kind."""
    if variable[1] == "AGENTCACHE_MASTER_KEY":
        return "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    return variable[2] if variable[0].startswith("${" + variable[1] + ":-") else variable[1].lower().replace("_", "-")


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

"""`agentcache-service check`: a stranger is told what settings lack, and what of it would break something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from service_conftest import make_service, make_settings
from typer.testing import CliRunner

from agentcache_core.testing.servers import free_port
from agentcache_service import check, cli, jobs, schema
from agentcache_service.clock import FixedClock
from agentcache_service.db import Database

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SPREAD = {"database_url": "postgresql://u:p@db/agentcache", "rate_limits": True}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rate_limits": True}, set()),
        ({}, {("warning", "RATE_LIMITS")}),
        ({"workers": 2, "rate_limits": True}, {("problem", "REDIS_URL")}),
        ({"workers": 2, "rate_limits": True, "redis_url": "redis://r/1"}, set()),
        (
            SPREAD,
            {
                ("warning", "REDIS_URL"),
                ("problem", "MASTER_KEY"),
                ("warning", "CACHE_TIERS"),
                ("warning", "FILES_URL"),
                ("warning", "PAYMENTS"),
            },
        ),
        (
            SPREAD
            | {
                "redis_url": "redis://r/1",
                "master_key": KEY,
                "cache_tiers": "redis://r/0,s3://b/c",
                "files_url": "s3://b/f",
            },
            {("warning", "PAYMENTS")},
        ),
        (
            {"host": "0.0.0.0", "public_url": "http://0.0.0.0:8080", "rate_limits": True},
            {("warning", "PUBLIC_URL"), ("warning", "METRICS_TOKEN"), ("warning", "MAIL_TRANSPORT")},
        ),
        ({"public_url": "http://cache.example.com", "rate_limits": True}, {("warning", "PUBLIC_URL")}),
    ],
)
def test_what_settings_lack_is_told(tmp_path: Path, settings: dict[str, Any], told: set[tuple[str, str]]) -> None:
    chosen = make_settings(tmp_path, **{"public_url": "http://127.0.0.1:8080", **settings})
    assert {(finding.level, finding.setting) for finding in check.of_settings(chosen)} == told


def test_stores_that_do_not_answer_are_told_without_their_passwords(tmp_path: Path, clock: FixedClock) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    settings = make_settings(
        tmp_path,
        database_url=f"postgresql://u:geheim@{nowhere}/x",
        cache_tiers=[f"redis://:geheim@{nowhere}/0"],
        redis_url=f"redis://:geheim@{nowhere}/1",
        files_url="nonsense://x",
    )
    findings = {finding.setting: finding for finding in check.run(settings, clock) if finding.level == "problem"}
    assert {"DATABASE_URL", "CACHE_TIERS", "REDIS_URL", "FILES_URL"} <= set(findings)
    assert "geheim" not in " ".join(map(str, findings.values()))


def test_an_old_schema_and_jobs_that_nobody_does_are_told(tmp_path: Path, clock: FixedClock) -> None:
    settings = make_settings(tmp_path)
    fresh = {finding.setting: finding for finding in check.run(settings, clock)}
    assert "made at the first start" in fresh["DATABASE_URL"].text
    assert not (tmp_path / "service.db").exists()
    database = Database(settings.database_url)
    schema.upgrade(database, "core_0001")
    assert "schema is old" in next(check._database(settings, clock)).text
    database.close()
    service = make_service(settings, clock)
    with service.db.write() as session:
        jobs.enqueue(session, clock, "nobody.does.this")
    service.close()
    assert {finding.level for finding in check._database(settings, clock)} == {"ok"}
    clock.advance(minutes=6)
    assert ("problem", "WORKER_IN_PROCESS") in {
        (finding.level, finding.setting) for finding in check._database(settings, clock)
    }


def test_the_command_exits_with_one_where_something_would_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCACHE_SERVICE_DATA_DIR", str(tmp_path))
    good = CliRunner().invoke(cli.app, ["check"])
    assert (good.exit_code, "problem" in good.output) == (0, False)
    monkeypatch.setenv("AGENTCACHE_SERVICE_WORKERS", "2")
    bad = CliRunner().invoke(cli.app, ["check"])
    assert (bad.exit_code, "problem  REDIS_URL" in bad.output) == (1, True)


def test_a_wrong_setting_is_told_by_its_name_and_not_by_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCACHE_SERVICE_PORT", "eighty")
    told = CliRunner().invoke(cli.app, ["serve"])
    assert told.exit_code == 1
    assert "AGENTCACHE_SERVICE_PORT: Input should be a valid integer" in told.output

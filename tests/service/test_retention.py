"""What an installation keeps: nothing longer than it serves, and no file that others may read."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import service_world as world
from service_conftest import make_service, make_settings
from service_stand import Stand, stand_in
from sqlalchemy import select
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.areas import REPEATED
from agentcache_service.cacheapi.tables import AssetRecord
from agentcache_service.clock import FixedClock
from agentcache_service.identity import mailed_tokens
from agentcache_service.identity.tables import LoginSession, OneTimeToken, User
from agentcache_service.jobs import every_minute
from agentcache_service.jobs_tables import Job
from agentcache_service.mail import queue_mail


@pytest.fixture
def stand(tmp_path: Any) -> Iterator[Stand]:
    with stand_in(tmp_path) as built:
        yield built


def test_what_has_served_its_purpose_is_let_go(stand: Stand) -> None:
    service = stand.service
    stand.api.post("/api/assets?key=short&ttl=60", content=b"x")
    stand.api.post("/api/assets?key=kept", content=b"y")
    browser = stand.browser()
    with service.db.write() as session:
        token = mailed_tokens.issue(service, session, stand.user_id, purpose="verify", life=dt.timedelta(days=3))
        queue_mail(
            session,
            stand.clock,
            service.vault,
            to="a@example.com",
            template="verify",
            context={"user": session.get_one(User, stand.user_id), "url": token},
        )
    stand.turn()

    def rows(table: Any) -> list[Any]:
        with service.db.read() as session:
            return list(session.scalars(select(table)))

    (mail,) = [job for job in rows(Job) if job.kind == "mail.send"]
    assert (mail.state, mail.payload) == ("done", {})  # nothing sealed is kept of a mail that was sent
    for _ in range(3):
        stand.turn(hours=1)
    minutely = {item.kind for item in REPEATED if item.slot is every_minute}
    kept = {job.kind for job in rows(Job) if job.state == "done"}
    assert len([job for job in rows(Job) if job.kind in minutely]) <= 2 * len(minutely)
    assert "mail.send" in kept
    assert [row.cache_key for row in rows(AssetRecord)] == ["kept"]
    for _ in range(60):
        stand.turn(days=1)
    assert rows(OneTimeToken) == []
    assert rows(LoginSession) == []
    assert browser.get("/api/account/me").status_code == 401
    assert len(rows(Job)) < 200
    assert [row.cache_key for row in rows(AssetRecord)] == ["kept"]


def test_files_of_an_installation_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "shared").mkdir(mode=0o777)
        service = make_service(make_settings(tmp_path / "shared"), FixedClock())
        user = world.make_user(service, "ada")
        key = world.make_key(service, world.make_org(service, user), user)
        with TestClient(build_app(service=service), headers=dict(key.headers)) as api:
            api.post("/api/cache/set", json={"key": "k", "value": "x" * 100_000})
            files = [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
            assert {"service.db", "service.db-wal", "payments.db", "cache.db"} <= {path.name for path in files}
            assert [path.name for path in files if path.stat().st_mode & 0o077] == []
        service.close()
    finally:
        os.umask(before)

"""The dashboard's live figures: they come while somebody is signed in, and end when the session does."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest
import service_world as world
from service_conftest import LiveServer

from agentcache_service.identity import sessions
from agentcache_service.identity.tables import Membership
from agentcache_service.service import Service
from agentcache_service.web import dashboard_pages


def _log_out(service: Service, url: str, caller: world.Caller) -> None:
    answer = httpx2.post(f"{url}/api/account/logout", headers=dict(caller.headers), timeout=60)
    assert answer.status_code == 200


def _revoke(service: Service, url: str, caller: world.Caller) -> None:
    with service.db.write() as session:
        sessions.revoke_all(session, service, user_id=caller.user_id or "")


def _leave(service: Service, url: str, caller: world.Caller) -> None:
    with service.db.write() as session:
        session.query(Membership).filter(Membership.user_id == caller.user_id).delete()


@pytest.mark.parametrize("end", [_log_out, _revoke, _leave])
def test_live_figures_end_with_the_session(
    live: LiveServer,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[Service, str, world.Caller], None],
) -> None:
    monkeypatch.setattr(dashboard_pages, "LIVE_EVERY_S", 0.02)
    monkeypatch.setattr(dashboard_pages, "LIVE_FOR_S", 1e9)
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    caller = world.sign_in(service, user)
    with httpx2.stream("GET", f"{live.url}/dashboard/live", headers=dict(caller.headers), timeout=60) as stream:
        assert stream.status_code == 200
        lines = stream.iter_lines()
        while not next(lines).startswith("event: figures"):
            pass
        end(service, live.url, caller)
        for _line in lines:  # without an end this would go on for ever
            pass

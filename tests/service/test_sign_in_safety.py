"""Signing in, attacked: what ASVS 5.0 asks of authentication, sessions and their records, item by item.

Named after the items: 6.2 passwords, 6.3 logins, 6.4 resets, 6.5 second factors, 7 sessions, 16 the log. Access to
objects (8) is the access matrix; silence about addresses is `test_timing_is_silent`.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyotp
import pytest
import service_world as world
import structlog
from service_conftest import make_service, make_settings
from sqlalchemy import select
from starlette.testclient import TestClient

from agentcache_service.app import build_app
from agentcache_service.audit_tables import AuditEvent
from agentcache_service.clock import FixedClock
from agentcache_service.errors import ServiceError
from agentcache_service.identity import accounts, mailed_tokens, second_factor
from agentcache_service.identity.tables import LoginSession, OneTimeToken, User
from agentcache_service.logs import configure_logs
from agentcache_service.service import Service

NEW = "an entirely new phrase"


def _login(http: TestClient, name: str, password: str = world.PASSWORD) -> Any:
    http.cookies.clear()
    answer = http.post("/api/account/login", json={"login": name, "password": password})
    if answer.status_code == 200:
        http.headers["x-csrf-token"] = answer.json()["csrf_token"]
    return answer


def _enrol(service: Service, http: TestClient, clock: FixedClock) -> pyotp.TOTP:
    totp = pyotp.TOTP(http.post("/api/account/second-factor").json()["secret"])
    done = http.post("/api/account/second-factor/confirm", json={"code": totp.at(clock.now())})
    http.headers["x-csrf-token"] = done.json()["csrf_token"]
    return totp


def _reset_token(service: Service, user_id: str) -> str:
    with service.db.write() as session:
        return mailed_tokens.issue(service, session, user_id, purpose="reset", life=accounts.RESET_LIFE)


# 6.3 logins


def test_6_3_a_locked_name_says_the_same_whether_it_exists_and_others_are_not_locked(
    client: TestClient, service: Service
) -> None:
    for name in ("ada", "bob"):
        world.make_user(service, name)
    service.limiter._enabled = True
    told = {}
    for name in ("ada", "nobody-at-all"):
        answers = [_login(client, name, "not it at all") for _ in range(11)]
        told[name] = [(answer.status_code, answer.json()["error"]) for answer in answers]
    assert told["ada"] == told["nobody-at-all"] == [(401, "login_failed")] * 10 + [(429, "rate_limited")]
    assert _login(client, "ada").status_code == 429, "the right password does not open a locked account either"
    assert _login(client, "bob").status_code == 200


def test_6_3_there_is_no_account_until_somebody_makes_one(service: Service) -> None:
    with service.db.read() as session:
        assert session.scalars(select(User)).all() == []


# 6.4 resets


def test_6_4_of_two_that_use_one_reset_link_at_once_one_wins(any_service: Service) -> None:
    service = any_service
    token = _reset_token(service, world.make_user(service, "ada"))

    def use(number: int) -> str:
        try:
            accounts.reset_password(service, token=token, password=f"{NEW} {number}")
        except ServiceError as refused:
            return refused.code
        return "set"

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(use, range(6)))
    assert sorted(outcomes) == ["set", *["token_invalid"] * 5]


def test_6_4_an_older_reset_link_dies_with_the_one_that_was_used(client: TestClient, service: Service) -> None:
    user = world.make_user(service, "ada")
    older, newer = _reset_token(service, user), _reset_token(service, user)
    for token, status in ((newer, 200), (older, 422)):
        answer = client.post("/api/account/reset-password", json={"token": token, "password": NEW})
        assert answer.status_code == status
    with service.db.read() as session:
        assert all(len(row.digest) == 64 for row in session.scalars(select(OneTimeToken)))


def test_6_4_a_reset_does_not_lead_around_the_second_factor(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    _login(client, "ada")
    _enrol(service, client, clock)
    client.post("/api/account/reset-password", json={"token": _reset_token(service, user), "password": NEW})
    assert _login(client, "ada", NEW).json()["second_factor_required"]
    assert client.get("/api/account/me").json()["error"] == "second_factor_required"


# 6.5 second factors


def test_6_5_guessing_codes_is_limited_and_a_code_is_used_up_by_its_first_use(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    world.make_org(service, world.make_user(service, "ada"))
    _login(client, "ada")
    totp = _enrol(service, client, clock)
    _login(client, "ada")
    service.limiter._enabled = True
    path = "/api/account/second-factor/give"
    statuses = [client.post(path, json={"code": f"{number:06d}"}).status_code for number in range(9)]
    assert statuses == [403] * 8 + [429]
    clock.advance(seconds=30)
    assert client.post(path, json={"code": totp.at(clock.now())}).status_code == 429


def test_6_5_a_secret_stays_the_same_until_its_first_code_was_right(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    world.make_org(service, world.make_user(service, "ada"))
    _login(client, "ada")
    first = client.post("/api/account/second-factor").json()["secret"]
    form = {"code": "000000", "csrf_token": client.headers["x-csrf-token"]}
    again = client.post("/second-factor/confirm", data=form)
    assert again.status_code == 403
    assert first in again.text
    assert "wrong" in again.text
    form["code"] = pyotp.TOTP(first).at(clock.now())
    assert "recovery codes" in client.post("/second-factor/confirm", data=form).text


def test_6_5_a_platform_admin_lands_on_the_platforms_page_and_reaches_the_settings(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    world.make_user(service, "root", role="admin")
    form = {"login": "root", "password": world.PASSWORD}
    assert client.post("/login", data=form).headers["location"] == "/second-factor"
    secret = re.search(r"<code>([A-Z2-7]{32})</code>", client.get("/second-factor").text)
    assert secret is not None
    token = re.search(r'name="csrf_token" value="(\w+)"', client.get("/second-factor").text)
    assert token is not None
    code = pyotp.TOTP(secret[1]).at(clock.now())
    done = client.post("/second-factor/confirm", data={"code": code, "csrf_token": token[1]})
    assert 'href="/admin"' in done.text
    for path in ("/admin", "/dashboard/settings"):
        page = client.get(path)
        assert page.status_code == 200, path
        assert "Platform admin" in page.text
        assert 'href="/dashboard/keys"' not in page.text


def test_6_5_recovery_codes_are_kept_as_digests_and_counted(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    _login(client, "ada")
    _enrol(service, client, clock)
    with service.db.read() as session:
        assert second_factor.codes_left(session, user) == second_factor.RECOVERY_CODES


# 7 sessions


def test_7_sessions_end_by_time_by_logout_and_by_a_new_password(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    _login(client, "ada")
    cookie = client.cookies["agentcache"]
    assert client.post("/api/account/logout").status_code == 200
    client.cookies.set("agentcache", cookie)
    assert client.get("/api/account/me").status_code == 401
    _login(client, "ada")
    clock.advance(days=service.settings.session_days, seconds=-1)
    assert client.get("/api/account/me").status_code == 200
    clock.advance(seconds=1)
    assert client.get("/api/account/me").status_code == 401
    others = [world.sign_in(service, user) for _ in range(3)]
    body = {"token": _reset_token(service, user), "password": NEW}
    assert client.post("/api/account/reset-password", json=body).status_code == 200
    for other in others:
        assert client.get("/api/account/me", headers=dict(other.headers)).status_code == 401


def test_7_a_token_and_its_csrf_token_are_of_no_use_after_the_session_has_got_new_ones(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    world.make_org(service, world.make_user(service, "ada"))
    _login(client, "ada")
    old_cookie, old_csrf = client.cookies["agentcache"], client.headers["x-csrf-token"]
    _enrol(service, client, clock)
    assert client.get("/api/account/me").status_code == 200
    client.headers["x-csrf-token"] = old_csrf
    assert client.patch("/api/account/me", json={"first_name": "Eve"}).json()["error"] == "csrf"
    client.cookies.clear()
    client.cookies.set("agentcache", old_cookie)
    assert client.get("/api/account/me").status_code == 401


@pytest.mark.parametrize(
    ("public_url", "name", "is_secure"),
    [("https://cache.example", "__Host-agentcache", True), ("http://testserver", "agentcache", False)],
)
def test_7_the_cookie_is_out_of_reach_of_scripts_of_other_sites_and_of_the_clear(
    tmp_path: Path, clock: FixedClock, public_url: str, name: str, is_secure: bool
) -> None:
    service = make_service(make_settings(tmp_path, public_url=public_url), clock)
    world.make_user(service, "ada")
    http = TestClient(build_app(service=service), base_url=public_url)
    cookie = _login(http, "ada").headers["set-cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")}
    assert cookie.startswith(f"{name}=")
    assert {"httponly", "samesite=lax", "path=/"} <= parts
    assert ("secure" in parts) == is_secure
    assert not any(part.startswith("domain=") for part in parts)
    service.close()


def test_7_a_session_somebody_else_chose_is_not_taken_over(client: TestClient, service: Service) -> None:
    world.make_user(service, "ada")
    client.cookies.set("agentcache", "a-token-of-the-attackers-choice")
    answer = client.post("/api/account/login", json={"login": "ada", "password": world.PASSWORD})
    assert answer.cookies["agentcache"] != "a-token-of-the-attackers-choice"
    with service.db.read() as session:
        assert len(session.scalars(select(LoginSession)).all()) == 1


# 16 the log


def test_16_what_concerns_security_is_recorded_with_who_what_and_when(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    user = world.make_user(service, "ada")
    world.make_org(service, user)
    _login(client, "ada")
    _enrol(service, client, clock)
    made = client.post("/api/keys", json={"name": "k"}).json()["details"]["id"]
    client.delete(f"/api/keys/{made}")
    client.post("/api/account/password", json={"current": world.PASSWORD, "new": NEW})
    client.post("/api/account/second-factor/remove", json={"password": NEW})
    with service.db.read() as session:
        rows = session.scalars(select(AuditEvent).order_by(AuditEvent.at)).all()
    done = {row.action for row in rows}
    assert done >= {
        "account.login",
        "second_factor.on",
        "key.create",
        "key.revoke",
        "account.password",
        "second_factor.off",
    }
    assert all(row.at and row.actor in {user, "system"} for row in rows)


def test_16_a_failed_login_is_logged_without_the_name_and_the_password(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    world.make_user(service, "ada")
    configure_logs(service.settings)
    try:
        with TestClient(build_app(service=service)) as http:
            _login(http, "ada", "a wrong phrase")
            _login(http, "somebody", "a wrong phrase")
        logged = capsys.readouterr().err
    finally:
        structlog.reset_defaults()
    lines = [line for line in logged.splitlines() if "login refused" in line]
    assert len(lines) == 2
    assert all('"address"' in line for line in lines)
    assert not re.search(r"\bada\b|somebody|wrong phrase", logged)


def test_16_the_audit_log_is_read_by_admins_of_the_organization_only(client: TestClient, service: Service) -> None:
    admin, member = world.make_user(service, "ada"), world.make_user(service, "bob")
    org_id = world.make_org(service, admin)
    world.add_member(service, org_id, member, "member")
    for user, status in ((admin, 200), (member, 403)):
        caller = world.sign_in(service, user)
        assert client.get(f"/api/orgs/{org_id}/audit", headers=dict(caller.headers)).status_code == status

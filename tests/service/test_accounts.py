"""Accounts over HTTP: sign-up, verification, login, reset, sessions, second factor."""

from __future__ import annotations

import re
from typing import Any

import pyotp
import pytest
import service_world as world
from sqlalchemy import select
from starlette.testclient import TestClient

from agentcache_service.clock import FixedClock
from agentcache_service.identity.tables import ApiKey, LoginSession, OneTimeToken, Org, User
from agentcache_service.jobs import Worker
from agentcache_service.jobs_tables import Job
from agentcache_service.mail import LocalOutbox
from agentcache_service.service import Service

FORM = {
    "email": "ada@example.com",
    "password": "correct horse battery",
    "organization": "Analytical Engines",
    "sector": "filestorage",
    "username": "ada",
    "first_name": "Ada",
    "last_name": "Lovelace",
}


def _mails(service: Service) -> list[Any]:
    assert isinstance(service.mail, LocalOutbox)
    return [service.mail.read(name) for name in service.mail.names()]


def _newest_text(service: Service) -> str:
    return _mails(service)[0].get_body(("plain",)).get_content()


def _link(service: Service, pattern: str) -> str:
    found = re.search(pattern, _newest_text(service))
    assert found is not None
    return found[1]


def _sign_up(client: TestClient, service: Service, worker: Worker, **changes: str) -> dict[str, Any]:
    assert client.post("/api/account/register", json={**FORM, **changes}).status_code == 202
    worker.run_due()
    token = _link(service, r"/verify\?token=(\S+)")
    answer = client.post("/api/account/verify", json={"token": token})
    assert answer.status_code == 200
    return answer.json()


def _login(client: TestClient, name: str = "ada", password: str = FORM["password"]) -> dict[str, Any]:
    answer = client.post("/api/account/login", json={"login": name, "password": password})
    assert answer.status_code == 200, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf_token"]
    return answer.json()


def test_a_sign_up_makes_the_organization_its_namespaces_and_one_key(
    client: TestClient, service: Service, worker: Worker
) -> None:
    welcome = _sign_up(client, service, worker)
    assert re.fullmatch(r"ac_[0-9a-f]{64}", welcome["api_key"])
    _login(client)
    rooms = client.get(f"/api/orgs/{welcome['organization']}/namespaces").json()
    assert {room["name"]: [node["preset"] for node in room["nodes"]] for room in rooms} == {
        "cdn": ["cdn_accelerator"],
        "metadata": ["metadata_cache", "audit_log_cache"],
        "storage": ["seagate_lyve_connector", "file_dedup_cache"],
    }
    org = client.get(f"/api/orgs/{welcome['organization']}").json()
    assert (org["slug"], org["sector"], org["plan"]) == ("analytical-engines", "filestorage", "starter")


def test_the_trial_ends_after_fourteen_days_and_leaves_the_free_plan(
    client: TestClient, service: Service, worker: Worker, clock: FixedClock
) -> None:
    welcome = _sign_up(client, service, worker)
    clock.advance(days=14)
    _login(client)
    assert client.get(f"/api/orgs/{welcome['organization']}").json()["plan"] == "free"
    rooms = client.get(f"/api/orgs/{welcome['organization']}/namespaces").json()
    assert sorted(room["read_only"] for room in rooms) == [False, False, True]


def test_secrets_are_not_in_the_database(client: TestClient, service: Service, worker: Worker) -> None:
    key = _sign_up(client, service, worker)["api_key"]
    token = client.post("/api/account/login", json={"login": "ada", "password": FORM["password"]}).cookies["agentcache"]
    with service.db.read() as session:
        rows = [
            *session.scalars(select(User)),
            *session.scalars(select(ApiKey)),
            *session.scalars(select(LoginSession)),
            *session.scalars(select(OneTimeToken)),
            *session.scalars(select(Job)),
        ]
    stored = " ".join(repr(vars(row)) for row in rows)
    assert FORM["password"] not in stored
    assert key not in stored
    assert token not in stored
    assert "/verify?token=" not in stored


def test_the_first_key_is_given_by_the_first_confirmation_only(
    client: TestClient, service: Service, worker: Worker
) -> None:
    _sign_up(client, service, worker)
    assert client.post("/api/account/register", json=FORM).status_code == 202
    worker.run_due()
    assert "have an AgentCache account already" in _mails(service)[0]["subject"]


def test_registering_a_known_address_answers_the_same_and_changes_nothing(
    client: TestClient, service: Service, worker: Worker
) -> None:
    _sign_up(client, service, worker)
    fresh = client.post("/api/account/register", json={**FORM, "email": "new@example.com", "username": ""})
    again = client.post("/api/account/register", json={**FORM, "password": "another long phrase", "username": ""})
    assert (again.status_code, again.json()) == (fresh.status_code, fresh.json())
    _login(client)


EVIL = {**FORM, "password": "prepared by somebody", "organization": "Evil Ltd", "username": "evil"}
HONEST = {**FORM, "password": "really my own words", "organization": "Honest Ltd", "username": "honest"}


def _links(service: Service) -> list[str]:
    """The tokens of confirmation mails, oldest first."""
    texts = [mail.get_body(("plain",)).get_content() for mail in reversed(_mails(service))]
    return [found[1] for text in texts if (found := re.search(r"/verify\?token=(\S+)", text)) is not None]


@pytest.mark.parametrize("attacker_is_first", [True, False])
def test_an_account_somebody_else_prepared_for_an_address_does_not_come_into_force(
    client: TestClient, service: Service, worker: Worker, attacker_is_first: bool
) -> None:
    order = (EVIL, HONEST) if attacker_is_first else (HONEST, EVIL)
    for form in order:
        assert client.post("/api/account/register", json=form).status_code == 202
        worker.run_due()
    mine = _links(service)[1 if attacker_is_first else 0]
    welcome = client.post("/api/account/verify", json={"token": mine}).json()
    assert welcome["api_key"]
    wrong = client.post("/api/account/login", json={"login": FORM["email"], "password": EVIL["password"]})
    assert wrong.status_code == 401
    _login(client, FORM["email"], HONEST["password"])
    org = client.get(f"/api/orgs/{welcome['organization']}").json()
    assert (org["name"], org["role"]) == ("Honest Ltd", "admin")
    for other in set(_links(service)) - {mine}:
        assert client.post("/api/account/verify", json={"token": other}).json()["error"] == "token_invalid"
    with service.db.read() as session:
        assert [row.name for row in session.scalars(select(Org))] == ["Honest Ltd"]
        assert not any(row.sign_up_sealed for row in session.scalars(select(OneTimeToken)))


def test_the_link_that_is_sent_again_is_the_newest_registrations(
    client: TestClient, service: Service, worker: Worker, clock: FixedClock
) -> None:
    client.post("/api/account/register", json=EVIL)
    clock.advance(minutes=1)
    client.post("/api/account/register", json=HONEST)
    client.post("/api/account/resend-verification", json={"email": FORM["email"]})
    while worker.run_due():
        pass
    client.post("/api/account/verify", json={"token": _links(service)[-1]})
    _login(client, FORM["email"], HONEST["password"])


def test_the_page_behind_the_link_names_the_organization_before_it_is_confirmed(
    client: TestClient, service: Service, worker: Worker
) -> None:
    for form in (EVIL, HONEST):
        client.post("/api/account/register", json=form)
        worker.run_due()
    pages = [client.get("/verify", params={"token": token}).text for token in _links(service)]
    assert ["Evil Ltd" in page for page in pages] == [True, False]
    assert "Honest Ltd" in pages[1]


def test_a_taken_username_is_told(client: TestClient, service: Service, worker: Worker) -> None:
    _sign_up(client, service, worker)
    answer = client.post("/api/account/register", json={**FORM, "email": "other@example.com"})
    assert (answer.status_code, answer.json()["error"]) == (409, "username_taken")


@pytest.mark.parametrize(
    ("password", "error"),
    [("short", "password_too_short"), ("password123", "password_common"), ("x" * 300, "password_too_long")],
)
def test_weak_passwords_are_refused(client: TestClient, password: str, error: str) -> None:
    answer = client.post("/api/account/register", json={**FORM, "password": password})
    assert (answer.status_code, answer.json()["error"]) == (422, error)


def test_long_passwords_without_digits_or_signs_are_taken_whole(
    client: TestClient, service: Service, worker: Worker
) -> None:
    long = "nothing but small letters " * 5
    _sign_up(client, service, worker, password=long)
    assert client.post("/api/account/login", json={"login": "ada", "password": long[:-1]}).status_code == 401
    _login(client, password=long)


def test_an_unverified_account_cannot_sign_in(client: TestClient) -> None:
    client.post("/api/account/register", json=FORM)
    answer = client.post("/api/account/login", json={"login": "ada", "password": FORM["password"]})
    assert (answer.status_code, answer.json()["error"]) == (403, "unverified")


def test_login_works_by_address_and_by_name_in_any_case(client: TestClient, service: Service, worker: Worker) -> None:
    _sign_up(client, service, worker)
    _login(client, "ADA@Example.com")
    _login(client, "Ada")


def test_wrong_name_and_wrong_password_answer_the_same(client: TestClient, service: Service, worker: Worker) -> None:
    _sign_up(client, service, worker)
    unknown = client.post("/api/account/login", json={"login": "nobody", "password": "whatever it is"})
    wrong = client.post("/api/account/login", json={"login": "ada", "password": "whatever it is"})
    assert (unknown.status_code, unknown.json()) == (wrong.status_code, wrong.json()) == (401, wrong.json())


def test_a_login_ends_the_session_it_came_with(client: TestClient, service: Service, worker: Worker) -> None:
    _sign_up(client, service, worker)
    _login(client)
    first = client.cookies["agentcache"]
    _login(client)
    assert client.cookies["agentcache"] != first
    client.cookies.clear()
    client.cookies.set("agentcache", first)
    assert client.get("/api/account/me").status_code == 401


def test_a_change_without_the_csrf_token_is_refused(client: TestClient, service: Service, worker: Worker) -> None:
    _sign_up(client, service, worker)
    _login(client)
    del client.headers["x-csrf-token"]
    assert client.patch("/api/account/me", json={"first_name": "Eve"}).json()["error"] == "csrf"


def test_a_login_sent_by_another_sites_page_is_refused(client: TestClient) -> None:
    body = {"login": "ada", "password": "whatever it is"}
    answer = client.post("/api/account/login", json=body, headers={"origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["error"]) == (403, "cross_origin")


def test_a_reset_link_works_once_within_the_hour_and_ends_every_session(
    client: TestClient, service: Service, worker: Worker, clock: FixedClock
) -> None:
    _sign_up(client, service, worker)
    _login(client)
    client.post("/api/account/request-reset", json={"email": "ada@example.com"})
    worker.run_due()
    body = {"token": _link(service, r"/reset/(\S+)"), "password": "an entirely new one"}
    assert client.post("/api/account/reset-password", json=body).status_code == 200
    assert client.get("/api/account/me").status_code == 401
    assert client.post("/api/account/reset-password", json=body).json()["error"] == "token_invalid"
    _login(client, password="an entirely new one")


def test_a_reset_link_expires_after_an_hour(
    client: TestClient, service: Service, worker: Worker, clock: FixedClock
) -> None:
    _sign_up(client, service, worker)
    client.post("/api/account/request-reset", json={"email": "ada@example.com"})
    worker.run_due()
    token = _link(service, r"/reset/(\S+)")
    clock.advance(hours=1)
    answer = client.post("/api/account/reset-password", json={"token": token, "password": "an entirely new one"})
    assert answer.json()["error"] == "token_invalid"


def test_asking_for_a_reset_answers_and_writes_the_same_for_unknown_addresses(
    client: TestClient, service: Service, worker: Worker
) -> None:
    _sign_up(client, service, worker)
    sent = len(_mails(service))
    answers = [
        client.post("/api/account/request-reset", json={"email": address}).json()
        for address in ("ada@example.com", "nobody@example.com")
    ]
    assert answers[0] == answers[1]
    with service.db.read() as session:
        kinds = [job.kind for job in session.scalars(select(Job).where(Job.state == "queued"))]
    assert kinds == ["account.reset_requested"] * 2
    worker.run_due()
    assert len(_mails(service)) == sent + 1


def test_changing_the_password_needs_the_current_one_and_ends_other_sessions(
    client: TestClient, service: Service, worker: Worker
) -> None:
    _sign_up(client, service, worker)
    _login(client)
    with service.db.read() as session:
        user_id = session.scalars(select(User.id)).one()
    other = world.sign_in(service, user_id)
    body = {"current": "not it at all", "new": "an entirely new one"}
    assert client.post("/api/account/password", json=body).json()["error"] == "password_wrong"
    assert client.post("/api/account/password", json={**body, "current": FORM["password"]}).status_code == 200
    assert client.get("/api/account/me").status_code == 200
    client.cookies.clear()
    assert client.get("/api/account/me", headers=other.headers).status_code == 401


def test_sessions_are_listed_and_revoked_one_by_one(client: TestClient, service: Service) -> None:
    user = world.make_user(service, "ada")
    here, there = world.sign_in(service, user), world.sign_in(service, user)
    rows = client.get("/api/account/sessions", headers=here.headers).json()
    assert [row["current"] for row in rows].count(True) == 1
    other = next(row["id"] for row in rows if not row["current"])
    assert client.delete(f"/api/account/sessions/{other}", headers=here.headers).status_code == 200
    assert client.get("/api/account/me", headers=there.headers).status_code == 401
    assert client.get("/api/account/me", headers=here.headers).status_code == 200


def _enrol(client: TestClient, clock: FixedClock) -> tuple[pyotp.TOTP, list[str]]:
    begun = client.post("/api/account/second-factor").json()
    totp = pyotp.TOTP(begun["secret"])
    assert begun["svg"].startswith("<svg")
    done = client.post("/api/account/second-factor/confirm", json={"code": totp.at(clock.now())}).json()
    client.headers["x-csrf-token"] = done["csrf_token"]
    return totp, done["recovery_codes"]


def test_a_second_factor_is_asked_for_at_the_next_login_and_no_code_works_twice(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    world.make_org(service, world.make_user(service, "ada"))
    _login(client, password=world.PASSWORD)
    totp, codes = _enrol(client, clock)
    assert len(set(codes)) == 10
    assert _login(client, password=world.PASSWORD)["second_factor_required"]
    assert client.get("/api/account/me").json()["error"] == "second_factor_required"
    assert client.get("/api/keys").json()["error"] == "second_factor_required"
    replayed = client.post("/api/account/second-factor/give", json={"code": totp.at(clock.now())})
    assert replayed.json()["error"] == "code_wrong"
    clock.advance(seconds=30)
    before = client.cookies["agentcache"]
    given = client.post("/api/account/second-factor/give", json={"code": totp.at(clock.now())})
    assert given.status_code == 200
    assert client.cookies["agentcache"] != before
    assert client.get("/api/account/me").status_code == 200


def test_a_recovery_code_stands_in_once(client: TestClient, service: Service, clock: FixedClock) -> None:
    world.make_org(service, world.make_user(service, "ada"))
    _login(client, password=world.PASSWORD)
    _, codes = _enrol(client, clock)
    _login(client, password=world.PASSWORD)
    given = client.post("/api/account/second-factor/give", json={"code": codes[0]})
    assert given.status_code == 200
    _login(client, password=world.PASSWORD)
    assert client.post("/api/account/second-factor/give", json={"code": codes[0]}).json()["error"] == "code_wrong"


def test_a_platform_admin_without_second_factor_is_no_staff_and_cannot_remove_it_later(
    client: TestClient, service: Service, clock: FixedClock
) -> None:
    world.make_user(service, "root", role="admin")
    assert _login(client, "root", world.PASSWORD)["second_factor_required"]
    assert client.get("/api/account/me").json()["error"] == "second_factor_required"
    _enrol(client, clock)
    assert client.get("/api/account/me").status_code == 200
    removed = client.post("/api/account/second-factor/remove", json={"password": world.PASSWORD})
    assert removed.json()["error"] == "second_factor_required"


def test_failed_logins_are_limited_per_account(client: TestClient, service: Service, worker: Worker) -> None:
    _sign_up(client, service, worker)
    service.limiter._enabled = True
    wrong = {"login": "ada", "password": "whatever it is"}
    statuses = [client.post("/api/account/login", json=wrong).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    refused = client.post("/api/account/login", json={**wrong, "password": FORM["password"]})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0

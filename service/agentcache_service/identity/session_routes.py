"""Routes of sessions and of the second factor."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from agentcache_service.identity import cookies, second_factor, sessions
from agentcache_service.identity.account_routes import Password
from agentcache_service.identity.credentials import csrf_token
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body, Done

router = APIRouter(prefix="/api/account", tags=["account"])


class SessionView(BaseModel):
    """A signed-in browser."""

    id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    address: str
    agent: str
    current: bool


class CodeBody(Body):
    """A code of the authenticator, or a recovery code."""

    code: str = Field(max_length=40)


class RemoveBody(Body):
    """The account's password."""

    password: Password


class EnrolmentView(Done):
    """What to put into an authenticator."""

    secret: str
    otpauth_url: str
    svg: str


class Elevated(Done):
    """The second factor was given: the session has a new token (in the cookie) and CSRF token."""

    csrf_token: str


class Confirmed(Elevated):
    """The second factor is in force. The recovery codes are shown this one time."""

    recovery_codes: list[str]


@router.get("/sessions")
def list_sessions(request: Request, caller: Principal = require("account:self")) -> list[SessionView]:
    """Every browser that is signed in."""
    service = service_of(request)
    with service.db.read() as session:
        return [
            SessionView(
                id=row.id,
                created_at=row.created_at,
                last_seen_at=row.last_seen_at,
                expires_at=row.expires_at,
                address=row.address,
                agent=row.agent,
                current=row.id == caller.session_id,
            )
            for row in sessions.living(session, service, caller.user)
        ]


@router.delete("/sessions/{session_id}")
def revoke_session(session_id: str, request: Request, caller: Principal = require("account:self")) -> Done:
    """Sign one browser out."""
    service = service_of(request)
    with service.db.write() as session:
        sessions.revoke(session, service, user_id=caller.user, session_id=session_id)
    return Done()


@router.post("/second-factor")
def begin(request: Request, caller: Principal = require("account:second_factor")) -> EnrolmentView:
    """Ask for a secret for an authenticator."""
    service = service_of(request)
    with service.db.write() as session:
        made = second_factor.begin(service, session, caller)
    return EnrolmentView(secret=made.secret, otpauth_url=made.address, svg=made.svg)


@router.post("/second-factor/confirm")
def confirm(
    body: CodeBody, request: Request, response: Response, caller: Principal = require("account:second_factor")
) -> Confirmed:
    """Put the secret into force with its first code; the answer holds the recovery codes."""
    service = service_of(request)
    with service.db.write() as session:
        codes, token = second_factor.confirm(service, session, caller, code=body.code)
    cookies.set_session(response, service.settings, token)
    return Confirmed(recovery_codes=codes, csrf_token=csrf_token(token))


@router.post("/second-factor/give")
def give(
    body: CodeBody, request: Request, response: Response, caller: Principal = require("account:second_factor")
) -> Elevated:
    """Complete a login."""
    service = service_of(request)
    with service.db.write() as session:
        token = second_factor.give(service, session, caller, code=body.code)
    cookies.set_session(response, service.settings, token)
    return Elevated(csrf_token=csrf_token(token))


@router.post("/second-factor/remove")
def remove(body: RemoveBody, request: Request, caller: Principal = require("account:self", rate="20/hour")) -> Done:
    """Take the second factor away, given the password."""
    service = service_of(request)
    with service.db.write() as session:
        second_factor.remove(service, session, caller, password=body.password.get_secret_value())
    return Done()


def a_session(service: Service, _org_id: str, user_id: str) -> dict[str, str]:
    """A session of the user for tests of access."""
    with service.db.write() as session:
        sessions.open_session(service, session, user_id=user_id, agent="the one to end")
    with service.db.read() as session:
        rows = sessions.living(session, service, user_id)
        return {"session_id": next(row.id for row in rows if row.agent == "the one to end")}


_EACH_OWN = for_sessions(least="viewer", other_tenant=200)
_ONLY_OWNER = {**for_sessions(404, least="viewer"), "admin": 200}

ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/account/sessions", _EACH_OWN),
    Row("DELETE", "/api/account/sessions/{session_id}", _ONLY_OWNER, seed=a_session),
    Row("POST", "/api/account/second-factor", _EACH_OWN),
    Row(
        "POST",
        "/api/account/second-factor/confirm",
        for_sessions(422, least="viewer", other_tenant=422),
        body={"code": "000000"},
    ),
    Row(
        "POST",
        "/api/account/second-factor/give",
        for_sessions(409, least="viewer", other_tenant=409),
        body={"code": "000000"},
    ),
    Row(
        "POST",
        "/api/account/second-factor/remove",
        for_sessions(403, least="viewer", other_tenant=403),
        body={"password": "wrong"},
    ),
)

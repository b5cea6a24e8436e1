"""Routes of accounts: register, verify, login, passwords, profile."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field, SecretStr

from agentcache_service.cacheapi.assets import upload_folder
from agentcache_service.identity import (
    accounts,
    archive,
    cookies,
    mailed_tokens,
    privacy,
    registration,
    sessions,
)
from agentcache_service.identity.credentials import csrf_token
from agentcache_service.identity.tables import User
from agentcache_service.matrix import Row, for_everybody, for_sessions
from agentcache_service.policy import public, require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import Body, Done, Message

router = APIRouter(prefix="/api/account", tags=["account"])

REGISTERED = "Look into your mail: we have sent a link to confirm your address."
ASKED = "If this address belongs to an account, a mail is on its way."

Password = Annotated[SecretStr, Field(max_length=1024)]


class RegisterBody(Body):
    """The sign-up form."""

    email: str = Field(max_length=254, examples=["ada@example.com"])
    password: Password
    organization: str = Field(max_length=120, description="the organization's name")
    sector: str = Field(default="llm-app", max_length=40, description="filestorage, llm-app, agents or rag")
    description: str = Field(default="", max_length=2000)
    username: str = Field(default="", max_length=40, description="made from the address when left out")
    first_name: str = Field(default="", max_length=120)
    last_name: str = Field(default="", max_length=120)
    avatar: str | None = Field(default=None, max_length=255)


class VerifyBody(Body):
    """A mailed token."""

    token: str = Field(max_length=200)


class EmailBody(Body):
    """An address."""

    email: str = Field(max_length=254)


class LoginBody(Body):
    """A name (e-mail address or username) and a password."""

    login: str = Field(max_length=254)
    password: Password


class ResetBody(Body):
    """A mailed token and a new password."""

    token: str = Field(max_length=200)
    password: Password


class PasswordBody(Body):
    """The current password and a new one."""

    current: Password
    new: Password


class EraseBody(Body):
    """The password, so that a borrowed browser is not enough; what we owe is given up only when that is said."""

    password: Password
    give_up_balance: bool = Field(default=False, description="give up earnings that were not paid out")


class ProfileBody(Body):
    """Fields to change; those left out stay."""

    first_name: str | None = Field(default=None, max_length=120)
    last_name: str | None = Field(default=None, max_length=120)
    avatar: str | None = Field(default=None, max_length=255)


class Profile(BaseModel):
    """A person as they see themselves."""

    id: str
    email: str
    username: str
    first_name: str
    last_name: str
    avatar: str | None
    role: str = Field(description="user, creator or admin")
    organization: str | None = Field(default=None, description="the organization this session acts in")
    organization_role: str | None = None
    second_factor: bool


class LoginAnswer(Done):
    """Signed in: the session is in the cookie; `csrf_token` goes into X-CSRF-Token of every change."""

    csrf_token: str
    second_factor_required: bool
    user: Profile


class VerifyAnswer(Done):
    """Confirmed. `api_key` is shown this one time and only by the first confirmation."""

    organization: str | None
    api_key: str | None


def profile_of(user: User, principal: Principal | None = None) -> Profile:
    """The wire form of a user."""
    return Profile(
        id=user.id,
        email=user.email,
        username=user.username,
        first_name=user.first_name,
        last_name=user.last_name,
        avatar=user.avatar_url,
        role=user.platform_role,
        organization=principal.org_id if principal else None,
        organization_role=principal.role if principal else None,
        second_factor=user.totp_confirmed_at is not None,
    )


@router.post("/register", status_code=202)
def register(body: RegisterBody, request: Request, caller: Principal = public(rate="20/hour")) -> Message:
    """Sign up: account, organization and namespaces at once; the link in the mail confirms and gives the first key."""
    form = registration.Registration(
        email=body.email,
        password=body.password.get_secret_value(),
        organization=body.organization,
        sector=body.sector,
        description=body.description,
        username=body.username,
        first_name=body.first_name,
        last_name=body.last_name,
        avatar_url=body.avatar,
    )
    registration.register(service_of(request), form, address=caller.address)
    return Message(message=REGISTERED)


@router.post("/verify")
def verify(body: VerifyBody, request: Request, _caller: Principal = public(rate="30/minute")) -> VerifyAnswer:
    """Confirm an address; the first time, the answer holds the organization's first API key."""
    service = service_of(request)
    with service.db.write() as session:
        welcome = registration.confirm(service, session, body.token)
        key = welcome.first_key.secret if welcome.first_key else None
        return VerifyAnswer(organization=welcome.org.id if welcome.org else None, api_key=key)


@router.get("/verify", status_code=303, response_class=RedirectResponse)
def verify_link(token: Annotated[str, Query(max_length=200)], _caller: Principal = public()) -> RedirectResponse:
    """The mailed link's older form: leads to the page with the button (mail scanners follow links, not buttons)."""
    from urllib.parse import quote

    return RedirectResponse(f"/verify?token={quote(token, safe='')}", status_code=303)


@router.post("/resend-verification", status_code=202)
def resend(body: EmailBody, request: Request, _caller: Principal = public(rate="10/hour")) -> Message:
    """Mail the confirmation link again; the answer is the same for every address."""
    mailed_tokens.ask_later(service_of(request), registration.RESEND_REQUESTED, body.email)
    return Message(message=ASKED)


@router.post("/request-reset", status_code=202)
def request_reset(body: EmailBody, request: Request, _caller: Principal = public(rate="10/hour")) -> Message:
    """Mail a link to set a new password; the answer is the same for every address."""
    mailed_tokens.ask_later(service_of(request), accounts.RESET_REQUESTED, body.email)
    return Message(message=ASKED)


@router.post("/reset-password")
def reset_password(body: ResetBody, request: Request, _caller: Principal = public(rate="20/hour")) -> Message:
    """Set a new password by a mailed token (one hour, once). Every session of the account ends."""
    accounts.reset_password(service_of(request), token=body.token, password=body.password.get_secret_value())
    return Message(message="The password is set. Sign in with it.")


@router.post("/login")
def login(
    body: LoginBody, request: Request, response: Response, caller: Principal = public(rate="60/minute")
) -> LoginAnswer:
    """Sign in by e-mail address or username. The session's token is always a new one."""
    service = service_of(request)
    token, user = accounts.login(
        service,
        login=body.login,
        password=body.password.get_secret_value(),
        address=caller.address,
        agent=request.headers.get("user-agent", ""),
    )
    end_current(service, caller)
    cookies.set_session(response, service.settings, token)
    required = user.totp_confirmed_at is not None or user.platform_role == "admin"
    return LoginAnswer(csrf_token=csrf_token(token), second_factor_required=required, user=profile_of(user))


def end_current(service: Service, caller: Principal) -> None:
    """End the session the browser came with, if any: a login always starts anew."""
    if caller.session_id is not None:
        with service.db.write() as session:
            sessions.revoke(session, service, user_id=caller.user, session_id=caller.session_id)


@router.post("/logout")
def logout(request: Request, response: Response, caller: Principal = require("account:second_factor")) -> Done:
    """End this session."""
    service = service_of(request)
    end_current(service, caller)
    cookies.clear_session(response, service.settings)
    return Done()


@router.get("/me")
def me(request: Request, caller: Principal = require("account:self")) -> Profile:
    """The signed-in person."""
    with service_of(request).db.read() as session:
        return profile_of(accounts.get_user(session, caller.user), caller)


@router.patch("/me")
def edit_me(body: ProfileBody, request: Request, caller: Principal = require("account:self")) -> Profile:
    """Change names or avatar."""
    service = service_of(request)
    with service.db.write() as session:
        user = accounts.edit_profile(
            service,
            session,
            caller,
            first_name=body.first_name,
            last_name=body.last_name,
            avatar_url=body.avatar,
        )
        return profile_of(user, caller)


@router.post("/password")
def change_password(
    body: PasswordBody, request: Request, caller: Principal = require("account:self", rate="20/hour")
) -> Done:
    """Change the password, given the current one. Other sessions end."""
    accounts.change_password(
        service_of(request), caller, current=body.current.get_secret_value(), new=body.new.get_secret_value()
    )
    return Done()


class Copy(BaseModel):
    """Everything kept about a person; rows of tables by their names, without secrets."""

    user: dict[str, Any]
    account: dict[str, list[dict[str, Any]]] = Field(description="rows about the person, by table")
    mails: list[dict[str, str]] = Field(
        description="mails to the person that are here: waiting, or in the local outbox"
    )
    organizations: list[dict[str, Any]] = Field(description="of those the person is an admin of: records and entries")


@router.get("/export")
def export(request: Request, caller: Principal = require("account:self", rate="20/hour")) -> Copy:
    """A copy of everything kept about the signed-in person, and about the organization they are an admin of."""
    service = service_of(request)
    service.meter.flush()
    with service.db.read() as session:
        return Copy(**privacy.export(service, session, caller))


@router.get(
    "/export/archive",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
def export_archive(request: Request, caller: Principal = require("account:self", rate="20/hour")) -> StreamingResponse:
    """The same copy as a ZIP file, with the cached values and the assets themselves."""
    service = service_of(request)
    file = tempfile.SpooledTemporaryFile(max_size=8 << 20, dir=str(upload_folder(service)))  # noqa: SIM115 - closed below
    try:
        archive.write(service, caller, file)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = {"Content-Length": str(size), "Content-Disposition": 'attachment; filename="agentcache-copy.zip"'}
    return StreamingResponse(_blocks(file), headers=headers, media_type="application/zip")


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(1 << 18):
            yield block


@router.delete("/me")
def erase(
    body: EraseBody, request: Request, response: Response, caller: Principal = require("account:self", rate="20/hour")
) -> Done:
    """Erase the signed-in person, given the password. It cannot be taken back."""
    service = service_of(request)
    privacy.erase(service, caller, password=body.password.get_secret_value(), give_up_balance=body.give_up_balance)
    cookies.clear_session(response, service.settings)
    return Done()


_SIGN_UP: Mapping[str, Any] = {
    "email": "somebody@example.net",
    "password": "a long enough phrase",
    "organization": "Somebody Ltd",
    "sector": "filestorage",
}
_EACH_OWN = for_sessions(least="viewer", other_tenant=200)

ACCESS: tuple[Row, ...] = (
    Row("POST", "/api/account/register", for_everybody(202), body=_SIGN_UP),
    Row("POST", "/api/account/verify", for_everybody(422), body={"token": "wrong"}),
    Row("GET", "/api/account/verify", for_everybody(303), query={"token": "wrong"}),
    Row("POST", "/api/account/resend-verification", for_everybody(202), body={"email": "nobody@example.net"}),
    Row("POST", "/api/account/request-reset", for_everybody(202), body={"email": "nobody@example.net"}),
    Row(
        "POST",
        "/api/account/reset-password",
        for_everybody(422),
        body={"token": "wrong", "password": "a long enough phrase"},
    ),
    Row("POST", "/api/account/login", for_everybody(401), body={"login": "nobody", "password": "wrong"}),
    Row("POST", "/api/account/logout", _EACH_OWN),
    Row("GET", "/api/account/export", _EACH_OWN),
    Row("GET", "/api/account/export/archive", _EACH_OWN),
    Row(
        "DELETE",
        "/api/account/me",
        for_sessions(403, least="viewer", other_tenant=403),
        body={"password": "not this one"},
    ),
    Row("GET", "/api/account/me", _EACH_OWN),
    Row("PATCH", "/api/account/me", _EACH_OWN, body={"first_name": "Ada"}),
    Row(
        "POST",
        "/api/account/password",
        for_sessions(403, least="viewer", other_tenant=403),
        body={"current": "not this one", "new": "a long enough phrase"},
    ),
)

"""Pages for everybody: start, pricing, sign-up, confirmation, login, second factor, password reset."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from agentcache_service.errors import ServiceError
from agentcache_service.identity import (
    accounts,
    cookies,
    mailed_tokens,
    presets,
    registration,
    second_factor,
    sessions,
)
from agentcache_service.identity.account_routes import ASKED, REGISTERED, end_current
from agentcache_service.matrix import Row, for_everybody, for_sessions
from agentcache_service.policy import public, require
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import page, see_other
from agentcache_service.web.snippets import snippets

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Form(max_length=2000)]
_EMPTY = registration.Registration(email="", password="", organization="", sector="")
Secret = Annotated[str, Form(max_length=1024)]


@router.get("/")
def start(request: Request, caller: Principal = public()) -> HTMLResponse:
    """The first page."""
    return page(request, caller, "public/start.html", plans=service_of(request).plans)


@router.get("/pricing")
def pricing(request: Request, caller: Principal = public()) -> HTMLResponse:
    """The plans, from plans.toml."""
    return page(request, caller, "public/pricing.html", plans=service_of(request).plans)


@router.get("/signup")
def sign_up_form(request: Request, caller: Principal = public()) -> HTMLResponse:
    """The sign-up form."""
    return page(request, caller, "public/signup.html", sectors=presets.sectors(), form=_EMPTY, error=None)


@router.post("/signup")
def sign_up(
    request: Request,
    email: Text,
    password: Secret,
    organization: Text,
    sector: Text = "llm-app",
    description: Text = "",
    first_name: Text = "",
    last_name: Text = "",
    username: Text = "",
    caller: Principal = public(rate="20/hour"),
) -> HTMLResponse:
    """Sign up."""
    form = registration.Registration(
        email=email,
        password=password,
        organization=organization,
        sector=sector,
        description=description,
        username=username,
        first_name=first_name,
        last_name=last_name,
    )
    try:
        registration.register(service_of(request), form, address=caller.address)
    except ServiceError as refused:
        return page(
            request,
            caller,
            "public/signup.html",
            status=refused.status,
            sectors=presets.sectors(),
            form=form,
            error=refused.message,
        )
    return _message(request, caller, "Check your mail", REGISTERED)


def _message(request: Request, caller: Principal, heading: str, text: str) -> HTMLResponse:
    has_outbox = service_of(request).settings.mail_transport == "outbox"
    link = ("/login", "Sign in")
    return page(request, caller, "public/message.html", heading=heading, text=text, has_outbox=has_outbox, link=link)


@router.get("/verify")
def verify_form(
    request: Request, token: Annotated[str, Query(max_length=200)], caller: Principal = public()
) -> HTMLResponse:
    """A button rather than a link: programs that look into mails follow links. It names what would be opened."""
    service = service_of(request)
    with service.db.read() as session:
        organization = registration.asked_organization(service, session, token)
    return page(request, caller, "public/verify.html", token=token, organization=organization, error=None)


@router.post("/verify")
def verify(request: Request, token: Text, caller: Principal = public(rate="30/minute")) -> HTMLResponse:
    """Confirm the address, sign in, and show the first key, once."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            welcome = registration.confirm(service, session, token)
            opened = sessions.open_session(
                service,
                session,
                user_id=welcome.user.id,
                address=caller.address,
                agent=request.headers.get("user-agent", ""),
            )
    except ServiceError as refused:
        return page(
            request,
            caller,
            "public/verify.html",
            status=refused.status,
            token=token,
            organization=None,
            error=refused.message,
        )
    key = welcome.first_key.secret if welcome.first_key else None
    answer = page(
        request,
        caller,
        "public/welcome.html",
        signed_in=True,
        key=key,
        snippets=snippets(service.settings.public_url, key=key, namespace=_first_namespace(request, welcome)),
    )
    cookies.set_session(answer, service.settings, opened)
    return answer


def _first_namespace(request: Request, welcome: registration.Welcome) -> str:
    from agentcache_service.identity import orgs

    if welcome.org is None:
        return "default"
    with service_of(request).db.read() as session:
        rooms = orgs.namespaces(session, welcome.org.id)
        preset = presets.sectors()[welcome.org.sector].namespaces[0].name
        names = [room.name for room in rooms]
        return preset if preset in names else (names or ["default"])[0]


@router.get("/login")
def login_form(request: Request, caller: Principal = public()) -> HTMLResponse:
    """The login form."""
    return page(request, caller, "public/login.html", login="", error=None, unverified=False)


@router.post("/login")
def login(request: Request, login: Text, password: Secret, caller: Principal = public(rate="60/minute")) -> Response:
    """Sign in."""
    service = service_of(request)
    agent = request.headers.get("user-agent", "")
    try:
        token, user = accounts.login(service, login=login, password=password, address=caller.address, agent=agent)
    except ServiceError as refused:
        return page(
            request,
            caller,
            "public/login.html",
            status=refused.status,
            login=login,
            error=refused.message,
            unverified=refused.code == "unverified",
        )
    end_current(service, caller)
    needs_code = user.totp_confirmed_at is not None or user.platform_role == "admin"
    answer = see_other("/second-factor" if needs_code else "/dashboard")
    cookies.set_session(answer, service.settings, token)
    return answer


@router.post("/logout")
def logout(request: Request, caller: Principal = require("account:second_factor")) -> RedirectResponse:
    """Sign out."""
    service = service_of(request)
    end_current(service, caller)
    answer = see_other("/")
    cookies.clear_session(answer, service.settings)
    return answer


@router.post("/resend")
def resend(request: Request, email: Text, caller: Principal = public(rate="10/hour")) -> HTMLResponse:
    """Send the confirmation link again."""
    mailed_tokens.ask_later(service_of(request), registration.RESEND_REQUESTED, email)
    return _message(request, caller, "Check your mail", ASKED)


@router.get("/second-factor")
def second_factor_form(request: Request, caller: Principal = require("account:second_factor")) -> HTMLResponse:
    """Ask for a code, or, where none is set up yet, begin."""
    service = service_of(request)
    with service.db.read() as session:
        is_set_up = accounts.get_user(session, caller.user).totp_confirmed_at is not None
    if is_set_up:
        return page(request, caller, "public/second_factor.html", error=None)
    return _enrol_page(request, caller)


def _enrol_page(request: Request, caller: Principal, *, error: str | None = None, status: int = 200) -> HTMLResponse:
    """The picture to scan: the same one until its first code was right."""
    service = service_of(request)
    with service.db.write() as session:
        made = second_factor.begin(service, session, caller)
    return page(request, caller, "public/enrol.html", status=status, enrolment=made, error=error)


@router.post("/second-factor")
def second_factor_give(request: Request, code: Text, caller: Principal = require("account:second_factor")) -> Response:
    """Complete a login."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            token = second_factor.give(service, session, caller, code=code)
    except ServiceError as refused:
        return page(request, caller, "public/second_factor.html", status=refused.status, error=refused.message)
    answer = see_other(_home(caller))
    cookies.set_session(answer, service.settings, token)
    return answer


def _home(caller: Principal) -> str:
    """Where somebody lands after signing in: platform admins may have no organization to look at."""
    return "/dashboard" if caller.org_id is not None else "/admin"


@router.post("/second-factor/confirm")
def second_factor_confirm(
    request: Request, code: Text, caller: Principal = require("account:second_factor")
) -> Response:
    """Put a new second factor into force and show the recovery codes, once."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            codes, token = second_factor.confirm(service, session, caller, code=code)
    except ServiceError as refused:
        if refused.code == "code_wrong":
            return _enrol_page(request, caller, error=refused.message, status=refused.status)
        return page(request, caller, "public/second_factor.html", status=refused.status, error=refused.message)
    answer = page(request, caller, "public/recovery.html", codes=codes, home=_home(caller))
    cookies.set_session(answer, service.settings, token)
    return answer


@router.get("/reset")
def reset_form(request: Request, caller: Principal = public()) -> HTMLResponse:
    """Ask for a reset link."""
    return page(request, caller, "public/reset.html")


@router.post("/reset")
def reset_ask(request: Request, email: Text, caller: Principal = public(rate="10/hour")) -> HTMLResponse:
    """Send a reset link; the answer is the same for every address."""
    mailed_tokens.ask_later(service_of(request), accounts.RESET_REQUESTED, email)
    return _message(request, caller, "Check your mail", ASKED)


@router.get("/reset/{token}")
def new_password_form(request: Request, token: str, caller: Principal = public()) -> HTMLResponse:
    """The form for a new password."""
    return page(request, caller, "public/new_password.html", token=token, error=None)


@router.post("/reset/{token}")
def new_password(
    request: Request, token: str, password: Secret, caller: Principal = public(rate="20/hour")
) -> HTMLResponse:
    """Set a new password."""
    try:
        accounts.reset_password(service_of(request), token=token, password=password)
    except ServiceError as refused:
        return page(
            request, caller, "public/new_password.html", status=refused.status, token=token, error=refused.message
        )
    return _message(request, caller, "Password set", "Your new password is in force and other sessions were ended.")


@router.get("/portal/signup.html")
def old_sign_up(_caller: Principal = public()) -> RedirectResponse:
    """The older address of the sign-up form."""
    return RedirectResponse("/signup", status_code=308)


@router.get("/portal/dashboard.html")
def old_dashboard(_caller: Principal = public()) -> RedirectResponse:
    """The older address of the dashboard."""
    return RedirectResponse("/dashboard", status_code=308)


_EACH_OWN = for_sessions(least="viewer", other_tenant=200)
_SIGN_UP = {
    "email": "form@example.net",
    "password": "a long enough phrase",
    "organization": "Form Ltd",
    "sector": "filestorage",
}

ACCESS: tuple[Row, ...] = (
    Row("GET", "/", for_everybody()),
    Row("GET", "/pricing", for_everybody()),
    Row("GET", "/signup", for_everybody()),
    Row("POST", "/signup", for_everybody(), form=_SIGN_UP),
    Row("GET", "/verify", for_everybody(), query={"token": "wrong"}),
    Row("POST", "/verify", for_everybody(422), form={"token": "wrong"}),
    Row("GET", "/login", for_everybody()),
    Row("POST", "/login", for_everybody(401), form={"login": "nobody", "password": "wrong"}),
    Row("POST", "/logout", for_sessions(303, least="viewer", other_tenant=303)),
    Row("POST", "/resend", for_everybody(), form={"email": "nobody@example.net"}),
    Row("GET", "/second-factor", _EACH_OWN),
    Row("POST", "/second-factor", for_sessions(409, least="viewer", other_tenant=409), form={"code": "000000"}),
    Row("POST", "/second-factor/confirm", for_sessions(422, least="viewer", other_tenant=422), form={"code": "000000"}),
    Row("GET", "/reset", for_everybody()),
    Row("POST", "/reset", for_everybody(), form={"email": "nobody@example.net"}),
    Row("GET", "/reset/{token}", for_everybody()),
    Row("POST", "/reset/{token}", for_everybody(422), form={"password": "a long enough phrase"}),
    Row("GET", "/portal/signup.html", for_everybody(308)),
    Row("GET", "/portal/dashboard.html", for_everybody(308)),
)

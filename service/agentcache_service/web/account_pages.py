"""Dashboard pages for keys, namespaces and settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.cacheapi import removal
from agentcache_service.errors import ServiceError
from agentcache_service.identity import (
    accounts,
    cookies,
    keys,
    orgs,
    presets,
    privacy,
    second_factor,
    sessions,
)
from agentcache_service.identity.key_routes import a_key
from agentcache_service.identity.org_routes import our_namespace
from agentcache_service.identity.session_routes import a_session
from agentcache_service.identity.tables import Membership, User
from agentcache_service.matrix import Row, for_sessions
from agentcache_service.policy import SCOPES, require, role_allows
from agentcache_service.principal import Principal
from agentcache_service.service import service_of
from agentcache_service.web.pages import page, see_other
from agentcache_service.web.snippets import snippets

router = APIRouter(prefix="/dashboard", include_in_schema=False)

_SCOPE_WORDS = {"cache:read": "read the cache", "cache:write": "write the cache", "stats:read": "read figures"}

Text = Annotated[str, Form(max_length=2000)]
Secret = Annotated[str, Form(max_length=1024)]


def _keys_page(
    request: Request, caller: Principal, *, secret: str | None = None, problem: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    with service.db.read() as session:
        rows = keys.list_keys(session, caller.tenant)
        rooms = [row.name for row in orgs.namespaces(session, caller.tenant)]
    return page(
        request,
        caller,
        "dashboard/keys.html",
        status=status,
        rows=rows,
        rooms=rooms,
        scopes=SCOPES,
        scope_words=_SCOPE_WORDS,
        may_write=role_allows(caller.role, "keys:write"),
        secret=secret,
        problem=problem,
        snippets=snippets(service.settings.public_url, key=secret, namespace=rooms[0] if rooms else "default"),
    )


@router.get("/keys")
def keys_page(request: Request, caller: Principal = require("keys:read")) -> HTMLResponse:
    """API keys."""
    return _keys_page(request, caller)


@router.post("/keys")
def create_key(
    request: Request,
    name: Text = "API key",
    scope: Annotated[list[str] | None, Form()] = None,
    namespace: Annotated[list[str] | None, Form()] = None,
    days: Annotated[int, Form(ge=0, le=3650)] = 0,
    caller: Principal = require("keys:write"),
) -> HTMLResponse:
    """Make a key and show it, once."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            made = keys.create_key(
                service,
                session,
                caller,
                name=name[:120],
                scopes=scope or SCOPES,
                namespaces=namespace,
                expires_at=service.clock.now() + timedelta(days=days) if days else None,
            )
    except ServiceError as refused:
        return _keys_page(request, caller, problem=refused.message, status=refused.status)
    return _keys_page(request, caller, secret=made.secret)


@router.post("/keys/{key_id}/rotate")
def rotate_key(key_id: str, request: Request, caller: Principal = require("keys:write")) -> HTMLResponse:
    """A new key in the place of an old one, which works for another day."""
    service = service_of(request)
    with service.db.write() as session:
        made = keys.rotate_key(service, session, caller, key_id=key_id)
    return _keys_page(request, caller, secret=made.secret)


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: str, request: Request, caller: Principal = require("keys:write")) -> Response:
    """End a key."""
    service = service_of(request)
    with service.db.write() as session:
        keys.revoke_key(service, session, caller, key_id=key_id)
    return see_other("/dashboard/keys")


def _namespaces_page(
    request: Request, caller: Principal, *, problem: str | None = None, status: int = 200
) -> HTMLResponse:
    service = service_of(request)
    with service.db.read() as session:
        org = orgs.get(session, caller.tenant)
        writable = orgs.writable_names(service, session, org)
        rows = [
            (row, presets.effective(row.nodes), row.name not in writable) for row in orgs.namespaces(session, org.id)
        ]
    return page(
        request,
        caller,
        "dashboard/namespaces.html",
        status=status,
        rows=rows,
        nodes=presets.nodes(),
        may_write=role_allows(caller.role, "namespaces:write"),
        problem=problem,
    )


@router.get("/namespaces")
def namespaces_page(request: Request, caller: Principal = require("namespaces:read")) -> HTMLResponse:
    """Namespaces and their nodes."""
    return _namespaces_page(request, caller)


@router.post("/namespaces")
def add_namespace(
    request: Request,
    name: Text,
    node: Annotated[list[str] | None, Form()] = None,
    caller: Principal = require("namespaces:write"),
) -> Response:
    """A further namespace."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            orgs.add_namespace(service, session, caller, name=name.strip(), nodes=node or [])
    except ServiceError as refused:
        return _namespaces_page(request, caller, problem=refused.message, status=refused.status)
    return see_other("/dashboard/namespaces")


@router.post("/namespaces/{name}")
def edit_namespace(
    name: str,
    request: Request,
    node: Annotated[list[str] | None, Form()] = None,
    ttl_s: Annotated[int, Form(ge=0, le=315360000)] = 0,
    caller: Principal = require("namespaces:write"),
) -> Response:
    """Choose a namespace's nodes, and its time to live where it differs from theirs."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            orgs.choose_nodes(service, session, caller, name=name, chosen=node or [], ttl_s=ttl_s or None)
    except ServiceError as refused:
        if refused.status == 404:
            raise
        return _namespaces_page(request, caller, problem=refused.message, status=refused.status)
    return see_other("/dashboard/namespaces")


@router.post("/namespaces/{name}/upgrade")
def upgrade_namespace(name: str, request: Request, caller: Principal = require("namespaces:write")) -> Response:
    """Move a namespace's nodes to the newest versions of their presets."""
    service = service_of(request)
    with service.db.write() as session:
        orgs.upgrade_nodes(service, session, caller, name=name)
    return see_other("/dashboard/namespaces")


@router.post("/namespaces/{name}/remove")
def remove_namespace(name: str, request: Request, caller: Principal = require("namespaces:write")) -> Response:
    """Remove a namespace with everything in it."""
    removal.remove_namespace(service_of(request), caller, name=name)
    return see_other("/dashboard/namespaces")


def _settings_page(
    request: Request,
    caller: Principal,
    *,
    notice: str | None = None,
    problem: str | None = None,
    status: int = 200,
) -> HTMLResponse:
    service = service_of(request)
    with service.db.read() as session:
        return page(
            request,
            caller,
            "dashboard/settings.html",
            status=status,
            user=accounts.get_user(session, caller.user),
            sessions=sessions.living(session, service, caller.user),
            codes_left=second_factor.codes_left(session, caller.user),
            events=audit.recent(session, caller.tenant, limit=20) if caller.role == "admin" else [],
            people=_people(session, caller),
            notice=notice,
            problem=problem,
        )


def _people(session: Session, caller: Principal) -> dict[str, str]:
    """The usernames behind the ids in the audit log; one's own is "you"."""
    if caller.org_id is None:
        return {}
    query = select(User.id, User.username).join(Membership, Membership.user_id == User.id)
    rows = session.execute(query.where(Membership.org_id == caller.org_id))
    return {**{row.id: row.username for row in rows}, caller.user: "you", "system": "AgentCache"}


@router.get("/settings")
def settings_page(request: Request, caller: Principal = require("account:self")) -> HTMLResponse:
    """Profile, password, second factor, sessions, organization."""
    return _settings_page(request, caller)


@router.post("/settings/profile")
def edit_profile(
    request: Request, first_name: Text = "", last_name: Text = "", caller: Principal = require("account:self")
) -> Response:
    """Change names."""
    service = service_of(request)
    with service.db.write() as session:
        accounts.edit_profile(service, session, caller, first_name=first_name, last_name=last_name)
    return see_other("/dashboard/settings")


@router.post("/settings/password")
def change_password(
    request: Request, current: Secret, new: Secret, caller: Principal = require("account:self", rate="20/hour")
) -> HTMLResponse:
    """Change the password."""
    try:
        accounts.change_password(service_of(request), caller, current=current, new=new)
    except ServiceError as refused:
        return _settings_page(request, caller, problem=refused.message, status=refused.status)
    return _settings_page(request, caller, notice="The password was changed and other sessions were ended.")


@router.post("/settings/sessions/{session_id}/end")
def end_session(session_id: str, request: Request, caller: Principal = require("account:self")) -> Response:
    """Sign one browser out."""
    service = service_of(request)
    with service.db.write() as session:
        sessions.revoke(session, service, user_id=caller.user, session_id=session_id)
    return see_other("/dashboard/settings")


@router.post("/settings/second-factor/remove")
def remove_second_factor(
    request: Request, password: Secret, caller: Principal = require("account:self", rate="20/hour")
) -> HTMLResponse:
    """Take the second factor away."""
    service = service_of(request)
    try:
        with service.db.write() as session:
            second_factor.remove(service, session, caller, password=password)
    except ServiceError as refused:
        return _settings_page(request, caller, problem=refused.message, status=refused.status)
    return _settings_page(request, caller, notice="The second factor was removed.")


@router.post("/settings/organization")
def edit_organization(
    request: Request, name: Text, weekly_report: Text = "", caller: Principal = require("org:write")
) -> Response:
    """Change the organization's name and whether the weekly report is mailed."""
    service = service_of(request)
    with service.db.write() as session:
        org = orgs.get(session, caller.tenant)
        org.name = name.strip()[:120] or org.name
        org.settings = {**org.settings, "weekly_report": weekly_report == "on"}
        audit.record(session, service.clock, principal=caller, action="org.edit", target=org.id)
    return see_other("/dashboard/settings")


@router.post("/settings/erase")
def erase_account(
    request: Request,
    password: Secret,
    give_up: Text = "",
    caller: Principal = require("account:self", rate="20/hour"),
) -> HTMLResponse:
    """Erase the account, and the organization where nobody else is in it."""
    service = service_of(request)
    try:
        privacy.erase(service, caller, password=password, give_up_balance=give_up == "on")
    except ServiceError as refused:
        return _settings_page(request, caller, problem=refused.message, status=refused.status)
    answer = page(
        request,
        Principal(),
        "public/message.html",
        heading="Your account is erased",
        text="What we kept about you is removed now; files and mails follow within minutes.",
        has_outbox=False,
        link=("/", "To the start"),
    )
    cookies.clear_session(answer, service.settings)
    return answer


_EACH_OWN = for_sessions(least="viewer", other_tenant=200)
_SAVED = for_sessions(303, least="viewer", other_tenant=303)

ACCESS: tuple[Row, ...] = (
    Row("GET", "/dashboard/keys", for_sessions(least="member", other_tenant=200)),
    Row("POST", "/dashboard/keys", for_sessions(least="admin", other_tenant=200), form={"name": "new"}),
    Row("POST", "/dashboard/keys/{key_id}/rotate", for_sessions(least="admin"), seed=a_key),
    Row("POST", "/dashboard/keys/{key_id}/revoke", for_sessions(303, least="admin"), seed=a_key),
    Row("GET", "/dashboard/namespaces", _EACH_OWN),
    Row(
        "POST",
        "/dashboard/namespaces",
        for_sessions(303, least="admin", other_tenant=303),
        seed=our_namespace,
        form={"name": "{new}"},
    ),
    Row(
        "POST",
        "/dashboard/namespaces/{name}",
        for_sessions(303, least="admin"),
        seed=our_namespace,
        form={"node": "metadata_cache"},
    ),
    Row("POST", "/dashboard/namespaces/{name}/upgrade", for_sessions(303, least="admin"), seed=our_namespace),
    Row("POST", "/dashboard/namespaces/{name}/remove", for_sessions(303, least="admin"), seed=our_namespace),
    Row("GET", "/dashboard/settings", _EACH_OWN),
    Row("POST", "/dashboard/settings/profile", _SAVED, form={"first_name": "Ada"}),
    Row(
        "POST",
        "/dashboard/settings/password",
        for_sessions(403, least="viewer", other_tenant=403),
        form={"current": "wrong", "new": "a long enough phrase"},
    ),
    Row(
        "POST",
        "/dashboard/settings/sessions/{session_id}/end",
        {**for_sessions(404, least="viewer"), "admin": 303},
        seed=a_session,
    ),
    Row(
        "POST",
        "/dashboard/settings/second-factor/remove",
        for_sessions(403, least="viewer", other_tenant=403),
        form={"password": "wrong"},
    ),
    Row(
        "POST",
        "/dashboard/settings/erase",
        for_sessions(403, least="viewer", other_tenant=403),
        form={"password": "wrong"},
    ),
    Row(
        "POST",
        "/dashboard/settings/organization",
        for_sessions(303, least="admin", other_tenant=303),
        form={"name": "Renamed", "weekly_report": "on"},
    ),
)

"""Two organizations with their people and keys: the callers of the access matrix."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from agentcache_service.identity import orgs
from agentcache_service.identity.credentials import cookie_name, csrf_token
from agentcache_service.identity.keys import create_key, revoke_key
from agentcache_service.identity.sessions import open_session
from agentcache_service.identity.tables import Membership, Org, User
from agentcache_service.orm import new_id
from agentcache_service.policy import SCOPES
from agentcache_service.principal import Principal
from agentcache_service.service import Service

SHARED_NAMESPACE = "storage"
PASSWORD = "plain old horse 77"


@dataclass(frozen=True, slots=True)
class Caller:
    """The headers that make one caller."""

    headers: Mapping[str, str]
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class World:
    """Our organization, and every caller by its name in `matrix.CALLERS` (plus `staff`)."""

    org_id: str
    admin_id: str
    callers: Mapping[str, Caller]


def make_user(service: Service, name: str, *, role: str = "user") -> str:
    now = service.clock.now()
    user = User(
        id=new_id("usr"),
        email=f"{name}@example.com",
        username=name,
        first_name=name.title(),
        last_name="Tester",
        password_hash=service.passwords.hash(PASSWORD),
        platform_role=role,
        verified_at=now,
        created_at=now,
    )
    with service.db.write() as session:
        session.add(user)
    return user.id


def make_org(
    service: Service, user_id: str, *, name: str = "Acme", sector: str = "filestorage", plan: str = "business"
) -> str:
    with service.db.write() as session:
        org = orgs.create_org(service, session, user_id=user_id, name=name, sector=sector)
        org.plan, org.trial_ends_at = plan, None
        return org.id


def add_member(service: Service, org_id: str, user_id: str, role: str) -> None:
    with service.db.write() as session:
        session.add(Membership(org_id=org_id, user_id=user_id, role=role, created_at=service.clock.now()))


def sign_in(service: Service, user_id: str, *, second_factor: bool = False) -> Caller:
    """The headers of a signed-in browser, CSRF token included."""
    with service.db.write() as session:
        token = open_session(service, session, user_id=user_id, second_factor=second_factor)
    cookie = f"{cookie_name(is_https=service.settings.is_https)}={token}"
    return Caller({"cookie": cookie, "x-csrf-token": csrf_token(token)}, user_id)


def principal_of(service: Service, org_id: str, user_id: str) -> Principal:
    return Principal(kind="session", user_id=user_id, org_id=org_id, role="admin")


def make_key(
    service: Service,
    org_id: str,
    user_id: str,
    *,
    scopes: tuple[str, ...] = SCOPES,
    namespaces: list[str] | None = None,
    revoked: bool = False,
    use_in: str = SHARED_NAMESPACE,
) -> Caller:
    """The headers of a program with a new API key, working in `use_in`."""
    principal = principal_of(service, org_id, user_id)
    with service.db.write() as session:
        made = create_key(service, session, principal, name="test", scopes=scopes, namespaces=namespaces)
        session.flush()
        if revoked:
            revoke_key(service, session, principal, key_id=made.row.id)
    return Caller({"x-api-key": made.secret, "x-namespace": use_in})


def org_of(service: Service, org_id: str) -> Org:
    with service.db.read() as session:
        return orgs.get(session, org_id)


def build_world(service: Service, *, scope: str | None) -> World:
    """Everybody. `scope` is what the route under test needs of a key: `wrong_scope` has every other one."""
    turn = secrets.token_hex(4)  # several worlds may live in one database
    admin, member, viewer, stranger, staff = (
        make_user(service, f"{name}-{turn}", role="admin" if name == "staff" else "user")
        for name in ("admin", "member", "viewer", "stranger", "staff")
    )
    org_id = make_org(service, admin)
    add_member(service, org_id, member, "member")
    add_member(service, org_id, viewer, "viewer")
    other = make_org(service, stranger, name="Others")
    others = tuple(item for item in SCOPES if item != scope)
    callers = {
        "admin": sign_in(service, admin),
        "member": sign_in(service, member),
        "viewer": sign_in(service, viewer),
        "other_tenant": sign_in(service, stranger),
        "staff": sign_in(service, staff, second_factor=True),
        "anonymous": Caller({}),
        "key": make_key(service, org_id, admin),
        "other_namespace": make_key(service, org_id, admin, namespaces=["cdn"]),
        "other_tenant_key": make_key(service, other, stranger),
        "revoked_key": make_key(service, org_id, admin, revoked=True),
        "wrong_scope": make_key(service, org_id, admin, scopes=others),
    }
    return World(org_id, admin, callers)

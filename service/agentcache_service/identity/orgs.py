"""Organizations: made with the namespaces of their sector, bounded by their plan."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.errors import Conflict, NotFound, QuotaExceeded, Unprocessable
from agentcache_service.identity import presets
from agentcache_service.identity.tables import Membership, Namespace, Org
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.usage.plans import Plan

if TYPE_CHECKING:
    from agentcache_service.service import Service

NAMESPACE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?")


def create_org(
    service: Service, session: Session, *, user_id: str, name: str, sector: str, description: str = ""
) -> Org:
    """A new organization on the trial, with its first admin and the namespaces of its sector."""
    preset = presets.sectors().get(sector)
    if preset is None:
        raise Unprocessable(f"Unknown sector {sector!r}; known are {sorted(presets.sectors())}.", code="sector_unknown")
    now = service.clock.now()
    org = Org(
        id=new_id("org"),
        slug=_free_slug(session, name),
        name=name.strip(),
        description=description.strip(),
        sector=sector,
        plan=service.plans.after_trial,
        trial_ends_at=now + timedelta(days=service.plans.trial_days),
        settings={},
        created_at=now,
    )
    session.add(org)
    session.flush()
    session.add(Membership(org_id=org.id, user_id=user_id, role="admin", created_at=now))
    for number, room in enumerate(preset.namespaces):  # the first ones outlive a smaller plan, so their order is kept
        session.add(_namespace(org.id, room.name, room.nodes, at=now + timedelta(microseconds=number)))
    session.flush()
    audit.record(session, service.clock, principal=None, action="org.create", target=org.id, org_id=org.id)
    return org


def _free_slug(session: Session, name: str) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:48] or "org"
    taken = session.scalar(select(Org.id).where(Org.slug == base))
    return base if taken is None else f"{base}-{secrets.token_hex(3)}"


def get(session: Session, org_id: str) -> Org:
    """The organization; raises `NotFound`."""
    org = session.get(Org, org_id)
    if org is None:
        raise NotFound("There is no such organization.")
    return org


def lock(session: Session, org_id: str) -> Org:
    """The organization, held until the transaction ends: for decisions that count its things."""
    org = session.scalars(select(Org).where(Org.id == org_id).with_for_update()).one_or_none()
    if org is None:
        raise NotFound("There is no such organization.")
    return org


def plan_of(service: Service, org: Org) -> Plan:
    """The plan in force now."""
    return service.plans.current(org.plan, org.trial_ends_at, service.clock.now())


def limit_reached(service: Service, message: str) -> QuotaExceeded:
    """The refusal for a number the plan bounds."""
    return QuotaExceeded(message, upgrade_url=f"{service.settings.public_url}/pricing")


def namespaces(session: Session, org_id: str) -> Sequence[Namespace]:
    """The organization's namespaces, oldest first."""
    query = select(Namespace).where(Namespace.org_id == org_id).order_by(Namespace.created_at, Namespace.name)
    return session.scalars(query).all()


def namespace(session: Session, org_id: str, name: str) -> Namespace:
    """One namespace by its name; raises `NotFound`."""
    query = select(Namespace).where(Namespace.org_id == org_id, Namespace.name == name)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no namespace {name!r}.")
    return row


def writable_names(service: Service, session: Session, org: Org) -> set[str]:
    """The namespaces that accept writes: the oldest ones, as many as the plan includes; the others are read-only."""
    limit = plan_of(service, org).limits["namespaces"]
    names = [row.name for row in namespaces(session, org.id)]
    return set(names if limit is None else names[:limit])


def add_namespace(
    service: Service, session: Session, principal: Principal, *, name: str, nodes: Sequence[str]
) -> Namespace:
    """A further namespace, within the plan's number."""
    if not NAMESPACE_NAME.fullmatch(name):
        raise Unprocessable(
            "A namespace's name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins and ends with a letter or digit.",
            code="namespace_name",
        )
    org = lock(session, principal.tenant)
    limit = plan_of(service, org).limits["namespaces"]
    count = session.scalar(select(func.count()).select_from(Namespace).where(Namespace.org_id == org.id)) or 0
    if limit is not None and count >= limit:
        raise limit_reached(service, f"This plan includes {limit} namespaces.")
    if any(row.name == name for row in namespaces(session, org.id)):
        raise Conflict(f"There is a namespace {name!r} already.", code="namespace_exists")
    row = _namespace(org.id, name, nodes, at=service.clock.now())
    session.add(row)
    audit.record(session, service.clock, principal=principal, action="namespace.create", target=name)
    return row


def _namespace(org_id: str, name: str, nodes: Sequence[str], *, at: datetime) -> Namespace:
    chosen = [presets.as_stored(node) for node in nodes]
    return Namespace(id=new_id("ns"), org_id=org_id, name=name, nodes=chosen, created_at=at)


def edit_nodes(
    service: Service, session: Session, principal: Principal, *, name: str, nodes: Sequence[Mapping[str, Any]]
) -> Namespace:
    """Replace a namespace's nodes: `[{"preset", "settings", "version"}]`, settings overriding the preset's.

    A preset the namespace has already keeps its version unless the newest is named.
    """
    row = namespace(session, principal.tenant, name)
    row.nodes = [
        presets.chosen_anew(row.nodes, str(node["preset"]), node.get("settings"), node.get("version")) for node in nodes
    ]
    _note_edit(service, session, principal, name)
    return row


def remove_namespace(service: Service, session: Session, principal: Principal, *, name: str) -> None:
    """Remove a namespace's row: a part of `cacheapi.removal.remove_namespace`, which removes what it holds."""
    row = namespace(session, principal.tenant, name)
    session.delete(row)
    audit.record(session, service.clock, principal=principal, action="namespace.remove", target=name)


def choose_nodes(
    service: Service, session: Session, principal: Principal, *, name: str, chosen: Sequence[str], ttl_s: int | None
) -> Namespace:
    """Add and remove nodes by name, and set how long the namespace keeps entries (None: as its nodes say).

    Nodes that stay keep their place, their version and their settings; new ones come after them.
    """
    row = namespace(session, principal.tenant, name)
    kept = [node for node in row.nodes if node["preset"] in chosen]
    own = next((dict(node["settings"]) for node in row.nodes if node["preset"] == presets.CUSTOM), {})
    own = {key: value for key, value in own.items() if key != "ttl_s"} | ({} if ttl_s is None else {"ttl_s": ttl_s})
    known = {node["preset"] for node in kept}
    added = [presets.as_stored(key) for key in chosen if key not in known and key != presets.CUSTOM]
    custom = [presets.as_stored(presets.CUSTOM, own)] if own else []
    row.nodes = [*(node for node in kept if node["preset"] != presets.CUSTOM), *added, *custom]
    _note_edit(service, session, principal, name)
    return row


def upgrade_nodes(service: Service, session: Session, principal: Principal, *, name: str) -> Namespace:
    """Move every node of a namespace to its preset's newest version; own settings stay."""
    row = namespace(session, principal.tenant, name)
    row.nodes = [presets.as_stored(node["preset"], node.get("settings")) for node in row.nodes]
    _note_edit(service, session, principal, name)
    return row


def _note_edit(service: Service, session: Session, principal: Principal, name: str) -> None:
    audit.record(session, service.clock, principal=principal, action="namespace.edit", target=name)

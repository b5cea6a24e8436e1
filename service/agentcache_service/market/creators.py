"""Creators: organizations that sell, once a verified person stands behind them and they can be paid."""

from __future__ import annotations

from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.errors import Conflict, NotFound
from agentcache_service.identity.tables import User
from agentcache_service.money.billing_tables import BillingAccount
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from .tables import Creator


def become(service: Service, session: Session, principal: Principal, *, display_name: str, about: str) -> Creator:
    """Make the organization a creator, or change how it presents itself."""
    row = session.get(Creator, principal.tenant)
    if row is None:
        row = Creator(
            org_id=principal.tenant,
            display_name=display_name,
            about=about,
            created_by=principal.user,
            created_at=service.clock.now(),
        )
        session.add(row)
        person = session.get_one(User, principal.user)
        if person.platform_role == "user":
            person.platform_role = "creator"
        audit.record(session, service.clock, principal=principal, action="market.creator")
    row.display_name, row.about = display_name, about
    return row


def of(session: Session, org_id: str) -> Creator:
    """The organization as a creator; `Conflict` when it is none yet."""
    row = session.get(Creator, org_id)
    if row is None:
        raise Conflict("Become a creator first: PUT /api/market/creator.", code="not_a_creator")
    return row


def profile(session: Session, org_id: str) -> Creator:
    """A creator as anybody may see it."""
    row = session.get(Creator, org_id)
    if row is None:
        raise NotFound("There is no such creator.")
    return row


def check_may_sell(session: Session, org_id: str) -> None:
    """Raise `Conflict` unless a verified person created this creator and a payout method is set."""
    row = of(session, org_id)
    person = session.get(User, row.created_by)
    if person is None or person.verified_at is None:
        raise Conflict("Verify your e-mail address before publishing.", code="not_verified")
    account = session.get(BillingAccount, org_id)
    if account is None or account.payee_ref is None:
        raise Conflict("Set up where to be paid before publishing.", code="payout_method_missing")

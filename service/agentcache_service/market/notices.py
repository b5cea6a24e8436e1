"""Mails about the marketplace: to an organization's admins, in the transaction of what they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.identity.tables import Membership, User
from agentcache_service.mail import queue_mail
from agentcache_service.service import Service

from .tables import Listing, Purchase


def tell_org(
    service: Service,
    session: Session,
    org_id: str,
    *,
    template: str,
    context: Mapping[str, Any],
    dedupe: str | None = None,
) -> None:
    """Queue a mail to every admin of an organization; `dedupe` makes it once per admin."""
    people = (
        select(User)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.org_id == org_id, Membership.role == "admin", User.erased_at.is_(None))
    )
    for person in session.scalars(people):
        queue_mail(
            session,
            service.clock,
            service.vault,
            to=person.email,
            template=template,
            org_id=org_id,
            context={**context, "user": person, "url": service.settings.public_url},
            dedupe_key=f"{dedupe}:{person.id}" if dedupe else None,
        )


def tell_of_version(service: Service, session: Session, row: Listing, version: str) -> int:
    """Tell every buyer with a living purchase that a new version is out; how many organizations were told."""
    query = select(Purchase.org_id).where(Purchase.listing_id == row.id, Purchase.status == "completed").distinct()
    buyers = list(session.scalars(query))
    for org_id in buyers:
        tell_org(
            service,
            session,
            org_id,
            template="market_version",
            dedupe=f"version:{row.id}:{version}",
            context={"name": row.name, "version": version, "listing": row.id},
        )
    return len(buyers)

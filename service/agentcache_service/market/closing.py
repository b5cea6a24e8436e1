"""Ending an organization's part in the marketplaces: what has to be settled first, and what then ends.

A creator withdraws its listings first: subscriptions then run out instead of renewing, and nobody loses time that was
paid for. What is left ends when the organization closes.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from agentcache_service.errors import Conflict, ServiceError
from agentcache_service.service import Service

from . import connections, notices, partner_jobs, usage_charges
from .integration_tables import Commission, PartnerJob
from .tables import AccessKey, Listing, ListingCredential, ListingVersion, Purchase

_log = structlog.get_logger("agentcache_service.market")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """CIDs of blobs that nothing names any more: credentials, and packages that were never sold."""

    credentials: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def settle(service: Service, org_id: str) -> None:
    """Charge metered usage of both sides and stop jobs at partners; outside transactions, for it calls others."""
    with service.db.read() as session:
        query = select(Purchase.id).where((Purchase.org_id == org_id) | (Purchase.creator_org_id == org_id))
        metered = list(session.scalars(query.where(Purchase.pricing == "usage_based")))
        running = list(
            session.scalars(
                select(PartnerJob).where(PartnerJob.org_id == org_id, PartnerJob.state.in_(("queued", "running")))
            )
        )
    for name in metered:
        usage_charges.charge(service, name)
    for job in running:
        try:
            partner_jobs.stop(service, job)
        except ServiceError as trouble:  # the partner is away: its job ends by itself, our credential is gone anyway
            _log.warning("a job was left to its partner", job=job.id, partner=job.partner, error=trouble.message)


def refuse_while_open(service: Service, session: Session, org_id: str) -> None:
    """Raise `Conflict` while the organization owes for usage, or others have time left that they paid for."""
    mine = select(Purchase.id).where(Purchase.org_id == org_id)
    if any(usage_charges.unpaid(session, name) for name in session.scalars(mine)):
        raise Conflict("Usage of a model is unpaid: store a card that works, then try again.", code="usage_unpaid")
    until = session.scalar(
        select(func.max(Purchase.access_until)).where(
            Purchase.creator_org_id == org_id,
            Purchase.pricing == "subscription",
            Purchase.status == "completed",
            Purchase.access_until > service.clock.now(),
        )
    )
    if until is not None:
        raise Conflict(
            f"Buyers have paid for your listings until {until:%Y-%m-%d}. Withdraw the listings, so that nothing "
            "renews, and close the organization after that day.",
            code="buyers_have_access",
            extra={"until": until.isoformat()},
        )


def commissions_on_hold(session: Session, org_id: str) -> int:
    """What the organization would earn from commissions that are not approved yet, in micro-USD."""
    query = select(func.coalesce(func.sum(Commission.share), 0))
    return int(session.scalar(query.where(Commission.org_id == org_id, Commission.state == "pending")) or 0)


def close(service: Service, session: Session, org_id: str) -> Leftovers:
    """End purchases, sales, connections and pending commissions; revocations at partners become jobs."""
    now = service.clock.now()
    connections.drop_all(service, session, org_id)
    session.execute(
        update(Commission)
        .where(Commission.org_id == org_id, Commission.state == "pending")
        .values(state="void", settled_at=now)
    )
    session.execute(update(Purchase).where(Purchase.org_id == org_id).values(renews=False))
    sold = Purchase.creator_org_id == org_id
    _tell_buyers(service, session, org_id)
    session.execute(update(Purchase).where(sold).values(renews=False))
    session.execute(
        update(Purchase)
        .where(sold, Purchase.kind == "model", Purchase.status == "completed")
        .values(access_until=now, ended_at=now)
    )
    listed = select(Listing.id).where(Listing.org_id == org_id)
    session.execute(update(AccessKey).where(AccessKey.listing_id.in_(listed)).values(active=False))
    credentials = session.scalars(select(ListingCredential.cid).where(ListingCredential.listing_id.in_(listed)))
    return Leftovers(tuple(credentials), tuple(_unsold_packages(session, org_id)))


def _tell_buyers(service: Service, session: Session, org_id: str) -> None:
    """Mail the buyers of models whose access ends now."""
    query = select(Purchase).where(
        Purchase.creator_org_id == org_id,
        Purchase.kind == "model",
        Purchase.status == "completed",
        Purchase.access_until.is_(None) | (Purchase.access_until > service.clock.now()),
    )
    for purchase in session.scalars(query):
        context = {"bought": purchase.completed_at or purchase.created_at, "purchase": purchase.id}
        notices.tell_org(service, session, purchase.org_id, template="market_closed", context=context)


def _unsold_packages(session: Session, org_id: str) -> list[str]:
    """Take the packages off versions of listings nobody has bought; their CIDs, where no other listing names them."""
    bought = select(Purchase.listing_id).where(Purchase.status == "completed")
    listed = select(Listing.id).where(Listing.org_id == org_id, Listing.id.not_in(bought))
    query = select(ListingVersion).where(ListingVersion.listing_id.in_(listed), ListingVersion.package_cid.is_not(None))
    cids = []
    for version in session.scalars(query):
        cids.append(str(version.package_cid))
        version.package_cid = version.package_sha256 = None
        version.files = []
    session.flush()
    named = select(ListingVersion.package_cid).where(ListingVersion.package_cid.in_(cids))
    still = set(session.scalars(named))
    return [cid for cid in dict.fromkeys(cids) if cid not in still]


def remove_blobs(service: Service, left: Leftovers) -> None:
    """Remove what nothing names; repeating it is harmless. Raises `BlobError` when a store cannot be reached."""
    for cid in left.credentials:
        service.market.credentials.remove(cid)
    for cid in left.packages:
        service.market.packages.remove(cid)

"""Packages of agents: taken in after checking, handed out by signed links, every download counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlalchemy.orm import Session

from agentcache_service.errors import Forbidden, NotFound, Unprocessable
from agentcache_service.orm import new_id
from agentcache_service.service import Service

from . import listings, sales
from .archive import ArchiveRefused, Package, check_package
from .tables import Download, Listing, ListingVersion, Purchase

PURPOSE = "market download"
LINK_LIFE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A package on its way to a buyer."""

    name: str
    body: bytes
    sha256: str


def take_in(service: Service, body: bytes) -> tuple[Package, str, int]:
    """Check an uploaded package and keep it; what `listings.add_version` wants."""
    try:
        package = check_package(body)
    except ArchiveRefused as refused:
        raise Unprocessable(str(refused), code="package_refused") from refused
    return package, service.market.packages.put(body), len(body)


def downloadable(session: Session, purchase: Purchase, now: datetime) -> list[ListingVersion]:
    """The versions a purchase may download, newest first.

    Bought once: every version, for ever. By subscription: those published while it was paid for, kept afterwards.
    """
    if purchase.kind != "agent" or purchase.status != "completed":
        return []
    rows = listings.versions(session, purchase.listing_id)
    if purchase.pricing == "subscription" and not sales.has_access(purchase, now):
        end = purchase.access_until
        rows = [row for row in rows if end is not None and row.created_at <= end]
    return rows


def link(service: Service, purchase: Purchase, version: str) -> str:
    """An address that downloads one version for a quarter of an hour, without a session."""
    expires = int((service.clock.now() + LINK_LIFE).timestamp())
    signature = service.vault.sign(f"{purchase.id}|{version}|{expires}", purpose=PURPOSE)
    path = f"/api/market/purchases/{purchase.id}/download"
    return f"{service.settings.public_url}{path}?version={version}&expires={expires}&signature={signature}"


def check_link(service: Service, purchase_id: str, *, version: str, expires: int, signature: str) -> None:
    """Refuse a link that is not ours or has expired."""
    if not service.vault.verify(f"{purchase_id}|{version}|{expires}", signature, purpose=PURPOSE):
        raise Forbidden("This download link is not valid.", code="link_invalid")
    if expires < service.clock.now().timestamp():
        raise Forbidden("This download link has expired; get a new one from the purchase.", code="link_expired")


def deliver(service: Service, purchase_id: str, version: str | None) -> Delivery:
    """One version's package, counted. `None` means the newest the purchase may have."""
    now = service.clock.now()
    with service.db.write() as session:
        purchase = session.get(Purchase, purchase_id)
        if purchase is None:
            raise NotFound("There is no such purchase.")
        allowed = downloadable(session, purchase, now)
        chosen = next((row for row in allowed if version is None or row.version == version), None)
        if chosen is None or chosen.package_cid is None:
            raise Forbidden("This purchase does not include that download.", code="no_access")
        session.add(
            Download(
                id=new_id("dwn"),
                purchase_id=purchase.id,
                listing_id=purchase.listing_id,
                version=chosen.version,
                at=now,
            )
        )
        session.execute(
            update(Listing).where(Listing.id == purchase.listing_id).values(downloads=Listing.downloads + 1)
        )
        row = session.get_one(Listing, purchase.listing_id)
        name = f"{''.join(c if c.isalnum() else '-' for c in row.name.lower())}-{chosen.version}.zip"
        cid, digest = chosen.package_cid, chosen.package_sha256 or ""
    return Delivery(name, service.market.packages.get(cid), digest)

"""What goes with a listing: similar ones by category, tags and use, and what its buyers bought as well."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from .tables import Listing, Purchase

SHOWN = 4


def similar(session: Session, row: Listing) -> list[Listing]:
    """Active listings that share most with this one; those that share nothing are left out."""
    query = select(Listing).where(Listing.status == "active", Listing.id != row.id).order_by(Listing.sales.desc())
    scored = [(likeness(row, other), other) for other in session.scalars(query.limit(500))]
    best = sorted((item for item in scored if item[0] > 0), key=lambda item: (-item[0], item[1].id))
    return [other for _score, other in best[:SHOWN]]


def likeness(one: Listing, other: Listing) -> float:
    """Between 0 and 3: shared tags (Jaccard), the same category, shared words of the use case."""
    tags, theirs = set(one.tags), set(other.tags)
    shared = len(tags & theirs) / len(tags | theirs) if tags | theirs else 0.0
    words, their_words = set(one.use_case.lower().split()), set(other.use_case.lower().split())
    uses = len(words & their_words) / len(words | their_words) if words | their_words else 0.0
    if not shared and not uses and one.category != other.category:
        return 0.0
    return shared + uses + (one.category == other.category) * 0.5 + (one.kind == other.kind) * 0.25


def bought_together(session: Session, row: Listing) -> list[Listing]:
    """Active listings that organizations which bought this one bought as well, most often first."""
    buyers = select(Purchase.org_id).where(Purchase.listing_id == row.id, Purchase.status == "completed")
    query = (
        select(Listing)
        .join(Purchase, Purchase.listing_id == Listing.id)
        .where(
            Purchase.org_id.in_(buyers),
            Purchase.status == "completed",
            Listing.id != row.id,
            Listing.status == "active",
        )
        .group_by(Listing.id)
        .order_by(func.count(func.distinct(Purchase.org_id)).desc(), Listing.id)
        .limit(SHOWN)
    )
    return list(session.scalars(query))

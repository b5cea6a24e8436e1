"""Ratings and reviews: one per organization and listing, by buyers who really bought, counted unless hidden."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.errors import Forbidden, Unprocessable
from agentcache_service.identity.tables import User
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import listings, ratings
from .tables import Purchase, Review


def write(
    service: Service, session: Session, principal: Principal, *, listing_id: str, rating: int, words: str
) -> Review:
    """Write or rewrite the organization's review; only after a purchase that was completed."""
    if not 1 <= rating <= 5:
        raise Unprocessable("A rating is 1 to 5 stars.")
    row = listings.visible(session, listing_id, org_id=principal.tenant)
    bought = session.scalars(
        select(Purchase)
        .where(Purchase.listing_id == row.id, Purchase.org_id == principal.tenant, Purchase.status == "completed")
        .limit(1)
    ).one_or_none()
    if bought is None:
        raise Forbidden("Only those who bought this may review it.", code="not_a_buyer")
    now = service.clock.now()
    query = select(Review).where(Review.listing_id == row.id, Review.org_id == principal.tenant)
    review = session.scalars(query).one_or_none()
    if review is None:
        review = Review(
            id=new_id("rev"),
            listing_id=row.id,
            purchase_id=bought.id,
            org_id=principal.tenant,
            author=session.get_one(User, principal.user).username,
            rating=rating,
            words=words,
            hidden=False,
            created_at=now,
            updated_at=now,
        )
        session.add(review)
    else:
        review.rating, review.words, review.updated_at = rating, words, now
    session.flush()
    ratings.recount(session, row)
    return review


def of_listing(session: Session, listing_id: str) -> list[Review]:
    """A listing's visible reviews, newest first."""
    query = (
        select(Review)
        .where(Review.listing_id == listing_id, Review.hidden.is_(False))
        .order_by(Review.updated_at.desc())
        .limit(100)
    )
    return list(session.scalars(query))

"""Rating sums of listings, kept for searching and always recounted from the visible reviews."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from .tables import Listing, Review


def set_hidden(session: Session, review_id: str, *, hidden: bool) -> None:
    """Hide a review, or show it again, and count anew."""
    review = session.get(Review, review_id)
    if review is not None:
        review.hidden = hidden
        session.flush()
        recount(session, session.get_one(Listing, review.listing_id))


def recount(session: Session, row: Listing) -> None:
    """Bring a listing's rating sums in line with its visible reviews."""
    query = select(Review.rating).where(Review.listing_id == row.id, Review.hidden.is_(False))
    ratings = list(session.scalars(query))
    row.rating_sum, row.rating_count = sum(ratings), len(ratings)

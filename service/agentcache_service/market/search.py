"""Search of listings: words, filters and orders, in the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Select, String, case, cast, func, or_, select
from sqlalchemy.orm import Session

from .tables import Listing

Order = Literal["relevance", "rating", "price", "newest", "popular", "latency"]
ORDERS: tuple[Order, ...] = get_args(Order)
PAGE = 24


@dataclass(frozen=True, slots=True)
class Filters:
    """What a visitor asks for; prices in micro-USD, latency in milliseconds. None filters nothing."""

    words: str = ""
    kind: str | None = None
    category: str | None = None
    tag: str | None = None
    use_case: str | None = None
    pricing: str | None = None
    least_price: int | None = None
    most_price: int | None = None
    least_rating: float | None = None
    most_latency: int | None = None
    order: Order = "relevance"
    page: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """One page of results and how many there are in all."""

    rows: list[Listing]
    total: int
    page: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.total // PAGE))


_RATING = case((Listing.rating_count > 0, 1.0 * Listing.rating_sum / func.nullif(Listing.rating_count, 0)), else_=0.0)
_LATENCY = case(
    (Listing.calls > 0, 1.0 * Listing.call_ms / func.nullif(Listing.calls, 0)),
    (Listing.checks_ok > 0, 1.0 * Listing.check_ms / func.nullif(Listing.checks_ok, 0)),
    else_=None,
)


def find(session: Session, wanted: Filters) -> Found:
    """One page of active listings."""
    query = _filtered(select(Listing).where(Listing.status == "active"), wanted)
    total = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    page = max(1, wanted.page)
    rows = session.scalars(query.order_by(*_order(wanted), Listing.id).limit(PAGE).offset((page - 1) * PAGE))
    return Found(list(rows), total, page)


def latency_ms(row: Listing) -> int | None:
    """The mean milliseconds of a listing's calls, or of its health checks before the first call."""
    if row.calls:
        return row.call_ms // row.calls
    return row.check_ms // row.checks_ok if row.checks_ok else None


def uptime(row: Listing) -> float | None:
    """The share of health checks that were answered, or None before the first."""
    return row.checks_ok / row.checks if row.checks else None


def rating(row: Listing) -> float | None:
    """The mean of the visible ratings, or None."""
    return row.rating_sum / row.rating_count if row.rating_count else None


def _filtered(query: Select[Listing], wanted: Filters) -> Select[Listing]:
    for word in wanted.words.lower().split()[:8]:
        query = query.where(or_(*(column.contains(word, autoescape=True) for column in _searched())))
    if wanted.tag:
        query = query.where(_tags().contains(f'"{wanted.tag.lower()}"', autoescape=True))
    if wanted.use_case:
        query = query.where(func.lower(Listing.use_case).contains(wanted.use_case.lower(), autoescape=True))
    for column, value in (
        (Listing.kind, wanted.kind),
        (Listing.category, wanted.category),
        (Listing.pricing, wanted.pricing),
    ):
        if value:
            query = query.where(column == value)
    if wanted.least_price is not None:
        query = query.where(Listing.price >= wanted.least_price)
    if wanted.most_price is not None:
        query = query.where(Listing.price <= wanted.most_price)
    if wanted.least_rating is not None:
        query = query.where(wanted.least_rating <= _RATING)
    if wanted.most_latency is not None:
        query = query.where(wanted.most_latency >= _LATENCY)
    return query


def _tags() -> ColumnElement[str]:
    return func.lower(cast(Listing.tags, String))


def _searched() -> tuple[ColumnElement[str], ...]:
    plain = (Listing.name, Listing.summary, Listing.description, Listing.use_case, Listing.category)
    return (*(func.lower(column) for column in plain), _tags())


def _order(wanted: Filters) -> tuple[ColumnElement[Any], ...]:
    match wanted.order:
        case "rating":
            return (_RATING.desc(), Listing.rating_count.desc())
        case "price":
            return (Listing.price.asc(), Listing.price_per_call.asc())
        case "newest":
            return (Listing.published_at.desc(),)
        case "popular":
            return (Listing.sales.desc(), Listing.downloads.desc())
        case "latency":
            return (_LATENCY.is_(None), _LATENCY.asc())
        case _:
            words = wanted.words.lower().split()[:8]
            in_name = [func.lower(Listing.name).contains(word, autoescape=True) for word in words]
            hits = sum((case((found, 1), else_=0) for found in in_name), start=case((Listing.id.is_(None), 1), else_=0))
            return (hits.desc(), Listing.sales.desc(), _RATING.desc())

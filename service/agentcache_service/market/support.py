"""The support thread of a purchase: buyer and creator talk, nobody else reads, the other side is told by mail."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from agentcache_service.errors import NotFound
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import notices
from .tables import Listing, Message, Purchase


def thread(session: Session, org_id: str, purchase_id: str) -> list[Message]:
    """The messages of a purchase, oldest first, for its buyer or its creator."""
    _part_in(session, org_id, purchase_id)
    return list(session.scalars(select(Message).where(Message.purchase_id == purchase_id).order_by(Message.at)))


def write(service: Service, session: Session, principal: Principal, *, purchase_id: str, words: str) -> Message:
    """Add a message and tell the other side."""
    purchase, sender = _part_in(session, principal.tenant, purchase_id)
    row = Message(
        id=new_id("msg"),
        purchase_id=purchase.id,
        sender=sender,
        user_id=principal.user,
        words=words,
        at=service.clock.now(),
    )
    session.add(row)
    other = purchase.creator_org_id if sender == "buyer" else purchase.org_id
    notices.tell_org(service, session, other, template="market_message", context={"sender": sender})
    return row


def _part_in(session: Session, org_id: str, purchase_id: str) -> tuple[Purchase, str]:
    purchase = session.get(Purchase, purchase_id)
    if purchase is None or org_id not in {purchase.org_id, purchase.creator_org_id}:
        raise NotFound("There is no such purchase.")
    return purchase, "buyer" if purchase.org_id == org_id else "creator"


def open_threads(session: Session, org_id: str) -> list[tuple[Purchase, Listing, Message]]:
    """The threads of a creator's sales with their latest message, the newest first."""
    query = (
        select(Purchase, Listing, Message)
        .join(Listing, Listing.id == Purchase.listing_id)
        .join(Message, Message.purchase_id == Purchase.id)
        .where(Purchase.creator_org_id == org_id)
        .order_by(Message.at.desc())
    )
    latest: dict[str, tuple[Purchase, Listing, Message]] = {}
    for purchase, listing, message in session.execute(query.limit(500)):
        latest.setdefault(purchase.id, (purchase, listing, message))
    return list(latest.values())

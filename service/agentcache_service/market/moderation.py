"""Moderation: automatic checks hold a listing, people decide, creators appeal, and the queue shows what is open."""

from __future__ import annotations

import re
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.errors import Conflict, NotFound, Unprocessable
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import ratings
from .tables import Listing, ListingVersion, ModerationCase, Review

OPEN = ("open", "appealed")
_SUSPECT = (
    (
        "promises to get around a law or a protection",
        r"\b(?:undetectable|bypass(?:es)?\s+(?:drm|captcha|2fa)|carding|ddos)\b",
    ),
    ("sells credentials", r"\b(?:leaked|stolen|cracked)\s+(?:accounts?|api\s+keys?|credentials)\b"),
    (
        "asks to pay elsewhere",
        r"\b(?:pay|contact)\s+(?:me|us)\s+(?:via|on|by|through)\s+(?:telegram|whatsapp|paypal|crypto)\b",
    ),
)
_LINKS = re.compile(r"https?://", re.IGNORECASE)
MAX_LINKS = 15


def automatic_findings(row: Listing, version: ListingVersion | None) -> list[str]:
    """Why a listing needs a person's look, by the rules a machine can apply."""
    text = f"{row.name}\n{row.summary}\n{row.description}"
    found = [what for what, pattern in _SUSPECT if re.search(pattern, text, re.IGNORECASE)]
    if len(_LINKS.findall(text)) > MAX_LINKS:
        found.append(f"more than {MAX_LINKS} links")
    if len(row.description.strip()) < 30:
        found.append("a description of fewer than 30 characters")
    if version is not None:
        found += [f"{item['path']}:{item['line']}: {item['what']}" for item in version.findings[:20]]
    return found


def open_case(
    service: Service,
    session: Session,
    row: Listing,
    *,
    cause: Literal["automatic", "report"],
    findings: list[str],
    reporter: str | None = None,
    words: str = "",
    review_id: str | None = None,
) -> ModerationCase:
    """Put a listing (or one of its reviews) into the queue."""
    made = ModerationCase(
        id=new_id("mod"),
        listing_id=row.id,
        review_id=review_id,
        org_id=row.org_id,
        cause=cause,
        findings=findings,
        state="open",
        reporter_org_id=reporter,
        words=words,
        decision_note="",
        appeal="",
        opened_at=service.clock.now(),
    )
    session.add(made)
    return made


def open_case_of(session: Session, listing_id: str) -> ModerationCase | None:
    """The oldest open case about a listing itself."""
    query = (
        select(ModerationCase)
        .where(
            ModerationCase.listing_id == listing_id,
            ModerationCase.review_id.is_(None),
            ModerationCase.state.in_(OPEN),
        )
        .order_by(ModerationCase.opened_at)
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def was_approved(session: Session, row: Listing, version: ListingVersion) -> bool:
    """True when a person has let these very findings pass."""
    query = select(ModerationCase).where(
        ModerationCase.listing_id == row.id, ModerationCase.state.in_(("approved", "overturned"))
    )
    findings = automatic_findings(row, version)
    return any(list(case.findings) == findings for case in session.scalars(query))


def report(
    service: Service, session: Session, principal: Principal, *, listing_id: str, review_id: str | None, words: str
) -> ModerationCase:
    """A complaint about a listing or a review; one open complaint per organization and thing."""
    row = session.get(Listing, listing_id)
    if row is None or row.status != "active":
        raise NotFound("There is no such listing.")
    if review_id is not None:
        review = session.get(Review, review_id)
        if review is None or review.listing_id != listing_id:
            raise NotFound("There is no such review.")
    known = session.scalar(
        select(func.count())
        .select_from(ModerationCase)
        .where(
            ModerationCase.listing_id == listing_id,
            ModerationCase.review_id == review_id,
            ModerationCase.reporter_org_id == principal.tenant,
            ModerationCase.state == "open",
        )
    )
    if known:
        raise Conflict("You have reported this already; a moderator will look at it.")
    return open_case(
        service, session, row, cause="report", findings=[], reporter=principal.tenant, words=words, review_id=review_id
    )


def queue(session: Session) -> list[tuple[ModerationCase, Listing]]:
    """Open cases, appeals first, then the oldest."""
    query = (
        select(ModerationCase, Listing)
        .join(Listing, Listing.id == ModerationCase.listing_id)
        .where(ModerationCase.state.in_(OPEN))
        .order_by(ModerationCase.state, ModerationCase.opened_at)
    )
    return [(case, row) for case, row in session.execute(query)]


def decide(
    service: Service, session: Session, principal: Principal, *, case_id: str, approve: bool, note: str
) -> ModerationCase:
    """A person's decision. Rejecting takes a listing down (a review out of sight); approving lets it stand."""
    case = session.get(ModerationCase, case_id)
    if case is None:
        raise NotFound("There is no such case.")
    if case.state not in OPEN:
        raise Conflict(f"This case is {case.state} already.")
    if not approve and not note.strip():
        raise Unprocessable("Say why: the creator reads it.")
    on_appeal = case.state == "appealed"
    if on_appeal and case.decided_by == principal.user:
        raise Conflict("An appeal is decided by somebody else than the first decision.", code="same_moderator")
    now = service.clock.now()
    row = session.get_one(Listing, case.listing_id)
    if on_appeal:
        case.state = "overturned" if approve else "upheld"
    else:
        case.state = "approved" if approve else "rejected"
    case.decided_by, case.decision_note, case.decided_at = principal.user, note, now
    if case.review_id is not None:
        ratings.set_hidden(session, case.review_id, hidden=not approve)
    else:
        _apply(row, approve=approve, cause=case.cause, now_published=now)
    audit.record(
        session, service.clock, principal=principal, action=f"moderation.{case.state}", target=row.id, org_id=row.org_id
    )
    return case


def _apply(row: Listing, *, approve: bool, cause: str, now_published: Any) -> None:
    if not approve:
        row.status = "suspended"
    elif cause == "automatic" or row.status == "suspended":
        row.status = "active"
        row.published_at = row.published_at or now_published


def appeal(service: Service, session: Session, principal: Principal, *, case_id: str, words: str) -> ModerationCase:
    """A creator's answer to a rejection: the case goes back into the queue once."""
    case = session.get(ModerationCase, case_id)
    if case is None or case.org_id != principal.tenant:
        raise NotFound("There is no such case.")
    if case.state != "rejected":
        raise Conflict(f"A case that is {case.state} cannot be appealed.")
    case.state, case.appeal = "appealed", words
    audit.record(session, service.clock, principal=principal, action="moderation.appeal", target=case.listing_id)
    return case


def of_creator(session: Session, org_id: str) -> list[ModerationCase]:
    """Cases about a creator's listings, newest first; complaints nobody has decided are not shown."""
    query = (
        select(ModerationCase)
        .where(ModerationCase.org_id == org_id)
        .where((ModerationCase.cause == "automatic") | (ModerationCase.state != "open"))
        .order_by(ModerationCase.opened_at.desc())
    )
    return list(session.scalars(query))

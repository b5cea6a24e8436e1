"""Affiliate earnings: opting in, links, clicks, partners' signed events, holds, approval, payouts, monthly invoices."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.errors import BadRequest, Conflict, NotFound, Unprocessable
from agentcache_service.money import entries, invoices, ledger
from agentcache_service.money.billing_tables import Invoice, Payout
from agentcache_service.money.finance import Month
from agentcache_service.money.postings import split
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import affiliate_rules as rules
from .affiliate_rules import Touch
from .integration_tables import AffiliateAccount, AffiliateLink, Click, Commission, Postback, Referral
from .partner_catalog import Partner

TERMS_VERSION = "2026-11"
COOKIE_PURPOSE = "affiliate cookie"
POSTBACK_TOLERANCE = timedelta(minutes=5)
_CODE_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a click leads, and the visitor's id for the cookie (None without consent)."""

    address: str
    visitor: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """A partner's event: a sign-up, a payment, cached calls, or a refund; money in micro-USD."""

    id: str
    kind: str
    customer: str
    click: str | None
    amount: int
    calls: int
    refers_to: str | None


def opt_in(service: Service, session: Session, principal: Principal, *, into: bool) -> AffiliateAccount:
    """Begin or stop earning; stopping ends the links, not what was earned."""
    row = session.get(AffiliateAccount, principal.tenant)
    if row is None:
        row = AffiliateAccount(org_id=principal.tenant, opted_in_at=None, terms_version=TERMS_VERSION)
        session.add(row)
    row.opted_in_at = (row.opted_in_at or service.clock.now()) if into else None
    row.terms_version = TERMS_VERSION
    action = "affiliate.opt_in" if into else "affiliate.opt_out"
    audit.record(session, service.clock, principal=principal, action=action)
    return row


def links(service: Service, session: Session, org_id: str) -> list[AffiliateLink]:
    """The organization's codes, one per partner that takes referrals, made when first asked for."""
    _earning(session, org_id)
    known = {row.partner: row for row in session.scalars(select(AffiliateLink).where(AffiliateLink.org_id == org_id))}
    for slug, partner in sorted(service.market.catalog.by_slug.items()):
        if slug not in known and partner.commission.kind != "none":
            code = "".join(secrets.choice(_CODE_LETTERS) for _ in range(10))
            row = AffiliateLink(code=code, org_id=org_id, partner=slug, created_at=service.clock.now())
            session.add(row)
            known[slug] = row
    return [known[slug] for slug in sorted(known)]


def click(
    service: Service, session: Session, code: str, *, visitor: str | None, consent: bool, utm: Mapping[str, str]
) -> Landing:
    """Count a click and say where it leads. Without consent nothing is stored on or about the visitor."""
    link = session.get(AffiliateLink, code)
    account = session.get(AffiliateAccount, link.org_id) if link is not None else None
    if link is None or account is None or account.opted_in_at is None:
        raise NotFound("There is no such link.")
    partner = service.market.catalog.by_slug.get(link.partner)
    if partner is None:
        raise NotFound("There is no such link.")
    name = (visitor or secrets.token_urlsafe(18)) if consent else None
    made = Click(
        id=new_id("clk"),
        code=code,
        org_id=link.org_id,
        partner=link.partner,
        visitor=name,
        utm={key: value[:100] for key, value in list(utm.items())[:8]},
        at=service.clock.now(),
    )
    session.add(made)
    terms = partner.affiliate
    address = rules.tracked(terms.landing, terms, code=code, click=made.id, campaign=utm.get("utm_campaign", ""))
    return Landing(address, name)


def signed_visitor(service: Service, visitor: str) -> str:
    """The cookie's value: the visitor's random id and our signature."""
    return f"{visitor}.{service.vault.sign(visitor, purpose=COOKIE_PURPOSE)}"


def read_visitor(service: Service, cookie: str | None) -> str | None:
    """The id in a cookie that we signed, else None."""
    if not cookie or "." not in cookie:
        return None
    visitor, _, signature = cookie.partition(".")
    return visitor if service.vault.verify(visitor, signature, purpose=COOKIE_PURPOSE) else None


def sign_postback(secret: str, body: bytes, moment: int) -> str:
    """What a partner sends in `X-Signature`: hex HMAC-SHA256 of `<moment>.<body>`."""
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()


def check_postback(service: Service, slug: str, *, body: bytes, moment: str | None, signature: str | None) -> Partner:
    """Refuse an event that is not surely this partner's and recent."""
    partner = service.market.catalog.by_slug.get(slug)
    client = service.market.clients.get(slug)
    if partner is None or client is None or not client.postback:
        raise NotFound("There is no such partner.")
    if not moment or not moment.isdecimal() or not signature:
        raise BadRequest("Send X-Timestamp and X-Signature.", code="signature_missing")
    if not hmac.compare_digest(sign_postback(client.postback, body, int(moment)).encode(), signature.encode()):
        raise BadRequest("The signature does not match.", code="signature_refused")
    if abs(service.clock.now().timestamp() - int(moment)) > POSTBACK_TOLERANCE.total_seconds():
        raise BadRequest("The signature is too old.", code="signature_refused")
    return partner


def receive(service: Service, session: Session, partner: Partner, event: Event, *, body_sha256: str) -> str:
    """Apply a partner's event once; what it brought about. The same id with another content is a `Conflict`."""
    known = session.get(Postback, (partner.slug, event.id))
    if known is not None:
        if known.body_sha256 != body_sha256:
            raise Conflict("This event id came with another content before.", code="event_changed")
        return known.outcome
    now = service.clock.now()
    match event.kind:
        case "signup":
            outcome = _sign_up(session, partner, event, now)
        case "conversion" | "usage":
            outcome = _convert(service, session, partner, event, now=now)
        case "refund":
            outcome = _refund(service, session, partner, event, now=now)
        case _:
            raise Unprocessable("event is signup, conversion, usage or refund.")
    session.add(
        Postback(
            partner=partner.slug,
            event_id=event.id,
            kind=event.kind,
            body_sha256=body_sha256,
            received_at=now,
            outcome=outcome,
        )
    )
    return outcome


def _sign_up(session: Session, partner: Partner, event: Event, now: datetime) -> str:
    """Tie a customer to the click that gets the credit under the partner's rule."""
    query = select(Referral).where(Referral.partner == partner.slug, Referral.customer == event.customer)
    if session.scalars(query).one_or_none() is not None:
        return "known"
    named = session.get(Click, event.click) if event.click else None
    if named is None or named.partner != partner.slug:
        return "unattributed"
    clicks = [named]
    if named.visitor is not None:
        same = select(Click).where(Click.visitor == named.visitor, Click.partner == partner.slug, Click.at <= now)
        clicks = list(session.scalars(same))
    chosen = rules.credited([Touch(row.id, row.at) for row in clicks], partner.affiliate, now)
    if chosen is None:
        return "outside_window"
    credited = session.get_one(Click, chosen.id)
    session.add(
        Referral(
            id=new_id("ref"),
            partner=partner.slug,
            customer=event.customer,
            click_id=credited.id,
            org_id=credited.org_id,
            signed_up_at=now,
        )
    )
    session.flush()
    return "signed_up"


def _convert(service: Service, session: Session, partner: Partner, event: Event, *, now: datetime) -> str:
    query = select(Referral).where(Referral.partner == partner.slug, Referral.customer == event.customer)
    referral = session.scalars(query).one_or_none()
    if referral is None:
        if event.click is None or _sign_up(session, partner, event, now) != "signed_up":
            return "unattributed"
        referral = session.scalars(query).one()
    earlier = session.scalar(
        select(func.count()).select_from(Commission).where(Commission.referral_id == referral.id, Commission.amount > 0)
    )
    amount = rules.commission_of(
        partner.commission,
        base=event.amount,
        calls=event.calls,
        earlier=earlier or 0,
        months=rules.whole_months(referral.signed_up_at, now),
    )
    if amount <= 0:
        return "no_commission"
    share_bps = service.market.rates.referrer_share_bps
    session.add(
        Commission(
            id=new_id("com"),
            partner=partner.slug,
            event_id=event.id,
            referral_id=referral.id,
            org_id=referral.org_id,
            kind=event.kind,
            base=event.amount,
            amount=amount,
            share=split(amount, share_bps)[0],
            share_bps=share_bps,
            state="pending",
            hold_until=now + timedelta(days=partner.affiliate.hold_days),
            earned_at=now,
        )
    )
    session.flush()
    return "pending"


def _refund(service: Service, session: Session, partner: Partner, event: Event, *, now: datetime) -> str:
    """Void a commission before it was booked, or add a negative line after."""
    query = select(Commission).where(Commission.partner == partner.slug, Commission.event_id == event.refers_to)
    row = session.scalars(query).one_or_none()
    if row is None:
        return "unknown_event"
    reversed_by = select(Commission.id).where(Commission.reverses == row.id)
    if row.state == "void" or session.scalar(reversed_by) is not None:
        raise Conflict("This conversion was refunded already.", code="already_refunded")
    refunded = event.amount or row.base
    effect = rules.reversal(row.state, row.amount, refunded=refunded, base=row.base)  # type: ignore[arg-type]  # one of four states
    if effect.void:
        row.state, row.settled_at = "void", now
        return "void"
    share = -split(-effect.negative, row.share_bps)[0]
    is_booked = row.state in {"approved", "paid"}
    made = Commission(
        id=new_id("com"),
        partner=row.partner,
        event_id=event.id,
        referral_id=row.referral_id,
        org_id=row.org_id,
        kind="clawback",
        base=-refunded,
        amount=effect.negative,
        share=share,
        share_bps=row.share_bps,
        state="approved" if is_booked else "pending",
        hold_until=row.hold_until,
        reverses=row.id,
        earned_at=now,
        settled_at=now if is_booked else None,
    )
    session.add(made)
    session.flush()
    if is_booked:
        _book(session, made, now)
    return "negative_line"


def approve_due(service: Service) -> int:
    """Approve every commission whose hold is over: from now on it is owed; how many."""
    now = service.clock.now()
    with service.db.write() as session:
        query = select(Commission).where(Commission.state == "pending", Commission.hold_until <= now)
        due = list(session.scalars(query.order_by(Commission.earned_at)))
        for row in due:
            row.state, row.settled_at = "approved", now
            _book(session, row, now)
    return len(due)


def mark_paid(session: Session, org_id: str, payout_id: str) -> None:
    """Name the payout in every approved line it pays; called with the payout in one transaction."""
    session.execute(
        update(Commission)
        .where(Commission.org_id == org_id, Commission.state == "approved", Commission.payout_id.is_(None))
        .values(payout_id=payout_id)
    )


def settle_finished_payouts(service: Service) -> int:
    """Mark the lines of payouts that ended: paid, or owed again; how many payouts."""
    query = (
        select(Payout)
        .join(Commission, Commission.payout_id == Payout.id)
        .where(Commission.state == "approved", Payout.status != "pending")
        .distinct()
    )
    with service.db.write() as session:
        ended = list(session.scalars(query))
        for payout in ended:
            values: dict[str, Any] = {"state": "paid"} if payout.status == "paid" else {"payout_id": None}
            lines = update(Commission).where(Commission.payout_id == payout.id, Commission.state == "approved")
            session.execute(lines.values(**values))
    return len(ended)


def _book(session: Session, row: Commission, now: datetime) -> None:
    if row.amount > 0:
        entry = entries.commission(
            row.id, row.partner, org_id=row.org_id, amount=row.amount, share_bps=row.share_bps, at=now
        )
    else:
        positive = entries.commission(
            row.id, row.partner, org_id=row.org_id, amount=-row.amount, share_bps=row.share_bps, at=now
        )
        entry = entries.commission_clawback(row.id, positive, now)
    ledger.post(session, entry)


def invoice_partners(service: Service, month: Month) -> list[Invoice]:
    """One invoice per partner for the commissions approved in a month; made once, and only for what is owed to us."""
    made = []
    with service.db.write() as session:
        for slug, partner in service.market.catalog.by_slug.items():
            known = select(Invoice.id).where(
                Invoice.kind == "partner", Invoice.party == slug, Invoice.period_start == month.start
            )
            if session.scalar(known) is not None:
                continue
            query = select(Commission).where(
                Commission.partner == slug,
                Commission.settled_at >= month.start,
                Commission.settled_at < month.end,
                Commission.state.in_(("approved", "paid")),
            )
            rows = list(session.scalars(query))
            total = sum(row.amount for row in rows)
            if total <= 0:
                continue
            text = f"Commissions for {len(rows)} events of referred customers, {month.name}"
            made.append(
                invoices.issue(
                    session,
                    "partner",
                    invoices.Party(slug, partner.name),
                    lines=[invoices.Line(text, total, len(rows))],
                    period=(month.start, month.end),
                    now=service.clock.now(),
                    reference=month.name,
                )
            )
    return made


def _earning(session: Session, org_id: str) -> AffiliateAccount:
    row = session.get(AffiliateAccount, org_id)
    if row is None or row.opted_in_at is None:
        raise Conflict("Opt in to earning first.", code="not_opted_in")
    return row

"""Tables of integrations and affiliates: connections, partner jobs, links, clicks, referrals, commissions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class Connection(Base):
    """An organization's connection to a partner; the credential is sealed for this row and gone after disconnecting."""

    __tablename__ = "integration_connections"
    __table_args__ = (UniqueConstraint("org_id", "partner"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    partner: Mapped[str]
    method: Mapped[str]
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    status: Mapped[str] = mapped_column(default="connected")
    account: Mapped[str] = mapped_column(default="")
    trouble: Mapped[str] = mapped_column(Text, default="")
    connected_by: Mapped[str]
    connected_at: Mapped[datetime]
    disconnected_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    hits: Mapped[int] = mapped_column(default=0)
    misses: Mapped[int] = mapped_column(default=0)
    saved: Mapped[int] = mapped_column(default=0)


class PendingConnect(Base):
    """An OAuth connect under way: the digest of its state, bound to a session, with the sealed PKCE verifier."""

    __tablename__ = "integration_pending"

    state_digest: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    user_id: Mapped[str]
    session_id: Mapped[str]
    partner: Mapped[str]
    sealed_verifier: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ForwardEvent(Base):
    """One cache event waiting to be forwarded to a monitoring partner in a batch."""

    __tablename__ = "integration_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    partner: Mapped[str] = mapped_column(index=True)
    body: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[datetime]


class PartnerJob(Base):
    """A job run at a compute partner: warming, invalidation, or a GPU job."""

    __tablename__ = "integration_jobs"
    __table_args__ = (Index(None, "org_id", "partner"), Index(None, "state", "next_at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    partner: Mapped[str]
    action: Mapped[str]
    given: Mapped[dict[str, Any]]
    schedule: Mapped[str | None]
    state: Mapped[str] = mapped_column(default="queued")
    remote_id: Mapped[str | None]
    log: Mapped[list[Any]] = mapped_column(JSON)
    cost: Mapped[int] = mapped_column(default=0)
    result: Mapped[dict[str, Any]]
    next_at: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class AffiliateAccount(Base):
    """An organization that has opted in to earning from referrals."""

    __tablename__ = "affiliate_accounts"

    org_id: Mapped[str] = mapped_column(primary_key=True)
    opted_in_at: Mapped[datetime | None]
    terms_version: Mapped[str]


class AffiliateLink(Base):
    """A referral code: whose it is and which partner it leads to."""

    __tablename__ = "affiliate_links"
    __table_args__ = (UniqueConstraint("org_id", "partner"),)

    code: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str]
    partner: Mapped[str]
    created_at: Mapped[datetime]


class Click(Base):
    """One click on a referral link. `visitor` is the cookie's random id, None without consent; no address is kept."""

    __tablename__ = "affiliate_clicks"
    __table_args__ = (Index(None, "visitor", "partner", "at"), Index(None, "code", "at"))

    id: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    org_id: Mapped[str]
    partner: Mapped[str]
    visitor: Mapped[str | None]
    utm: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class Referral(Base):
    """A customer a partner has named: which click brought them, under the partner's rule of first or last click."""

    __tablename__ = "affiliate_referrals"
    __table_args__ = (UniqueConstraint("partner", "customer"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    partner: Mapped[str]
    customer: Mapped[str]
    click_id: Mapped[str]
    org_id: Mapped[str] = mapped_column(index=True)
    signed_up_at: Mapped[datetime]


class Commission(Base):
    """One line of earnings. A paid row is never edited: taking it back adds a row with a negative amount.

    `state` is pending, approved, paid or void; `amount` is what the partner owes, `share` the referrer's part.
    """

    __tablename__ = "affiliate_commissions"
    __table_args__ = (UniqueConstraint("partner", "event_id"), Index(None, "state", "hold_until"))

    id: Mapped[str] = mapped_column(primary_key=True)
    partner: Mapped[str]
    event_id: Mapped[str]
    referral_id: Mapped[str] = mapped_column(index=True)
    org_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[str]
    base: Mapped[int]
    amount: Mapped[int]
    share: Mapped[int]
    share_bps: Mapped[int]
    state: Mapped[str] = mapped_column(default="pending")
    hold_until: Mapped[datetime]
    reverses: Mapped[str | None]
    payout_id: Mapped[str | None]
    earned_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class Postback(Base):
    """A partner's signed event, written in the transaction of its effect: the same event has one effect."""

    __tablename__ = "affiliate_postbacks"

    partner: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    body_sha256: Mapped[str]
    received_at: Mapped[datetime]
    outcome: Mapped[str]

"""Tables of usage: atomic counters, reservations, what is stored, daily figures, alerts sent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class UsageCounter(Base):
    """How much of one metric an organization has used in one period (`2026-11`), or holds now (`stock`).

    `used` includes what is reserved. Only `usage/quota.py` changes these rows.
    """

    __tablename__ = "usage_counters"

    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    used: Mapped[int] = mapped_column(default=0)


class Reservation(Base):
    """An amount taken from a counter before the work it pays for; committed, released, or swept when it expires."""

    __tablename__ = "usage_reservations"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), index=True)
    metric: Mapped[str]
    period: Mapped[str]
    amount: Mapped[int]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class StoredItem(Base):
    """One stored entry or asset. `metric` is hot_bytes or asset_bytes; equal digests of one organization are charged
    once. `name` is the name in storage, in hex."""

    __tablename__ = "stored_items"
    __table_args__ = (Index("ix_stored_items_org_id_metric_digest", "org_id", "metric", "digest"),)

    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    namespace: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    metric: Mapped[str]
    bytes: Mapped[int]
    digest: Mapped[str]
    stored_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)


class UsageDay(Base):
    """The figures of one namespace on one day (UTC): sums only, never requests or answers."""

    __tablename__ = "usage_days"

    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    namespace: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(default=0)
    hits: Mapped[int] = mapped_column(default=0)
    semantic_hits: Mapped[int] = mapped_column(default=0)
    misses: Mapped[int] = mapped_column(default=0)
    sets: Mapped[int] = mapped_column(default=0)
    bytes_in: Mapped[int] = mapped_column(default=0)
    bytes_out: Mapped[int] = mapped_column(default=0)
    bytes_saved: Mapped[int] = mapped_column(default=0)
    duplicate_sets: Mapped[int] = mapped_column(default=0)
    duplicate_bytes: Mapped[int] = mapped_column(default=0)
    saved_micros: Mapped[int] = mapped_column(default=0)


class AlertSent(Base):
    """A threshold alert that was sent; its primary key makes it once per period."""

    __tablename__ = "alerts_sent"

    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    threshold: Mapped[int] = mapped_column(primary_key=True)
    sent_at: Mapped[datetime]

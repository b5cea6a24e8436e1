"""Tables of the cache API: listeners on addresses, and assets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class Listener(Base):
    """An address that is looked at every `interval_s` seconds; a change invalidates tags or a pattern.

    `webhook_gone_at`: when the webhook's receiver answered 410, after which it is called no more.
    """

    __tablename__ = "listeners"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), index=True)
    namespace: Mapped[str]
    url: Mapped[str] = mapped_column(Text)
    interval_s: Mapped[int]
    tags: Mapped[list[str]]
    pattern: Mapped[str | None] = mapped_column(Text)
    webhook: Mapped[str | None] = mapped_column(Text)
    webhook_gone_at: Mapped[datetime | None]
    secret_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    etag: Mapped[str | None] = mapped_column(Text)
    last_modified: Mapped[str | None]
    content_hash: Mapped[str | None]
    next_check_at: Mapped[datetime] = mapped_column(index=True)
    checked_at: Mapped[datetime | None]
    ok_at: Mapped[datetime | None]
    changed_at: Mapped[datetime | None]
    trouble: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]


class PrewarmSchedule(Base):
    """A namespace filled again and again: what with, when, and the job of the last time."""

    __tablename__ = "prewarm_schedules"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), index=True)
    namespace: Mapped[str]
    expression: Mapped[str]
    items: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    source: Mapped[str | None] = mapped_column(Text)
    next_run_at: Mapped[datetime] = mapped_column(index=True)
    last_job: Mapped[str | None]
    created_at: Mapped[datetime]


class AssetRecord(Base):
    """A stored asset: what it is, and how it is used. Its content lies in the engine, under `cache_key`.

    `address` names the content, not the key (`assets.address_of`): keys of the organization with the same content and
    type share one, and a key that is given other content gets another. What an address answers never changes.
    `engine_digest` is the engine's digest of that content and `entry_name` the engine's entry, both in hex.
    """

    __tablename__ = "assets"
    __table_args__ = (UniqueConstraint("org_id", "namespace", "object_key"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(index=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), index=True)
    namespace: Mapped[str]
    cache_key: Mapped[str] = mapped_column(Text)
    entry_name: Mapped[str] = mapped_column(default="", index=True)
    engine_digest: Mapped[str] = mapped_column(default="")
    object_key: Mapped[str]
    content_hash: Mapped[str] = mapped_column(index=True)
    size: Mapped[int]
    mime_type: Mapped[str]
    hit_count: Mapped[int] = mapped_column(default=0)
    bytes_sent: Mapped[int] = mapped_column(default=0)
    last_access_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

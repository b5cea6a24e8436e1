"""Tables of people, organizations, their namespaces, sessions and API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from agentcache_service.orm import Base


class User(Base):
    """A person. `email` and `username` are stored lower-case; `platform_role` is user, creator or admin."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    username: Mapped[str] = mapped_column(unique=True)
    first_name: Mapped[str]
    last_name: Mapped[str]
    avatar_url: Mapped[str | None]
    password_hash: Mapped[str]
    platform_role: Mapped[str] = mapped_column(default="user")
    verified_at: Mapped[datetime | None]
    totp_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_confirmed_at: Mapped[datetime | None]
    totp_last_step: Mapped[int | None]
    created_at: Mapped[datetime]
    erased_at: Mapped[datetime | None]


class RecoveryCode(Base):
    """A one-use code that stands in for the second factor; only its digest is kept."""

    __tablename__ = "recovery_codes"

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str]
    used_at: Mapped[datetime | None]


class LoginSession(Base):
    """A signed-in browser: an opaque token whose digest is kept. `org_id` is the organization it acts in."""

    __tablename__ = "login_sessions"

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    org_id: Mapped[str | None] = mapped_column(ForeignKey("orgs.id", ondelete="SET NULL"))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    second_factor_at: Mapped[datetime | None]
    address: Mapped[str]
    agent: Mapped[str] = mapped_column(Text)


class OneTimeToken(Base):
    """A mailed token for one purpose (verify, reset), used at most once before it expires.

    `sign_up_sealed` is what a later registration of an address that was never confirmed asked for: password hash,
    names and organization come into force only when its own token is used.
    """

    __tablename__ = "one_time_tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    sign_up_sealed: Mapped[bytes | None] = mapped_column(LargeBinary)


class Org(Base):
    """A customer: the owner of quota, namespaces and keys, and a tenant of the engine (by its id)."""

    __tablename__ = "orgs"

    id: Mapped[str] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str] = mapped_column(Text)
    sector: Mapped[str]
    plan: Mapped[str]
    trial_ends_at: Mapped[datetime | None]
    settings: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Membership(Base):
    """A person's role in an organization: viewer, member or admin."""

    __tablename__ = "memberships"

    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True)
    role: Mapped[str]
    created_at: Mapped[datetime]


class Namespace(Base):
    """A named room of an organization with its nodes: `[{"preset", "version", "settings"}]`."""

    __tablename__ = "namespaces"
    __table_args__ = (UniqueConstraint("org_id", "name"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"))
    name: Mapped[str]
    nodes: Mapped[list[Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A credential for programs: the SHA-256 of `ac_<64 hex>`, never the key. `namespaces` None means all."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("orgs.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    prefix: Mapped[str]
    last4: Mapped[str]
    scopes: Mapped[list[str]]
    namespaces: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    created_by: Mapped[str | None]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    replaced_by: Mapped[str | None]

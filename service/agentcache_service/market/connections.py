"""Connections to partners: made by OAuth or by key, sealed for their row, ended with revocation and erasure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.crypto import SealBroken, new_token, token_digest
from agentcache_service.errors import BadRequest, Conflict, NotFound, ServiceError, Unprocessable
from agentcache_service.jobs import enqueue
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import oauth_client, partner_checks
from .integration_tables import Connection, PendingConnect
from .oauth_client import OAuthRefused, Tokens
from .partner_catalog import Partner
from .parts import PartnerClient

CONNECT_LIFE = timedelta(minutes=10)
REVOKE = "integrations.revoke"
MAX_FIELD = 4096
_EARLY = timedelta(minutes=1)
_log = structlog.get_logger("agentcache_service.market")


class NotConfigured(ServiceError):
    """The operator has not set up an OAuth client for this partner."""

    status, code = 503, "partner_not_configured"


@dataclass(frozen=True, slots=True)
class Credential:
    """A connection's secrets, opened for use: the fields the customer gave, or OAuth tokens."""

    fields: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Credential({sorted(self.fields)})"

    @property
    def bearer(self) -> str:
        """The token or key to send."""
        for name in ("access_token", "api_key", "token"):
            if name in self.fields:
                return self.fields[name]
        return ""


def partner(service: Service, slug: str) -> Partner:
    """A partner of the catalogue, or `NotFound`."""
    found = service.market.catalog.by_slug.get(slug)
    if found is None:
        raise NotFound("There is no such partner.")
    return found


def redirect_address(service: Service, slug: str) -> str:
    """The one address a partner may send the browser back to."""
    return f"{service.settings.public_url}/api/integrations/{slug}/callback"


def start(service: Service, principal: Principal, slug: str) -> str:
    """Begin an OAuth connect; the address the browser is sent to."""
    chosen = partner(service, slug)
    if chosen.connect.method != "oauth":
        raise Conflict(f"{chosen.name} is connected by key.", code="wrong_method")
    client = _client(service, slug)
    state, verifier = new_token(), oauth_client.new_verifier()
    digest, now = token_digest(state), service.clock.now()
    with service.db.write() as session:
        session.execute(delete(PendingConnect).where(PendingConnect.expires_at < now))
        session.add(
            PendingConnect(
                state_digest=digest,
                org_id=principal.tenant,
                user_id=principal.user,
                session_id=principal.session_id or "",
                partner=slug,
                sealed_verifier=service.vault.seal(verifier.encode(), place=f"integration_pending/{digest}"),
                expires_at=now + CONNECT_LIFE,
            )
        )
    return oauth_client.authorize_address(
        chosen.connect, client, redirect=redirect_address(service, slug), state=state, verifier=verifier
    )


def finish(service: Service, principal: Principal, slug: str, *, answer: Mapping[str, str]) -> Connection:
    """End an OAuth connect with what the partner sent back; every doubt is a refusal."""
    chosen = partner(service, slug)
    pending = _take_pending(service, principal, slug, answer.get("state", ""))
    oauth_client.check_issuer(chosen.connect, answer.get("iss"))
    if "error" in answer:
        raise BadRequest(f"{chosen.name} did not connect: {answer['error'][:80]}", code="partner_denied")
    code = answer.get("code", "")
    if not code:
        raise BadRequest("The partner's answer holds no code.", code="code_missing")
    verifier = service.vault.open(pending.sealed_verifier, place=f"integration_pending/{pending.state_digest}").decode()
    tokens = oauth_client.exchange(
        service.outgoing,
        chosen.connect,
        _client(service, slug),
        code=code,
        verifier=verifier,
        redirect=redirect_address(service, slug),
    )
    fields = _token_fields(service, tokens)
    account = partner_checks.check(service, chosen, fields)
    return keep(service, principal, chosen, fields=fields, account=account)


def connect_by_key(service: Service, principal: Principal, slug: str, *, fields: Mapping[str, str]) -> Connection:
    """Check the fields a customer gave with the partner, then keep them."""
    chosen = partner(service, slug)
    if chosen.connect.method != "key":
        raise Conflict(f"{chosen.name} is not connected by key.", code="wrong_method")
    wanted = set(chosen.connect.fields)
    if set(fields) != wanted or not all(value.strip() for value in fields.values()):
        raise Unprocessable(f"{chosen.name} needs these fields: {', '.join(chosen.connect.fields)}.")
    given = {name: value.strip() for name, value in fields.items()}
    if any(len(value) > MAX_FIELD or not value.isascii() or not value.isprintable() for value in given.values()):
        raise Unprocessable(f"A key or address is visible ASCII, at most {MAX_FIELD} characters.", code="field")
    account = partner_checks.check(service, chosen, given)
    return keep(service, principal, chosen, fields=given, account=account)


def keep(
    service: Service, principal: Principal, chosen: Partner, *, fields: Mapping[str, str], account: str
) -> Connection:
    """Seal the fields into the organization's row for this partner."""
    now = service.clock.now()
    with service.db.write() as session:
        row = find(session, principal.tenant, chosen.slug)
        if row is None:
            row = Connection(
                id=new_id("con"),
                org_id=principal.tenant,
                partner=chosen.slug,
                method=chosen.connect.method,
                hits=0,
                misses=0,
                saved=0,
                account="",
                trouble="",
                status="connected",
                connected_by=principal.user,
                connected_at=now,
            )
            session.add(row)
        row.sealed = _seal(service, row, fields)
        row.status, row.account, row.trouble = "connected", account, ""
        row.connected_by, row.connected_at, row.disconnected_at = principal.user, now, None
        audit.record(session, service.clock, principal=principal, action="integration.connect", target=chosen.slug)
        return row


def disconnect(service: Service, principal: Principal, slug: str) -> bool:
    """Erase the credential here at once and revoke it at the partner; True when the partner confirmed already.

    When the partner cannot be reached, a job goes on trying with the sealed token.
    """
    chosen = partner(service, slug)
    with service.db.write() as session:
        row = find(session, principal.tenant, slug)
        if row is None or row.sealed is None:
            raise NotFound("This partner is not connected.")
        fields = open_fields(service, row)
        row.sealed, row.status, row.disconnected_at = None, "disconnected", service.clock.now()
        audit.record(session, service.clock, principal=principal, action="integration.disconnect", target=slug)
        tokens = _revocable(chosen, fields)
        if tokens:
            _revoke_later(service, session, row, tokens, after=timedelta(minutes=1))
    if not tokens:
        return True
    try:
        revoke_tokens(service, slug, tokens)
    except OAuthRefused:
        return False
    return True


def drop_all(service: Service, session: Session, org_id: str) -> None:
    """Erase every connection of an organization in the caller's transaction; jobs revoke the tokens at the partners."""
    for row in session.scalars(select(Connection).where(Connection.org_id == org_id)):
        chosen = service.market.catalog.by_slug.get(row.partner)
        if row.sealed is not None and chosen is not None:
            try:
                tokens = _revocable(chosen, open_fields(service, row))
            except ServiceError as lost:  # sealed under a master key that is gone: nothing is left to revoke with
                _log.warning("a connection was dropped without revoking it", connection=row.id, error=lost.message)
                tokens = []
            if tokens:
                _revoke_later(service, session, row, tokens)
        session.delete(row)


def _revocable(chosen: Partner, fields: Mapping[str, str]) -> list[str]:
    if not chosen.connect.revoke:
        return []
    return [fields[name] for name in ("refresh_token", "access_token") if fields.get(name)]


def _revoke_later(
    service: Service, session: Session, row: Connection, tokens: list[str], *, after: timedelta = timedelta()
) -> None:
    place = f"{row.org_id}/{row.partner}/revoke"
    sealed = service.vault.seal(json.dumps(tokens).encode(), place=place).hex()
    payload = {"partner": row.partner, "sealed": sealed}
    enqueue(session, service.clock, REVOKE, payload, org_id=row.org_id, run_at=service.clock.now() + after)


def revoke_tokens(service: Service, slug: str, tokens: list[str]) -> None:
    """Revoke tokens at a partner; repeating it is harmless (an unknown token answers 200, RFC 7009)."""
    chosen = partner(service, slug)
    for token in tokens:
        oauth_client.revoke(service.outgoing, chosen.connect, _client(service, slug), token)


def find(session: Session, org_id: str, slug: str) -> Connection | None:
    """The organization's row for a partner, connected or not."""
    query = select(Connection).where(Connection.org_id == org_id, Connection.partner == slug)
    return session.scalars(query).one_or_none()


def connected(session: Session, org_id: str) -> list[Connection]:
    """The organization's living connections."""
    query = select(Connection).where(Connection.org_id == org_id, Connection.sealed.is_not(None))
    return list(session.scalars(query.order_by(Connection.connected_at)))


def credential(service: Service, org_id: str, slug: str) -> Credential:
    """The secrets of a living connection, refreshed when they are about to expire; `Conflict` when there is none."""
    with service.db.read() as session:
        row = find(session, org_id, slug)
    if row is None or row.sealed is None:
        raise Conflict(f"Connect {partner(service, slug).name} first.", code="not_connected")
    fields = open_fields(service, row)
    expires = float(fields.get("expires_at") or 0)
    soon = (service.clock.now() + _EARLY).timestamp()
    if not expires or expires > soon or not fields.get("refresh_token"):
        return Credential(fields)
    chosen = partner(service, slug)
    made = oauth_client.refresh(service.outgoing, chosen.connect, _client(service, slug), fields["refresh_token"])
    fields = _token_fields(service, made)
    with service.db.write() as session:
        row = session.get_one(Connection, row.id)
        row.sealed = _seal(service, row, fields)
    return Credential(fields)


def note_use(session: Session, org_id: str, slug: str, *, hits: int, misses: int, saved: int, service: Service) -> None:
    """Add to a living connection's figures."""
    session.execute(
        update(Connection)
        .where(Connection.org_id == org_id, Connection.partner == slug, Connection.sealed.is_not(None))
        .values(
            hits=Connection.hits + hits,
            misses=Connection.misses + misses,
            saved=Connection.saved + saved,
            last_used_at=service.clock.now(),
        )
    )


def open_fields(service: Service, row: Connection) -> dict[str, str]:
    """A row's secrets; `ServiceError` when they were moved or changed."""
    assert row.sealed is not None
    try:
        return dict(json.loads(service.vault.open(row.sealed, place=_place(row))))
    except SealBroken as broken:
        raise ServiceError("This connection's secrets cannot be read; connect again.", status=409) from broken


def _seal(service: Service, row: Connection, fields: Mapping[str, Any]) -> bytes:
    return service.vault.seal(json.dumps(dict(fields)).encode(), place=_place(row))


def _place(row: Connection) -> str:
    return f"{row.org_id}/{row.id}/{row.partner}"


def _client(service: Service, slug: str) -> PartnerClient:
    client = service.market.clients.get(slug)
    if client is None or not client.id:
        raise NotConfigured(f"This installation has no OAuth client at {slug}; its operator sets partner_clients.")
    return client


def _token_fields(service: Service, tokens: Tokens) -> dict[str, str]:
    fields = {"access_token": tokens.access}
    if tokens.refresh:
        fields["refresh_token"] = tokens.refresh
    if tokens.expires_in:
        fields["expires_at"] = str(service.clock.now().timestamp() + tokens.expires_in)
    return fields


def _take_pending(service: Service, principal: Principal, slug: str, state: str) -> PendingConnect:
    """The connect a state belongs to, used up by this; it must be this session's, this partner's, and young."""
    now = service.clock.now()
    refusal = BadRequest("This answer belongs to no connect of this session; begin again.", code="state_unknown")
    with service.db.write() as session:
        taken = session.execute(
            update(PendingConnect)
            .where(PendingConnect.state_digest == token_digest(state), PendingConnect.used_at.is_(None))
            .values(used_at=now)
            .returning(PendingConnect.state_digest)
        ).scalar_one_or_none()
        row = session.get(PendingConnect, taken) if taken else None
    if row is None or row.expires_at <= now or row.partner != slug:
        raise refusal
    if (row.session_id, row.org_id, row.user_id) != (principal.session_id or "", principal.org_id, principal.user_id):
        raise refusal
    return row

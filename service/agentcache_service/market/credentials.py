"""A model's credentials: sealed under a key of their own, kept content-addressed, erased by dropping the wrapped key.

The store holds ciphertext only, because a content-addressed store cannot be trusted to forget. The data key is
wrapped by the master key for one place (organization, listing, field); without the row it is gone, whoever still
holds the ciphertext.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.crypto import SealBroken
from agentcache_service.errors import ServiceError, Unprocessable
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import listings
from .blobs import BlobError
from .listing_rules import PERMISSION
from .tables import Listing, ListingCredential

_NONCE = 12
MAX_PER_MINUTE = 100_000
MAX_PER_HOUR = 1_000_000


class CredentialsUnavailable(ServiceError):
    """The model cannot be called now: its credentials are missing, expired or cannot be read."""

    status, code = 503, "model_unavailable"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the service reaches a creator's model. Limits are calls per buyer; `None` for `expires_at` means never."""

    model_id: str
    endpoint: str
    api_key: str
    per_minute: int
    per_hour: int
    permissions: tuple[str, ...]
    expires_at: datetime | None
    fallback: str | None = None

    def __repr__(self) -> str:
        return f"Credentials(model_id={self.model_id!r}, endpoint={self.endpoint!r})"


def parse(raw: Mapping[str, Any]) -> Credentials:
    """Credentials in the shape creators send; `Unprocessable` names the field that is wrong."""
    limits = raw["rateLimits"]
    minute, hour = limits["requestsPerMinute"], limits["requestsPerHour"]
    if not (1 <= minute <= MAX_PER_MINUTE and 1 <= hour <= MAX_PER_HOUR):
        raise Unprocessable("rateLimits: requestsPerMinute and requestsPerHour must be at least 1.")
    permissions = tuple(raw["permissions"])
    if not permissions or any(not PERMISSION.match(permission) for permission in permissions):
        raise Unprocessable("permissions: use `*`, a path such as `chat/completions`, or `POST chat/*`.")
    if any(ord(char) < 33 or ord(char) > 126 for char in raw["apiKey"]):
        raise Unprocessable("apiKey: must be visible characters without spaces.")
    expires = raw.get("expiresAt")
    return Credentials(
        model_id=raw["modelId"],
        endpoint=raw["externalApiEndpoint"].rstrip("/"),
        api_key=raw["apiKey"],
        per_minute=minute,
        per_hour=hour,
        permissions=permissions,
        expires_at=datetime.fromisoformat(expires) if isinstance(expires, str) else expires,
        fallback=(raw.get("fallbackEndpoint") or "").rstrip("/") or None,
    )


def store(
    service: Service, session: Session, principal: Principal, *, listing_id: str, credentials: Credentials
) -> str:
    """Seal and keep credentials for a listing; the CID of the ciphertext. The old ones are unreadable at once."""
    row = listings.own(session, principal.tenant, listing_id)
    if row.kind != "model":
        raise Unprocessable("Only models have credentials; an agent is a package.")
    for address in filter(None, (credentials.endpoint, credentials.fallback)):
        service.outgoing.check(address)
    data_key, nonce = secrets.token_bytes(32), secrets.token_bytes(_NONCE)
    sealed = nonce + AESGCM(data_key).encrypt(nonce, _packed(credentials), row.id.encode())
    cid = service.market.credentials.put(sealed)
    _forget_blob(service, session, row.id)
    session.merge(
        ListingCredential(
            listing_id=row.id,
            cid=cid,
            wrapped_key=service.vault.seal(data_key, place=_place(row)),
            expires_at=credentials.expires_at,
            updated_at=service.clock.now(),
        )
    )
    audit.record(session, service.clock, principal=principal, action="market.credentials.store", target=row.id)
    return cid


def open_for(service: Service, session: Session, row: Listing) -> Credentials:
    """A listing's credentials, or `CredentialsUnavailable`; never shown to anybody, only used."""
    kept = session.get(ListingCredential, row.id)
    now = service.clock.now()
    if kept is None:
        raise CredentialsUnavailable("The creator has not stored credentials for this model.")
    if kept.expires_at is not None and kept.expires_at <= now:
        raise CredentialsUnavailable("The credentials of this model have expired.")
    try:
        sealed = service.market.credentials.get(kept.cid)
        data_key = service.vault.open(kept.wrapped_key, place=_place(row))
        plain = AESGCM(data_key).decrypt(sealed[:_NONCE], sealed[_NONCE:], row.id.encode())
    except (BlobError, SealBroken, InvalidTag) as error:
        raise CredentialsUnavailable("The credentials of this model cannot be read.") from error
    return parse(json.loads(plain))


def erase(service: Service, session: Session, principal: Principal, *, listing_id: str) -> None:
    """Drop the wrapped key (that is the erasure), then the ciphertext as far as the store can."""
    row = listings.own(session, principal.tenant, listing_id)
    _forget_blob(service, session, row.id)
    kept = session.get(ListingCredential, row.id)
    if kept is not None:
        session.delete(kept)
    if row.status == "active":
        row.status = "inactive"
    audit.record(session, service.clock, principal=principal, action="market.credentials.erase", target=row.id)


def _forget_blob(service: Service, session: Session, listing_id: str) -> None:
    kept = session.get(ListingCredential, listing_id)
    if kept is None:
        return
    try:
        service.market.credentials.remove(kept.cid)
    except BlobError:
        return  # ciphertext that stays behind is noise once its wrapped key is gone


def _place(row: Listing) -> str:
    return f"{row.org_id}/{row.id}/credentials"


def _packed(credentials: Credentials) -> bytes:
    return json.dumps(
        {
            "modelId": credentials.model_id,
            "externalApiEndpoint": credentials.endpoint,
            "apiKey": credentials.api_key,
            "rateLimits": {"requestsPerMinute": credentials.per_minute, "requestsPerHour": credentials.per_hour},
            "permissions": list(credentials.permissions),
            "expiresAt": credentials.expires_at.isoformat() if credentials.expires_at else None,
            "fallbackEndpoint": credentials.fallback,
        }
    ).encode()

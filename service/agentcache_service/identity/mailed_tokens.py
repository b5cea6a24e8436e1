"""Tokens that are mailed to an address (to confirm it, to reset a password), and requests about an address.

A request is only put into the outbox: whether the address is known is looked up by a job, so that asking takes the
same time and answers the same for every address.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from agentcache_service.crypto import new_token, token_digest
from agentcache_service.errors import Unprocessable
from agentcache_service.identity.tables import OneTimeToken, User
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.orm import new_id

if TYPE_CHECKING:
    from agentcache_service.service import Service


def issue(
    service: Service, session: Session, user_id: str, *, purpose: str, life: timedelta, sign_up: bytes | None = None
) -> str:
    """A new token for one purpose; only its digest is kept. `sign_up` is a sealed registration that goes with it."""
    now, token = service.clock.now(), new_token()
    session.add(
        OneTimeToken(
            id=new_id("ott"),
            purpose=purpose,
            digest=token_digest(token),
            user_id=user_id,
            created_at=now,
            expires_at=now + life,
            sign_up_sealed=sign_up,
        )
    )
    return token


def use(service: Service, session: Session, token: str, *, purpose: str) -> OneTimeToken:
    """The row of a token; it is used up by this one statement, so that two callers cannot both win."""
    now = service.clock.now()
    name = session.execute(
        update(OneTimeToken)
        .where(
            OneTimeToken.digest == token_digest(token),
            OneTimeToken.purpose == purpose,
            OneTimeToken.used_at.is_(None),
            OneTimeToken.expires_at > now,
        )
        .values(used_at=now)
        .returning(OneTimeToken.id)
    ).scalar_one_or_none()
    if name is None:
        raise Unprocessable("This link is wrong, was used before, or has expired.", code="token_invalid")
    return session.get_one(OneTimeToken, name)


def void(service: Service, session: Session, user_id: str, *, purpose: str) -> None:
    """Make every unused token of a user for one purpose useless, and forget what went with it."""
    session.execute(
        update(OneTimeToken)
        .where(OneTimeToken.user_id == user_id, OneTimeToken.purpose == purpose, OneTimeToken.used_at.is_(None))
        .values(used_at=service.clock.now(), sign_up_sealed=None)
    )


def ask_later(service: Service, kind: str, email: str) -> None:
    """Put a request about an address into the outbox."""
    sealed = service.vault.seal(json.dumps({"email": email.strip().casefold()[:254]}).encode(), place=f"jobs/{kind}")
    with service.db.write() as session:
        enqueue(session, service.clock, kind, {"sealed": b64encode(sealed).decode()})


def asked_user(service: Service, session: Session, claim: Claim) -> User | None:
    """Whose address was asked about; the job forgets the address in the transaction of what it does."""
    if "sealed" not in claim.payload:
        return None  # done before, and not marked as done
    session.execute(update(Job).where(Job.id == claim.id).values(payload={}))
    opened = service.vault.open(b64decode(claim.payload["sealed"]), place=f"jobs/{claim.kind}")
    email = json.loads(opened)["email"]
    return session.scalars(select(User).where(User.email == email, User.erased_at.is_(None))).one_or_none()

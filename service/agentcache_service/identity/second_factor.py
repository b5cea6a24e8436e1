"""The second factor: TOTP with recovery codes. Required for platform admins, free to choose for everybody else."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyotp
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.crypto import token_digest
from agentcache_service.errors import Conflict, Forbidden, Unprocessable
from agentcache_service.identity import sessions
from agentcache_service.identity.tables import RecoveryCode, User
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

STEP_S = 30
RECOVERY_CODES = 10
_TRIES = "8/5minute"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A secret to be put into an authenticator: as text, as an otpauth address, as an SVG picture."""

    secret: str
    address: str
    svg: str


def begin(service: Service, session: Session, principal: Principal) -> Enrolment:
    """A secret for an authenticator, in force once a code from it was confirmed; until then the same one every time."""
    user = session.get_one(User, principal.user)
    if user.totp_confirmed_at is not None:
        raise Conflict("A second factor is set up already; remove it first.", code="second_factor_exists")
    if user.totp_sealed is None:
        secret = pyotp.random_base32()
        user.totp_sealed = service.vault.seal(secret.encode(), place=_place(user.id))
    else:
        secret = service.vault.open(user.totp_sealed, place=_place(user.id)).decode()
    address = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name="AgentCache")
    return Enrolment(secret, address, _picture(address))


def _picture(address: str) -> str:
    import segno  # drawn only on the one page that needs it

    return segno.make(address, error="m").svg_inline(scale=4, dark="#000", light="#fff")


def _place(user_id: str) -> str:
    return f"users/{user_id}/totp"


def confirm(service: Service, session: Session, principal: Principal, *, code: str) -> tuple[list[str], str]:
    """Put the secret into force; returns the recovery codes (shown once, kept as digests) and a new session token."""
    user = session.get_one(User, principal.user)
    if user.totp_confirmed_at is not None:
        raise Conflict("A second factor is set up already.", code="second_factor_exists")
    if user.totp_sealed is None:
        raise Unprocessable("Begin by asking for a secret.", code="second_factor_not_begun")
    service.limiter.check(_TRIES, "second-factor", user.id)
    if not _is_right(service, session, user, code):
        raise Forbidden("The code is wrong.", code="code_wrong")
    user.totp_confirmed_at = service.clock.now()
    audit.record(session, service.clock, principal=principal, action="second_factor.on", target=user.id)
    return _new_codes(session, user.id), sessions.elevate(service, session, principal)


def _new_codes(session: Session, user_id: str) -> list[str]:
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    codes = [f"{secrets.token_hex(5)}-{secrets.token_hex(5)}" for _ in range(RECOVERY_CODES)]
    session.add_all(RecoveryCode(id=new_id("rec"), user_id=user_id, digest=token_digest(code)) for code in codes)
    return codes


def _is_right(service: Service, session: Session, user: User, code: str) -> bool:
    """True for the code of this half minute or a neighbour that was not used before."""
    if user.totp_sealed is None:
        return False
    totp = pyotp.TOTP(service.vault.open(user.totp_sealed, place=_place(user.id)).decode())
    now_step = int(service.clock.now().timestamp()) // STEP_S
    digits = code.replace(" ", "")
    for step in (now_step, now_step - 1, now_step + 1):
        if secrets.compare_digest(totp.at(step * STEP_S).encode(), digits.encode()):
            used = session.execute(
                update(User)
                .where(User.id == user.id, func.coalesce(User.totp_last_step, -1) < step)
                .values(totp_last_step=step)
                .returning(User.id)
            ).first()
            return used is not None
    return False


def _use_recovery(service: Service, session: Session, user_id: str, code: str) -> bool:
    used = session.execute(
        update(RecoveryCode)
        .where(
            RecoveryCode.user_id == user_id,
            RecoveryCode.digest == token_digest(code.strip().lower()),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=service.clock.now())
        .returning(RecoveryCode.id)
    ).first()
    return used is not None


def give(service: Service, session: Session, principal: Principal, *, code: str) -> str:
    """Complete a login with a code of the authenticator or a recovery code; returns the session's new token."""
    user = session.get_one(User, principal.user)
    if user.totp_confirmed_at is None:
        raise Conflict("No second factor is set up.", code="second_factor_missing")
    service.limiter.check(_TRIES, "second-factor", user.id)
    if not (_is_right(service, session, user, code) or _use_recovery(service, session, user.id, code)):
        raise Forbidden("The code is wrong.", code="code_wrong")
    audit.record(session, service.clock, principal=principal, action="second_factor.given", target=user.id)
    return sessions.elevate(service, session, principal)


def remove(service: Service, session: Session, principal: Principal, *, password: str) -> None:
    """Take the second factor away, given the password; platform admins keep theirs."""
    user = session.get_one(User, principal.user)
    if user.platform_role == "admin":
        raise Forbidden("Platform admins must keep their second factor.", code="second_factor_required")
    if not service.passwords.verify(user.password_hash, password):
        raise Forbidden("The password is wrong.", code="password_wrong")
    user.totp_sealed = user.totp_confirmed_at = user.totp_last_step = None
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    audit.record(session, service.clock, principal=principal, action="second_factor.off", target=user.id)


def codes_left(session: Session, user_id: str) -> int:
    """How many recovery codes are unused."""
    query = select(func.count()).select_from(RecoveryCode)
    return session.scalar(query.where(RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))) or 0

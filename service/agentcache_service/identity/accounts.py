"""Accounts: login, passwords, profile. Answers do not tell whether an address is known."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.errors import Conflict, Forbidden, Unauthenticated, Unprocessable
from agentcache_service.identity import mailed_tokens, sessions
from agentcache_service.identity.passwords import check_new_password
from agentcache_service.identity.registration import checked_email, checked_username
from agentcache_service.identity.tables import User
from agentcache_service.jobs import Claim
from agentcache_service.mail import queue_mail
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

_log = structlog.get_logger("agentcache_service.identity")
RESET_REQUESTED = "account.reset_requested"
RESET_LIFE = timedelta(hours=1)
FAILURES_PER_ACCOUNT = ("10/5minute", "40/hour")
FAILURES_PER_ADDRESS = "100/hour"


def do_reset_request(service: Service, claim: Claim) -> None:
    """The job behind a reset request: mails a link that works for an hour, once, if the address is known."""
    with service.db.write() as session:
        user = mailed_tokens.asked_user(service, session, claim)
        if user is None:
            return
        token = mailed_tokens.issue(service, session, user.id, purpose="reset", life=RESET_LIFE)
        context = {"user": user, "url": f"{service.settings.public_url}/reset/{token}"}
        queue_mail(session, service.clock, service.vault, to=user.email, template="reset", context=context)


def reset_password(service: Service, *, token: str, password: str) -> None:
    """Set a new password by a mailed token and end every session."""
    check_new_password(password)
    digest = service.passwords.hash(password)
    with service.db.write() as session:
        user = session.get_one(User, mailed_tokens.use(service, session, token, purpose="reset").user_id)
        check_new_password(password, about=(user.email, user.username, user.first_name, user.last_name))
        user.password_hash = digest
        user.verified_at = user.verified_at or service.clock.now()
        sessions.revoke_all(session, service, user_id=user.id)
        for purpose in ("reset", "verify"):
            mailed_tokens.void(service, session, user.id, purpose=purpose)
        queue_mail(
            session, service.clock, service.vault, to=user.email, template="password_changed", context={"user": user}
        )
        audit.record(session, service.clock, principal=None, action="account.reset", target=user.id)


def login(service: Service, *, login: str, password: str, address: str, agent: str) -> tuple[str, User]:
    """Check a password (by e-mail or username) and open a session; returns its token and the user.

    Wrong name, wrong password and erased account answer the same after the same work. Failures are limited per account
    and per address.
    """
    name = login.strip().casefold()[:254]
    rules = [*((rule, "login", name) for rule in FAILURES_PER_ACCOUNT), (FAILURES_PER_ADDRESS, "login-from", address)]
    for rule, *caller in rules:
        if service.limiter.would_refuse(rule, *caller):
            service.limiter.check(rule, *caller)
    with service.db.read() as session:
        query = select(User).where(or_(User.email == name, User.username == name), User.erased_at.is_(None))
        user = session.scalars(query).one_or_none()
    if not service.passwords.verify(user.password_hash if user else None, password) or user is None:
        _log.info("login refused", address=address)  # no name: people type passwords into that field
        for rule, *caller in rules:
            service.limiter.check(rule, *caller)
        raise Unauthenticated("The name or the password is wrong.", code="login_failed")
    if user.verified_at is None:
        raise Forbidden("Confirm your e-mail address first; we can send the link again.", code="unverified")
    fresh = service.passwords.hash(password) if service.passwords.is_old(user.password_hash) else None
    with service.db.write() as session:
        if fresh is not None:
            session.execute(update(User).where(User.id == user.id).values(password_hash=fresh))
        token = sessions.open_session(service, session, user_id=user.id, address=address, agent=agent)
        audit.record(session, service.clock, principal=None, action="account.login", target=user.id)
    return token, user


def change_password(service: Service, principal: Principal, *, current: str, new: str) -> None:
    """Set a new password, given the current one; every other session ends."""
    with service.db.read() as session:
        user = session.get_one(User, principal.user)
    if not service.passwords.verify(user.password_hash, current):
        raise Forbidden("The current password is wrong.", code="password_wrong")
    check_new_password(new, about=(user.email, user.username, user.first_name, user.last_name))
    digest = service.passwords.hash(new)
    with service.db.write() as session:
        user = session.get_one(User, principal.user)
        user.password_hash = digest
        sessions.revoke_all(session, service, user_id=user.id, except_id=principal.session_id)
        queue_mail(
            session, service.clock, service.vault, to=user.email, template="password_changed", context={"user": user}
        )
        audit.record(session, service.clock, principal=principal, action="account.password", target=user.id)


def edit_profile(
    service: Service,
    session: Session,
    principal: Principal,
    *,
    first_name: str | None = None,
    last_name: str | None = None,
    avatar_url: str | None = None,
) -> User:
    """Change names or avatar; None leaves a field as it is."""
    user = session.get_one(User, principal.user)
    if avatar_url and not avatar_url.startswith("https://"):
        raise Unprocessable("An avatar is an https:// address.", code="avatar")
    for name, value in {"first_name": first_name, "last_name": last_name, "avatar_url": avatar_url}.items():
        if value is not None:
            setattr(user, name, value.strip()[:255])
    audit.record(session, service.clock, principal=principal, action="account.profile", target=user.id)
    return user


def get_user(session: Session, user_id: str) -> User:
    """The user; an error of ours when there is none."""
    return session.get_one(User, user_id)


def create_admin(service: Service, *, email: str, username: str, password: str) -> str:
    """Make a platform admin, from the command line only; returns the user's id."""
    address, name = checked_email(email), checked_username(username)
    check_new_password(password, about=(address, name))
    digest, now = service.passwords.hash(password), service.clock.now()
    with service.db.write() as session:
        if session.scalar(select(User.id).where(or_(User.email == address, User.username == name))):
            raise Conflict("There is an account with this address or username already.", code="account_exists")
        user = User(
            id=new_id("usr"),
            email=address,
            username=name,
            first_name="",
            last_name="",
            password_hash=digest,
            platform_role="admin",
            verified_at=now,
            created_at=now,
        )
        session.add(user)
        audit.record(session, service.clock, principal=None, action="account.create_admin", target=user.id)
        return user.id

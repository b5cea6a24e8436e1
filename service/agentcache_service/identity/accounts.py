"""Accounts: registration, verification, login, passwords, profile. Answers do not tell whether an address is known."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.crypto import new_token, token_digest
from agentcache_service.errors import Conflict, Forbidden, Unauthenticated, Unprocessable
from agentcache_service.identity import orgs, sessions
from agentcache_service.identity.keys import NewKey, create_key
from agentcache_service.identity.passwords import check_new_password
from agentcache_service.identity.tables import ApiKey, Membership, OneTimeToken, Org, User
from agentcache_service.jobs import Claim, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.mail import queue_mail
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

RESET_REQUESTED = "account.reset_requested"
RESEND_REQUESTED = "account.resend_requested"
VERIFY_LIFE = timedelta(days=3)
RESET_LIFE = timedelta(hours=1)
FAILURES_PER_ACCOUNT = ("10/5minute", "40/hour")
FAILURES_PER_ADDRESS = "100/hour"
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f.]+(?:\.[^@\s\x00-\x1f.]+)+")
_USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Registration:
    """What a person writes into the sign-up form."""

    email: str
    password: str
    organization: str
    sector: str
    description: str = ""
    username: str = ""
    first_name: str = ""
    last_name: str = ""
    avatar_url: str | None = None


def register(service: Service, form: Registration, *, address: str = "") -> None:
    """Make the account, its organization and namespaces, and mail a verification link.

    For an address that has an account already, the same work is done and taken back, and the owner is told by mail:
    the caller sees no difference. A taken username is told (409), whatever the address.
    """
    email = _checked_email(form.email)
    username = (form.username or _username_from(email)).casefold()
    if not _USERNAME.fullmatch(username):
        raise Unprocessable("A username has 1 to 40 of a-z, 0-9, '.', '_' and '-'.", code="username")
    if not form.organization.strip():
        raise Unprocessable("The organization needs a name.", code="organization")
    check_new_password(form.password, about=(email, username, form.first_name, form.last_name, form.organization))
    digest = service.passwords.hash(form.password)
    with service.db.write() as session:
        known = session.scalars(select(User).where(User.email == email)).one_or_none()
        username = _free_username(session, username, is_chosen=bool(form.username), known=known)
        draft = session.begin_nested()
        user = _add_user(service, session, form, email=email, username=username, password_hash=digest, is_known=known)
        orgs.create_org(
            service,
            session,
            user_id=user.id,
            name=form.organization,
            sector=form.sector,
            description=form.description,
        )
        if known is None:
            draft.commit()
            _mail_verification(service, session, user)
            session.flush()
            audit.record(session, service.clock, principal=None, action="account.register", target=user.id)
        else:
            draft.rollback()
            _tell_known(service, session, known)


def _checked_email(text: str) -> str:
    email = text.strip().casefold()
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        raise Unprocessable("This is not an e-mail address.", code="email")
    return email


def _username_from(email: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", email.partition("@")[0].casefold()).strip("-")[:30] or "user"


def _free_username(session: Session, username: str, *, is_chosen: bool, known: User | None) -> str:
    owner = session.scalar(select(User.id).where(User.username == username))
    if owner is None or (known is not None and owner == known.id):
        return username
    if is_chosen:
        raise Conflict("This username is taken.", code="username_taken")
    return f"{username}-{new_token(3).casefold().replace('_', '0').replace('-', '0')}"


def _add_user(
    service: Service,
    session: Session,
    form: Registration,
    *,
    email: str,
    username: str,
    password_hash: str,
    is_known: User | None,
) -> User:
    shadow = f"#{new_id('draft')}" if is_known is not None else ""  # the draft of a known address is rolled back
    user = User(
        id=new_id("usr"),
        email=email + shadow,
        username=username + shadow,
        first_name=form.first_name.strip(),
        last_name=form.last_name.strip(),
        avatar_url=form.avatar_url,
        password_hash=password_hash,
        created_at=service.clock.now(),
    )
    session.add(user)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict("Somebody registered this a moment ago; try again.", code="conflict") from None
    return user


def _tell_known(service: Service, session: Session, user: User) -> None:
    if user.verified_at is None:
        _mail_verification(service, session, user)
        return
    queue_mail(
        session,
        service.clock,
        service.vault,
        to=user.email,
        template="already_registered",
        context={"user": user, "url": f"{service.settings.public_url}/reset"},
    )


def _mail_verification(service: Service, session: Session, user: User) -> None:
    token = _new_token(service, session, user.id, purpose="verify", life=VERIFY_LIFE)
    context = {"user": user, "url": f"{service.settings.public_url}/verify?token={token}"}
    queue_mail(session, service.clock, service.vault, to=user.email, template="verify", context=context)


def _new_token(service: Service, session: Session, user_id: str, *, purpose: str, life: timedelta) -> str:
    now = service.clock.now()
    token = new_token()
    session.add(
        OneTimeToken(
            id=new_id("ott"),
            purpose=purpose,
            digest=token_digest(token),
            user_id=user_id,
            created_at=now,
            expires_at=now + life,
        )
    )
    return token


def _use_token(service: Service, session: Session, token: str, *, purpose: str) -> str:
    """The user a mailed token belongs to; it is used up by this one statement, so two callers cannot both win."""
    now = service.clock.now()
    user_id = session.execute(
        update(OneTimeToken)
        .where(
            OneTimeToken.digest == token_digest(token),
            OneTimeToken.purpose == purpose,
            OneTimeToken.used_at.is_(None),
            OneTimeToken.expires_at > now,
        )
        .values(used_at=now)
        .returning(OneTimeToken.user_id)
    ).scalar_one_or_none()
    if user_id is None:
        raise Unprocessable("This link is wrong, was used before, or has expired.", code="token_invalid")
    found: str = user_id
    return found


def verify_email(service: Service, session: Session, token: str) -> User:
    """Confirm an address by its mailed token; returns the user."""
    user = session.get_one(User, _use_token(service, session, token, purpose="verify"))
    user.verified_at = user.verified_at or service.clock.now()
    audit.record(session, service.clock, principal=None, action="account.verify", target=user.id)
    return user


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a confirmed sign-up is given: the user, and on the first confirmation the organization's first key."""

    user: User
    org: Org | None
    first_key: NewKey | None


def confirm_sign_up(service: Service, session: Session, token: str) -> Welcome:
    """Confirm the address and, the first time, make the organization's first API key. Its secret exists only here."""
    user = verify_email(service, session, token)
    membership = session.scalars(select(Membership).where(Membership.user_id == user.id)).first()
    if membership is None:
        return Welcome(user, None, None)
    org = orgs.get(session, membership.org_id)
    if membership.role != "admin" or session.scalar(select(ApiKey.id).where(ApiKey.org_id == org.id).limit(1)):
        return Welcome(user, org, None)
    principal = Principal(kind="session", user_id=user.id, org_id=org.id, role="admin")
    return Welcome(user, org, create_key(service, session, principal, name="First key"))


def ask_later(service: Service, kind: str, email: str) -> None:
    """Put a request about an address (reset, resend) into the outbox: whether it is known is looked up by the job,
    so that asking takes the same time and answers the same for every address."""
    sealed = service.vault.seal(json.dumps({"email": email.strip().casefold()[:254]}).encode(), place=f"jobs/{kind}")
    with service.db.write() as session:
        enqueue(session, service.clock, kind, {"sealed": b64encode(sealed).decode()})


def _asked_user(service: Service, session: Session, claim: Claim) -> User | None:
    """Whose address was asked about; the job forgets the address in the transaction of what it does."""
    if "sealed" not in claim.payload:
        return None  # done before, and not marked as done
    session.execute(update(Job).where(Job.id == claim.id).values(payload={}))
    opened = service.vault.open(b64decode(claim.payload["sealed"]), place=f"jobs/{claim.kind}")
    email = json.loads(opened)["email"]
    return session.scalars(select(User).where(User.email == email, User.erased_at.is_(None))).one_or_none()


def do_reset_request(service: Service, claim: Claim) -> None:
    """The job behind a reset request: mails a link that works for an hour, once, if the address is known."""
    with service.db.write() as session:
        user = _asked_user(service, session, claim)
        if user is None:
            return
        token = _new_token(service, session, user.id, purpose="reset", life=RESET_LIFE)
        context = {"user": user, "url": f"{service.settings.public_url}/reset/{token}"}
        queue_mail(session, service.clock, service.vault, to=user.email, template="reset", context=context)


def do_resend_request(service: Service, claim: Claim) -> None:
    """The job behind a resend request: mails a new verification link to an unverified account."""
    with service.db.write() as session:
        user = _asked_user(service, session, claim)
        if user is not None and user.verified_at is None:
            _mail_verification(service, session, user)


def reset_password(service: Service, *, token: str, password: str) -> None:
    """Set a new password by a mailed token and end every session."""
    check_new_password(password)
    digest = service.passwords.hash(password)
    with service.db.write() as session:
        user = session.get_one(User, _use_token(service, session, token, purpose="reset"))
        check_new_password(password, about=(user.email, user.username, user.first_name, user.last_name))
        user.password_hash = digest
        user.verified_at = user.verified_at or service.clock.now()
        sessions.revoke_all(session, service, user_id=user.id)
        _void_tokens(service, session, user.id)
        queue_mail(
            session, service.clock, service.vault, to=user.email, template="password_changed", context={"user": user}
        )
        audit.record(session, service.clock, principal=None, action="account.reset", target=user.id)


def _void_tokens(service: Service, session: Session, user_id: str) -> None:
    session.execute(
        update(OneTimeToken)
        .where(OneTimeToken.user_id == user_id, OneTimeToken.purpose == "reset", OneTimeToken.used_at.is_(None))
        .values(used_at=service.clock.now())
    )


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
    address, name = _checked_email(email), username.casefold()
    if not _USERNAME.fullmatch(name):
        raise Unprocessable("A username has 1 to 40 of a-z, 0-9, '.', '_' and '-'.", code="username")
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

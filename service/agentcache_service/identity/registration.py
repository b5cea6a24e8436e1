"""Registration: sign-up, confirmation of the address, the organization's first key. Known addresses are not told.

An address may be registered again while nobody has confirmed it, by its owner or by somebody else. Each of these
registrations is bound to its own mailed token: the one whose link is used comes into force, all others are void. So
nobody can prepare an account for another person's address and wait for them to confirm it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.crypto import new_token, token_digest
from agentcache_service.errors import Conflict, Unprocessable
from agentcache_service.identity import mailed_tokens, orgs
from agentcache_service.identity.keys import NewKey, create_key
from agentcache_service.identity.passwords import check_new_password
from agentcache_service.identity.tables import ApiKey, Membership, OneTimeToken, Org, User
from agentcache_service.jobs import Claim
from agentcache_service.mail import queue_mail
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

RESEND_REQUESTED = "account.resend_requested"
VERIFY_LIFE = timedelta(days=3)
_VERIFY = "verify"
_SEAL_PLACE = "one_time_tokens/sign_up"
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
    email = checked_email(form.email)
    username = checked_username(form.username or _username_from(email))
    if not form.organization.strip():
        raise Unprocessable("The organization needs a name.", code="organization")
    check_new_password(form.password, about=(email, username, form.first_name, form.last_name, form.organization))
    digest = service.passwords.hash(form.password)
    with service.db.write() as session:
        known = session.scalars(select(User).where(User.email == email)).one_or_none()
        username = _free_username(session, username, is_chosen=bool(form.username), known=known)
        form = replace(form, email=email, username=username, password="")
        draft = session.begin_nested()
        user = _add_user(service, session, form, password_hash=digest, is_known=known is not None)
        _add_org(service, session, user.id, form)
        if known is None:
            draft.commit()
            _mail_verification(service, session, user)
            session.flush()
            audit.record(session, service.clock, principal=None, action="account.register", target=user.id)
        else:
            draft.rollback()
            _tell_known(service, session, known, form, password_hash=digest)


def checked_email(text: str) -> str:
    """An address in the form it is kept in; raises `Unprocessable`."""
    email = text.strip().casefold()
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        raise Unprocessable("This is not an e-mail address.", code="email")
    return email


def checked_username(text: str) -> str:
    """A username in the form it is kept in; raises `Unprocessable`."""
    username = text.casefold()
    if not _USERNAME.fullmatch(username):
        raise Unprocessable("A username has 1 to 40 of a-z, 0-9, '.', '_' and '-'.", code="username")
    return username


def _username_from(email: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", email.partition("@")[0].casefold()).strip("-")[:30].strip("-") or "user"


def _free_username(session: Session, username: str, *, is_chosen: bool, known: User | None) -> str:
    owner = session.scalar(select(User.id).where(User.username == username))
    if owner is None or (known is not None and owner == known.id):
        return username
    if is_chosen:
        raise Conflict("This username is taken.", code="username_taken")
    return f"{username}-{new_token(3).casefold().replace('_', '0').replace('-', '0')}"


def _add_user(service: Service, session: Session, form: Registration, *, password_hash: str, is_known: bool) -> User:
    shadow = f"#{new_id('draft')}" if is_known else ""  # the draft of a known address is rolled back
    user = User(
        id=new_id("usr"),
        email=form.email + shadow,
        username=form.username + shadow,
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


def _add_org(service: Service, session: Session, user_id: str, form: Registration) -> Org:
    return orgs.create_org(
        service, session, user_id=user_id, name=form.organization, sector=form.sector, description=form.description
    )


def _tell_known(service: Service, session: Session, user: User, form: Registration, *, password_hash: str) -> None:
    if user.verified_at is None:
        asked = json.dumps({**asdict(form), "password": password_hash}).encode()
        _mail_verification(service, session, user, sign_up=service.vault.seal(asked, place=_SEAL_PLACE))
        return
    queue_mail(
        session,
        service.clock,
        service.vault,
        to=user.email,
        template="already_registered",
        context={"user": user, "url": f"{service.settings.public_url}/reset"},
    )


def _mail_verification(service: Service, session: Session, user: User, *, sign_up: bytes | None = None) -> None:
    token = mailed_tokens.issue(service, session, user.id, purpose=_VERIFY, life=VERIFY_LIFE, sign_up=sign_up)
    context = {"user": user, "url": f"{service.settings.public_url}/verify?token={token}"}
    queue_mail(session, service.clock, service.vault, to=user.email, template="verify", context=context)


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a confirmed sign-up is given: the user, and on the first confirmation the organization's first key."""

    user: User
    org: Org | None
    first_key: NewKey | None


def asked_organization(service: Service, session: Session, token: str) -> str | None:
    """The name of the organization a link would open, for its page to show; None when the link is of no use."""
    row = session.scalars(
        select(OneTimeToken).where(
            OneTimeToken.digest == token_digest(token),
            OneTimeToken.purpose == _VERIFY,
            OneTimeToken.used_at.is_(None),
            OneTimeToken.expires_at > service.clock.now(),
        )
    ).one_or_none()
    if row is None:
        return None
    if row.sign_up_sealed is not None:
        return _opened(service, row.sign_up_sealed).organization.strip()
    return session.scalar(select(Org.name).join(Membership).where(Membership.user_id == row.user_id).limit(1))


def confirm(service: Service, session: Session, token: str) -> Welcome:
    """Confirm the address and, the first time, make the organization's first API key. Its secret exists only here."""
    used = mailed_tokens.use(service, session, token, purpose=_VERIFY)
    user = session.get_one(User, used.user_id)
    if used.sign_up_sealed is not None and user.verified_at is None:
        _put_into_force(service, session, user, _opened(service, used.sign_up_sealed))
    used.sign_up_sealed = None
    mailed_tokens.void(service, session, user.id, purpose=_VERIFY)
    user.verified_at = user.verified_at or service.clock.now()
    audit.record(session, service.clock, principal=None, action="account.verify", target=user.id)
    membership = session.scalars(select(Membership).where(Membership.user_id == user.id)).first()
    if membership is None:
        return Welcome(user, None, None)
    org = orgs.get(session, membership.org_id)
    if membership.role != "admin" or session.scalar(select(ApiKey.id).where(ApiKey.org_id == org.id).limit(1)):
        return Welcome(user, org, None)
    principal = Principal(kind="session", user_id=user.id, org_id=org.id, role="admin")
    return Welcome(user, org, create_key(service, session, principal, name="First key"))


def _opened(service: Service, sealed: bytes) -> Registration:
    """A registration as it was asked for; `password` holds its hash."""
    return Registration(**json.loads(service.vault.open(sealed, place=_SEAL_PLACE)))


def _put_into_force(service: Service, session: Session, user: User, form: Registration) -> None:
    """Replace what somebody registered before for this address: nobody has signed in to it yet."""
    owner = session.scalar(select(User.id).where(User.username == form.username))
    if owner is None:
        user.username = form.username
    user.password_hash = form.password
    user.first_name, user.last_name, user.avatar_url = form.first_name.strip(), form.last_name.strip(), form.avatar_url
    for membership in session.scalars(select(Membership).where(Membership.user_id == user.id)):
        session.delete(orgs.get(session, membership.org_id))
    session.flush()
    session.expire_all()
    _add_org(service, session, user.id, form)


def do_resend_request(service: Service, claim: Claim) -> None:
    """The job behind a resend request: mails a new verification link for the newest registration of the address."""
    with service.db.write() as session:
        user = mailed_tokens.asked_user(service, session, claim)
        if user is None or user.verified_at is not None:
            return
        newest = session.scalar(
            select(OneTimeToken.sign_up_sealed)
            .where(OneTimeToken.user_id == user.id, OneTimeToken.purpose == _VERIFY)
            .order_by(OneTimeToken.created_at.desc(), OneTimeToken.sign_up_sealed.is_not(None).desc())
            .limit(1)
        )
        _mail_verification(service, session, user, sign_up=newest)

"""What a person may ask about their own data: a copy of all of it, and its erasure.

Which rows are somebody's, and what erasure leaves of them, is declared beside the tables (`<area>/personal.py`); this
room conducts. An organization is erased with its last person. Cached content, files, mails and what the payment
gateway and partners keep are removed by jobs, which try again until they have succeeded.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from agentcache_service import audit, mail, personal
from agentcache_service.cacheapi import personal as cacheapi_personal
from agentcache_service.cacheapi import removal
from agentcache_service.errors import Conflict, Forbidden
from agentcache_service.identity import personal as identity_personal
from agentcache_service.identity.tables import Membership, Org, User
from agentcache_service.jobs import Claim, Retry, enqueue
from agentcache_service.jobs_tables import Job
from agentcache_service.mail import Outbox
from agentcache_service.market import closing as market_closing
from agentcache_service.market import integration_personal
from agentcache_service.market import personal as market_personal
from agentcache_service.market.closing import Leftovers
from agentcache_service.money import closing as money_closing
from agentcache_service.money import personal as money_personal
from agentcache_service.personal import Answer, Nothing
from agentcache_service.principal import Principal
from agentcache_service.usage import personal as usage_personal
from agentcache_service.usage import quota

if TYPE_CHECKING:
    from agentcache_service.service import Service

WIPE = "privacy.wipe_tenant"
FORGET_PERSON = "privacy.forget_person"
_PERSON_PLACE = f"jobs/{FORGET_PERSON}"
AGAIN = timedelta(minutes=15)
"""After this time the wipe is repeated, for what calls that were under way wrote after the first."""

DECLARED: tuple[Answer | Nothing, ...] = (
    *cacheapi_personal.PERSONAL,
    *usage_personal.PERSONAL,
    *market_personal.PERSONAL,
    *integration_personal.PERSONAL,
    *money_personal.PERSONAL,
    *identity_personal.PERSONAL,
)
ANSWERS: tuple[Answer, ...] = tuple(answer for answer in DECLARED if isinstance(answer, Answer))


def export(service: Service, session: Session, principal: Principal) -> dict[str, Any]:
    """Everything kept about the signed-in person, and, for its admins, about the organization."""
    user = session.get_one(User, principal.user)
    memberships = _memberships(session, user.id)
    return {
        "user": personal.plain(user),
        "account": personal.copy_of(session, ANSWERS, user_id=user.id),
        "mails": _mails(service, session, user.email),
        "organizations": [
            {**personal.plain(session.get_one(Org, row.org_id)), **_organization(service, session, row.org_id)}
            for row in memberships
            if row.role == "admin"
        ],
    }


def _memberships(session: Session, user_id: str) -> list[Membership]:
    return list(session.scalars(select(Membership).where(Membership.user_id == user_id)))


def _mails(service: Service, session: Session, address: str) -> list[dict[str, str]]:
    found = mail.waiting_for(session, service.vault, address)
    if isinstance(service.mail, Outbox):
        found += service.mail.addressed_to(address)
    return found


def _organization(service: Service, session: Session, org_id: str) -> dict[str, Any]:
    return {
        "records": personal.copy_of(session, ANSWERS, org_id=org_id),
        "entries": [
            {
                "namespace": room,
                "name": name.hex(),
                "key": _shown(record.plain),
                "kind": record.kind,
                "bytes": record.size,
                "content_type": record.content_type,
                "tags": [tag for tag, _epoch in record.tags],
                "created_at": record.created_at,
                "expires_at": record.expires_at,
            }
            for room in _rooms(session, org_id)
            for name, record in service.engine.entries(org_id, room)
        ],
    }


def _rooms(session: Session, org_id: str) -> list[str]:
    from agentcache_service.identity.orgs import namespaces
    from agentcache_service.market.response_cache import NAMESPACE

    return list(dict.fromkeys([*(row.name for row in namespaces(session, org_id)), NAMESPACE]))


def _shown(key: str | bytes | None) -> str | None:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key


def erase(service: Service, principal: Principal, *, password: str, give_up_balance: bool = False) -> None:
    """Erase the signed-in person, and an organization that has nobody else.

    An organization with other people must have another admin. One that closes must have nothing under way: payments
    and payouts ended, buyers' paid time over, usage paid, and money that is owed paid out or given up.
    """
    with service.db.read() as session:
        user = session.get_one(User, principal.user)
        closing = [row.org_id for row in _memberships(session, user.id) if _is_alone(session, row)]
    if not service.passwords.verify(user.password_hash, password):
        raise Forbidden("The password is wrong.", code="password_wrong")
    for org_id in closing:
        market_closing.settle(service, org_id)
    service.meter.flush(everything=True)
    with service.db.write() as session:
        user = session.get_one(User, principal.user)
        for membership in _memberships(session, user.id):
            if _is_alone(session, membership):
                _close_organization(service, session, membership.org_id, give_up_balance=give_up_balance)
            else:
                _leave(service, session, membership, user)
        _forget_person_later(service, session, user)
        personal.erase(session, ANSWERS, user_id=user.id)
        session.execute(update(User).where(User.id == user.id).values(erased_at=service.clock.now()))
        audit.record(session, service.clock, principal=None, action="account.erase", target=user.id)


def _is_alone(session: Session, membership: Membership) -> bool:
    others = select(func.count()).select_from(Membership)
    others = others.where(Membership.org_id == membership.org_id, Membership.user_id != membership.user_id)
    return not session.scalar(others)


def _leave(service: Service, session: Session, membership: Membership, user: User) -> None:
    heir = session.scalar(
        select(User.email)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.org_id == membership.org_id, Membership.user_id != user.id, Membership.role == "admin")
        .order_by(Membership.created_at)
        .limit(1)
    )
    if heir is None and membership.role == "admin":
        raise Conflict("Make somebody else an admin of your organization first.", code="last_admin")
    if heir is not None:
        money_closing.hand_over(service, session, membership.org_id, leaving=user.email, to=heir)


def _close_organization(service: Service, session: Session, org_id: str, *, give_up_balance: bool) -> None:
    market_closing.refuse_while_open(service, session, org_id)
    on_hold = market_closing.commissions_on_hold(session, org_id)
    money_closing.refuse_while_open(session, org_id, on_hold=on_hold, give_up_balance=give_up_balance)
    session.execute(delete(Job).where(Job.org_id == org_id))  # before the jobs that closing makes
    left = market_closing.close(service, session, org_id)
    money_closing.close(service, session, org_id)
    usage_personal.forget_namespaces(session, org_id)
    without_jobs = [answer for answer in ANSWERS if answer.table is not Job]
    personal.erase(session, without_jobs, org_id=org_id)
    for number, wait in enumerate((timedelta(), AGAIN)):
        enqueue(
            session,
            service.clock,
            WIPE,
            asdict(left),
            org_id=org_id,
            run_at=service.clock.now() + wait,
            dedupe_key=f"{WIPE}:{org_id}:{number}",
        )


def wipe(service: Service, claim: Claim) -> None:
    """The job: remove what the engine and the stores of files keep for a closed organization, and free its counters."""
    assert claim.org_id is not None
    removal.remove_stored(service, service.engine.space(claim.org_id, "").tenant_prefix)
    market_closing.remove_blobs(service, Leftovers(**{name: tuple(cids) for name, cids in claim.payload.items()}))
    service.meter.flush(everything=True)
    with service.db.write() as session:
        late = [
            answer for answer in (*cacheapi_personal.PERSONAL, *usage_personal.PERSONAL) if isinstance(answer, Answer)
        ]
        personal.erase(session, late, org_id=claim.org_id)
        usage_personal.forget_namespaces(session, claim.org_id)
        for metric in ("hot_bytes", "asset_bytes"):
            quota.correct(session, claim.org_id, metric, quota.STOCK, to=0)


def _forget_person_later(service: Service, session: Session, user: User) -> None:
    sealed = service.vault.seal(json.dumps({"email": user.email}).encode(), place=_PERSON_PLACE)
    enqueue(session, service.clock, FORGET_PERSON, {"sealed": b64encode(sealed).decode()})


def forget_person(service: Service, claim: Claim) -> None:
    """The job: remove the mails to an erased person, sent and unsent, and then the address it knows itself."""
    if "sealed" not in claim.payload:
        return
    address = json.loads(service.vault.open(b64decode(claim.payload["sealed"]), place=_PERSON_PLACE))["email"]
    mail.forget_recipient(service.db, service.vault, address)
    if isinstance(service.mail, Outbox):
        service.mail.forget(address)
    if service.db.is_sqlite:
        _empty_the_log(service)
    with service.db.write() as session:
        session.execute(update(Job).where(Job.id == claim.id).values(payload={}))


def _empty_the_log(service: Service) -> None:
    """Fold SQLite's write-ahead log into its file: the log still holds the pages as they were before the erasure."""
    with service.db.quick() as connection:
        busy, _pages, _folded = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
    if busy:
        raise Retry(timedelta(minutes=1), "readers hold the write-ahead log")

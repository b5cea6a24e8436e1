"""What organizations store, item by item: the ground on which storage is charged, refused and recounted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from agentcache_service.identity import orgs
from agentcache_service.usage import quota
from agentcache_service.usage.tables import StoredItem

if TYPE_CHECKING:
    from agentcache_service.service import Service


@dataclass(frozen=True, slots=True)
class Item:
    """Something to be stored: its place, size in bytes and the digest of its content (hex)."""

    org_id: str
    namespace: str
    name: str
    metric: str
    size: int
    digest: str
    expires_at: datetime | None = None


def reserve(service: Service, item: Item) -> quota.Hold:
    """Take the item's bytes before storing it; raises `QuotaExceeded` when the plan has no room."""
    with service.db.write() as session:
        org = orgs.get(session, item.org_id)
        limit = orgs.plan_of(service, org).limits[item.metric]
        # what the item replaces will be free again, so it counts as room; content that is there already costs nothing
        replaced = _charged_alone(session, item.org_id, item.metric, item.namespace, item.name)
        size = 0 if _others(session, item) else item.size
        allowed = None if limit is None else limit + replaced
        return quota.reserve(service, session, item.org_id, item.metric, amount=size, limit=allowed)


def commit(service: Service, hold: quota.Hold, item: Item) -> bool:
    """Note that the item is stored and charge it; True when the same content was there already (own tenant only)."""
    with service.db.write() as session:
        return commit_within(session, hold, item, stored_at=service.clock.now())


def commit_within(session: Session, hold: quota.Hold, item: Item, *, stored_at: datetime) -> bool:
    """As `commit`, in the caller's transaction."""
    orgs.lock(session, item.org_id)
    period = quota.STOCK
    replaced = _charged_alone(session, item.org_id, item.metric, item.namespace, item.name)
    session.execute(
        delete(StoredItem).where(
            StoredItem.org_id == item.org_id, StoredItem.namespace == item.namespace, StoredItem.name == item.name
        )
    )
    quota.give_back(session, item.org_id, item.metric, period, amount=replaced)
    duplicate = _others(session, item)
    cost = 0 if duplicate else item.size
    if not quota.commit(session, hold, actual=cost):
        quota.take(session, item.org_id, item.metric, period, amount=cost, limit=None)
    elif cost > hold.amount:
        quota.take(session, item.org_id, item.metric, period, amount=cost - hold.amount, limit=None)
    session.add(
        StoredItem(
            org_id=item.org_id,
            namespace=item.namespace,
            name=item.name,
            metric=item.metric,
            bytes=item.size,
            digest=item.digest,
            stored_at=stored_at,
            expires_at=item.expires_at,
        )
    )
    return duplicate


def _others(session: Session, item: Item) -> bool:
    """True when another item of the organization has the same content."""
    found = session.scalar(
        select(StoredItem.name)
        .where(
            StoredItem.org_id == item.org_id,
            StoredItem.metric == item.metric,
            StoredItem.digest == item.digest,
            (StoredItem.name != item.name) | (StoredItem.namespace != item.namespace),
        )
        .limit(1)
    )
    return found is not None


def _charged_alone(session: Session, org_id: str, metric: str, namespace: str, name: str) -> int:
    """The bytes that become free when this item goes: its size, or 0 while others share its content."""
    row = session.get(StoredItem, (org_id, namespace, name))
    if row is None or row.metric != metric:
        return 0
    twins = session.scalar(
        select(func.count())
        .select_from(StoredItem)
        .where(StoredItem.org_id == org_id, StoredItem.metric == metric, StoredItem.digest == row.digest)
    )
    return row.bytes if (twins or 0) <= 1 else 0


def remove(session: Session, org_id: str, items: Sequence[tuple[str, str]]) -> int:
    """Forget items (namespace, name) that are stored no longer and free their bytes; how many there were."""
    removed = 0
    if items:
        orgs.lock(session, org_id)
    for namespace, name in items:
        row = session.get(StoredItem, (org_id, namespace, name))
        if row is None:
            continue
        freed = _charged_alone(session, org_id, row.metric, namespace, name)
        session.delete(row)
        session.flush()
        quota.give_back(session, org_id, row.metric, quota.STOCK, amount=freed)
        removed += 1
    return removed


def remove_all(session: Session, org_id: str, namespace: str, *, until: datetime | None = None) -> list[str]:
    """Forget all items of a namespace (those stored before `until`, where it is given) and free their bytes; their
    names. Called with the organization locked."""
    which = [StoredItem.org_id == org_id, StoredItem.namespace == namespace]
    if until is not None:
        which.append(StoredItem.stored_at < until)
    before = {metric: recount(session, org_id, metric) for metric in quota.STOCK_METRICS}
    names = list(session.scalars(delete(StoredItem).where(*which).returning(StoredItem.name)))
    for metric, held in before.items():
        freed = held - recount(session, org_id, metric)
        quota.give_back(session, org_id, metric, quota.STOCK, amount=freed)
    return names


def move(session: Session, org_id: str, namespace: str, to: str, *, prefix: str) -> None:
    """Charge the items of a namespace whose names begin with `prefix` to another one of the organization."""
    known = select(StoredItem.name).where(StoredItem.org_id == org_id, StoredItem.namespace == to)
    session.execute(
        update(StoredItem)
        .where(
            StoredItem.org_id == org_id,
            StoredItem.namespace == namespace,
            StoredItem.name.startswith(prefix),
            StoredItem.name.not_in(known),
        )
        .values(namespace=to),
        execution_options={"synchronize_session": False},
    )


def sweep_expired(service: Service, *, batch: int = 500) -> int:
    """Forget items past their expiry; how many there were."""
    total = 0
    while True:
        with service.db.write() as session:
            query = select(StoredItem).where(StoredItem.expires_at <= service.clock.now()).limit(batch)
            rows = session.scalars(query).all()
            by_org: dict[str, list[tuple[str, str]]] = {}
            for row in rows:
                by_org.setdefault(row.org_id, []).append((row.namespace, row.name))
            for org_id, items in by_org.items():
                remove(session, org_id, items)
        total += len(rows)
        if len(rows) < batch:
            return total


def recount(session: Session, org_id: str, metric: str) -> int:
    """The bytes an organization should be charged: equal content once."""
    unique = (
        select(StoredItem.digest, func.max(StoredItem.bytes).label("size"))
        .where(StoredItem.org_id == org_id, StoredItem.metric == metric)
        .group_by(StoredItem.digest)
        .subquery()
    )
    return int(session.scalar(select(func.coalesce(func.sum(unique.c.size), 0))) or 0)


def give_up(service: Service, hold: quota.Hold) -> None:
    """Give a held amount back: nothing was stored."""
    with service.db.write() as session:
        quota.release(session, hold)

"""Personal data of usage: figures stay as sums without names, what names an entry goes."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from agentcache_service.personal import Answer, Keep, Nothing
from agentcache_service.usage.meter import FIGURES
from agentcache_service.usage.tables import AlertSent, Reservation, StoredItem, UsageCounter, UsageDay

PERSONAL: tuple[Answer | Nothing, ...] = (
    Answer(AlertSent, org=lambda org: AlertSent.org_id == org),
    Answer(Reservation, org=lambda org: Reservation.org_id == org),
    Answer(StoredItem, org=lambda org: StoredItem.org_id == org),
    Answer(
        UsageCounter,
        org=lambda org: UsageCounter.org_id == org,
        erase_org=Keep("the finance report of past months is computed from these sums"),
    ),
    Answer(
        UsageDay,
        org=lambda org: UsageDay.org_id == org,
        erase_org=Keep("sums per day, put together without the names of namespaces"),
    ),
)


def forget_namespaces(session: Session, org_id: str) -> None:
    """Put the figures of each day together under the empty name: the names of namespaces are the customer's words."""
    sums = {name: func.sum(getattr(UsageDay, name)).label(name) for name in FIGURES}
    rows = session.execute(
        select(UsageDay.day, *sums.values()).where(UsageDay.org_id == org_id).group_by(UsageDay.day)
    ).all()
    if not rows:
        return
    session.execute(delete(UsageDay).where(UsageDay.org_id == org_id), execution_options={"synchronize_session": False})
    session.execute(
        insert(UsageDay),
        [
            {"org_id": org_id, "namespace": "", "day": row.day, **{name: int(getattr(row, name)) for name in FIGURES}}
            for row in rows
        ],
    )

"""The meter: admits requests and bytes against the plan, and collects daily figures, without a write per call.

Admission takes blocks from the database counter ahead of use. A block is never more than 1/200 of what is left, so it
shrinks to single units as the limit comes near: the limit is never passed, and exactly the last unit is admitted.
What a process holds and does not use goes back at the next flush (twice a second) and at shutdown. A process that is
killed leaves its block charged until `reconcile`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from agentcache_service.identity.tables import ApiKey
from agentcache_service.usage import quota
from agentcache_service.usage.tables import UsageDay

if TYPE_CHECKING:
    from agentcache_service.service import Service

_LARGEST_BLOCK = {"requests": 256, "bandwidth_bytes": 32 << 20}
_SHARE = 200
_USUAL_ANSWER = 64 << 10
Place = tuple[str, str, str]
"""Organization, metric and period."""
FIGURES = (
    "requests",
    "hits",
    "semantic_hits",
    "misses",
    "sets",
    "bytes_in",
    "bytes_out",
    "bytes_saved",
    "duplicate_sets",
    "duplicate_bytes",
    "saved_micros",
)


@dataclass(slots=True)
class _Block:
    """Units taken from the database and not used yet; `idle` since the last flush when nobody used any."""

    left: int = 0
    touched: bool = False


@dataclass(slots=True)
class _Turn:
    """Whose turn it is to take from one counter, and how many want it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0


class Meter:
    """The meter of one process. Safe for threads. Its lock guards memory only and is never held over a statement."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._blocks: dict[Place, _Block] = {}
        self._turns: dict[Place, _Turn] = {}
        self._figures: dict[tuple[str, str, str], dict[str, int]] = {}
        self._touched: dict[str, datetime] = {}

    def touch(self, key_id: str, now: datetime) -> None:
        """Note that an API key was used; written at the next flush."""
        self._touched[key_id] = now

    def holds(self, org_id: str, now: datetime) -> bool:
        """True when the next request will most likely be admitted from what this process holds, without a write."""
        requests = self._blocks.get((org_id, "requests", quota.period_of("requests", now)))
        sent = self._blocks.get((org_id, "bandwidth_bytes", quota.period_of("bandwidth_bytes", now)))
        return requests is not None and requests.left > 0 and sent is not None and sent.left >= _USUAL_ANSWER

    def admit(self, org_id: str, metric: str, *, amount: int, limit: int | None, now: datetime) -> None:
        """Use `amount` of a metric or raise `QuotaExceeded`.

        What this process holds is used without waiting. More is taken from the database by one thread for each
        organization and metric; callers of other ones, and those whom what is held suffices, do not wait for it.
        """
        place = (org_id, metric, quota.period_of(metric, now))
        if self._use(place, amount):
            return
        with self._taking(place):
            if self._use(place, amount):
                return  # another thread has taken a block meanwhile
            held = self._hold(place)
            try:
                with self._service.db.write() as session:
                    taken = self._take(session, place, amount - held, limit)
            except BaseException:
                self._put_back(place, held)
                raise
            if taken is not None:
                self._put_back(place, held + taken - amount)
                return
            self._put_back(place, held)
        assert limit is not None
        with self._service.db.read() as session:
            used = (quota.used(session, *place) or 0) - held
        raise quota.refusal(self._service, metric=metric, used=used, limit=limit)

    def _use(self, place: Place, amount: int) -> bool:
        with self._lock:
            block = self._blocks.setdefault(place, _Block())
            block.touched = True
            if block.left < amount:
                return False
            block.left -= amount
            return True

    def _hold(self, place: Place) -> int:
        """Take out what is left of a block: whoever counts on it must not see it used meanwhile."""
        with self._lock:
            block = self._blocks.setdefault(place, _Block())
            left, block.left = block.left, 0
            return left

    def _put_back(self, place: Place, left: int) -> None:
        with self._lock:
            block = self._blocks.setdefault(place, _Block())  # a flush may have returned the one that was there
            block.left += left
            block.touched = True

    @contextmanager
    def _taking(self, place: Place) -> Iterator[None]:
        """The right to take from one counter, for one thread at a time; forgotten when nobody wants it."""
        with self._lock:
            turn = self._turns.setdefault(place, _Turn())
            turn.wanted += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[place]

    def _take(self, session: Session, place: tuple[str, str, str], missing: int, limit: int | None) -> int | None:
        """Take a block, or just what is missing, or nothing."""
        largest = _LARGEST_BLOCK.get(place[1], 1)
        ahead = largest
        if limit is not None:
            ahead = min(largest, max(0, limit - (quota.used(session, *place) or 0)) // _SHARE)
        if ahead > missing and quota.take(session, *place, amount=ahead, limit=limit):
            return ahead
        return missing if quota.take(session, *place, amount=missing, limit=limit) else None

    def count(self, org_id: str, namespace: str, now: datetime, **figures: int) -> None:
        """Add to the figures of a namespace's day; they reach the database at the next flush."""
        place = (org_id, namespace, now.isoformat()[:10])
        with self._lock:
            sums = self._figures.setdefault(place, {})
            for name, amount in figures.items():
                sums[name] = sums.get(name, 0) + amount

    def flush(self, *, everything: bool = False) -> None:
        """Write collected figures and return blocks that lay idle (all of them with `everything`)."""
        with self._lock:
            figures, self._figures = self._figures, {}
            touched, self._touched = self._touched, {}
            idle = [place for place, block in self._blocks.items() if everything or not block.touched]
            returned = [(place, self._blocks.pop(place).left) for place in idle]
            for block in self._blocks.values():
                block.touched = False
        if not figures and not touched and not any(left for _, left in returned):
            return
        try:
            with self._service.db.write() as session:
                for place, sums in figures.items():
                    _add_figures(session, place, sums)
                for key_id, used_at in touched.items():
                    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=used_at))
                for place, left in returned:
                    quota.give_back(session, *place, amount=left)
        except Exception:
            self._restore(figures, returned)
            raise

    def _restore(
        self,
        figures: Mapping[tuple[str, str, str], Mapping[str, int]],
        returned: list[tuple[tuple[str, str, str], int]],
    ) -> None:
        with self._lock:
            for place, sums in figures.items():
                kept = self._figures.setdefault(place, {})
                for name, amount in sums.items():
                    kept[name] = kept.get(name, 0) + amount
            for key, left in returned:
                self._blocks.setdefault(key, _Block()).left += left


def _add_figures(session: Session, place: tuple[str, str, str], sums: Mapping[str, int]) -> None:
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgres_insert
    values = {name: sums.get(name, 0) for name in FIGURES}
    statement = insert(UsageDay).values(org_id=place[0], namespace=place[1], day=place[2], **values)
    changes = {name: getattr(UsageDay, name) + amount for name, amount in sums.items()}
    session.execute(statement.on_conflict_do_update(index_elements=["org_id", "namespace", "day"], set_=changes))

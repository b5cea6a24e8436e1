"""Background work as an outbox: jobs are rows, added in the transaction of the change that wants them done."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from agentcache_service.clock import Clock
from agentcache_service.db import Database
from agentcache_service.jobs_tables import Job
from agentcache_service.logs import without_secrets
from agentcache_service.orm import new_id

LEASE = timedelta(minutes=5)
MAX_ATTEMPTS = 8
_log = structlog.get_logger("agentcache_service.jobs")


class Retry(Exception):
    """Raised by a job's function to be called again after `delay` without counting as a crash."""

    def __init__(self, delay: timedelta, reason: str) -> None:
        super().__init__(reason)
        self.delay = delay


class GiveUp(Exception):
    """Raised by a job's function that will never succeed: it ends as failed, and is not tried again by itself."""


class Continue(Exception):
    """Raised by a job's function that has done a slice of its work and wants to go on after others had a turn. It
    finds how far it was in its progress."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job this worker holds until `lease_until`; `token` proves it."""

    id: str
    kind: str
    org_id: str | None
    payload: Mapping[str, Any]
    attempt: int
    token: str
    run_at: datetime


class JobFunction(Protocol):
    """What does a job. Called outside any transaction; may be called twice, so it must be repeatable.

    A function with a true `forgets` leaves no payload behind once its job has ended.
    """

    def __call__(self, claim: Claim) -> None: ...


def enqueue(
    session: Session,
    clock: Clock,
    kind: str,
    payload: Mapping[str, Any] | None = None,
    *,
    org_id: str | None = None,
    run_at: datetime | None = None,
    dedupe_key: str | None = None,
) -> str | None:
    """Add a job to the caller's transaction and return its id; None when `dedupe_key` was used before.

    The job exists exactly if the caller's change is committed.
    """
    now = clock.now()
    values = {
        "id": new_id("job"),
        "kind": kind,
        "org_id": org_id,
        "payload": dict(payload or {}),
        "state": "queued",
        "run_at": run_at or now,
        "attempts": 0,
        "dedupe_key": dedupe_key,
        "progress": {},
        "created_at": now,
    }
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    insert = sqlite_insert(Job) if is_sqlite else postgres_insert(Job)
    added = session.execute(
        insert.values(values).on_conflict_do_nothing(index_elements=["dedupe_key"]).returning(Job.id)
    )
    return added.scalar_one_or_none()


def claim(database: Database, clock: Clock, *, kinds: list[str], lease: timedelta = LEASE) -> Claim | None:
    """Take the oldest due job of these kinds, or one whose worker's lease ran out; None when there is none."""
    now = clock.now()
    due = or_(
        (Job.state == "queued") & (Job.run_at <= now),
        (Job.state == "running") & (Job.lease_until < now),
    )
    chosen = select(Job.id).where(due, Job.kind.in_(kinds)).order_by(Job.run_at, Job.id).limit(1)
    if not database.is_sqlite:
        chosen = chosen.with_for_update(skip_locked=True)
    token = secrets.token_hex(8)
    with database.write() as session:
        row = session.execute(
            update(Job)
            .where(Job.id == chosen.scalar_subquery())
            .values(state="running", lease_until=now + lease, lease_token=token, attempts=Job.attempts + 1)
            .returning(Job.id, Job.kind, Job.org_id, Job.payload, Job.attempts, Job.run_at)
        ).one_or_none()
    if row is None:
        return None
    return Claim(row.id, row.kind, row.org_id, row.payload, row.attempts, token, row.run_at)


def waiting(database: Database, clock: Clock, *, since: timedelta = timedelta()) -> int:
    """How many jobs have been due for at least `since` and wait for a worker."""
    with database.read() as session:
        query = select(func.count()).where(Job.state == "queued", Job.run_at <= clock.now() - since)
        return int(session.scalar(query) or 0)


def finish(database: Database, clock: Clock, held: Claim, *, forget: bool = False) -> bool:
    """Mark a held job done, and with `forget` empty its payload; False when the lease was lost to another worker."""
    left: dict[str, Any] = {"payload": {}} if forget else {}
    return _close(database, held, state="done", finished_at=clock.now(), last_error=None, **left)


def give_up(database: Database, clock: Clock, held: Claim, *, reason: str, forget: bool = False) -> bool:
    """Mark a held job failed for good."""
    left: dict[str, Any] = {"payload": {}} if forget else {}
    return _close(database, held, state="failed", finished_at=clock.now(), last_error=reason, **left)


def postpone(database: Database, clock: Clock, held: Claim, *, delay: timedelta, reason: str) -> bool:
    """Give a held job back, to be run after `delay`."""
    return _close(database, held, state="queued", run_at=clock.now() + delay, last_error=reason)


def resume_later(database: Database, clock: Clock, held: Claim) -> bool:
    """Give a held job back to be gone on with at once; the slice that was done counts as no attempt."""
    return _close(database, held, state="queued", run_at=clock.now(), attempts=Job.attempts - 1)


def progress_of(database: Database, held: Claim) -> Mapping[str, Any]:
    """What an earlier slice or attempt of a job has published."""
    with database.read() as session:
        found = session.scalar(select(Job.progress).where(Job.id == held.id))
    return found or {}


def fail(database: Database, clock: Clock, held: Claim, *, reason: str, forget: bool = False) -> bool:
    """Count a failure: again with growing delay, or `failed` for good after the last attempt."""
    if held.attempt >= MAX_ATTEMPTS:
        return give_up(database, clock, held, reason=reason, forget=forget)
    return postpone(database, clock, held, delay=timedelta(seconds=5 * 4 ** (held.attempt - 1)), reason=reason)


def note_progress(database: Database, clock: Clock, held: Claim, progress: Mapping[str, Any]) -> bool:
    """Publish how far a held job is and prolong its lease; False when the lease was lost."""
    with database.write() as session:
        changed = session.execute(
            update(Job)
            .where(Job.id == held.id, Job.lease_token == held.token)
            .values(progress=dict(progress), lease_until=clock.now() + LEASE)
            .returning(Job.id)
        )
        return changed.first() is not None


def _close(database: Database, held: Claim, **values: Any) -> bool:
    with database.write() as session:
        changed = session.execute(
            update(Job)
            .where(Job.id == held.id, Job.lease_token == held.token)
            .values(lease_until=None, lease_token=None, **values)
            .returning(Job.id)
        )
        return changed.first() is not None


@dataclass(frozen=True, slots=True)
class Repeated:
    """A job that returns: `slot(now)` names the current turn, one job is made per turn however many workers run."""

    kind: str
    slot: Callable[[datetime], str]


def hourly(now: datetime) -> str:
    """The slot of jobs that run once an hour."""
    return f"{now:%Y-%m-%dT%H}"


def daily(now: datetime) -> str:
    """The slot of jobs that run once a day (UTC)."""
    return f"{now:%Y-%m-%d}"


def every_minute(now: datetime) -> str:
    """The slot of jobs that run once a minute."""
    return f"{now:%Y-%m-%dT%H:%M}"


class Worker:
    """Does due jobs one after another, with a table of functions by kind. `told(kind, outcome)` hears of each."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        functions: Mapping[str, JobFunction],
        *,
        told: Callable[[str, str], None] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._functions = dict(functions)
        self._told = told
        self._last_slots: dict[str, str] = {}

    def plant(self, repeated: tuple[Repeated, ...]) -> None:
        """Enqueue the current turn of every repeated job that has none yet."""
        now = self._clock.now()
        missing = [
            (item.kind, item.slot(now)) for item in repeated if self._last_slots.get(item.kind) != item.slot(now)
        ]
        if not missing:
            return
        with self._database.write() as session:
            for kind, slot in missing:
                enqueue(session, self._clock, kind, {"slot": slot}, dedupe_key=f"repeat:{kind}:{slot}")
        self._last_slots.update(missing)

    def run_one(self) -> bool:
        """Do one due job; False when none is due. A failing job is told to the log and tried again later."""
        held = claim(self._database, self._clock, kinds=list(self._functions))
        if held is None:
            return False
        outcome, function = "done", self._functions[held.kind]
        forget = bool(getattr(function, "forgets", False))
        try:
            function(held)
        except Continue:
            outcome = "continued"
            resume_later(self._database, self._clock, held)
        except GiveUp as ended:
            outcome = "failed"
            give_up(self._database, self._clock, held, reason=str(ended), forget=forget)
        except Retry as again:
            outcome = "postponed"
            postpone(self._database, self._clock, held, delay=again.delay, reason=str(again))
        except Exception as error:  # noqa: BLE001 - whatever a job raises must not end the worker
            outcome = "failed"
            _log.warning("job failed", job=held.id, kind=held.kind, attempt=held.attempt, error=repr(error)[:500])
            reason = without_secrets(f"{type(error).__name__}: {error}")
            fail(self._database, self._clock, held, reason=reason[:500], forget=forget)
        else:
            finish(self._database, self._clock, held, forget=forget)
        if self._told is not None:
            self._told(held.kind, outcome)
        return True

    def run_due(self, *, limit: int = 1000) -> int:
        """Do due jobs until none is left (or `limit`); how many were done."""
        done = 0
        while done < limit and self.run_one():
            done += 1
        return done

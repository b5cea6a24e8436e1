"""Personal data, table by table: what a copy shows of a table, and what erasure leaves in it.

Every table has an `Answer` in its area's `personal.py`, and every answer accounts for each column that could hold what
a person wrote: the column goes with its row, is blanked, or is named in `stays` with the reason why it may. A test
fails when a table or a column has no answer, so that none can be forgotten.

Two things are erased: a person (by user id), and an organization whose last person leaves (by its id).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, ColumnElement, LargeBinary, String, delete, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import KeyedColumnElement

from agentcache_service.orm import Base

Rows = Callable[[str], ColumnElement[bool]]
"""The rows of one person or organization, by its id."""

SECRET = frozenset({"digest", "state_digest", "password_hash", "totp_last_step", "lease_token", "session_id"})
"""Columns no copy shows: digests of credentials, and what guards a credential's use. Sealed values never are shown."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Erasing removes the rows."""


@dataclass(frozen=True, slots=True)
class Blank:
    """Erasing keeps the rows and sets these columns; a value may be an expression over the row's other columns."""

    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Keep:
    """Erasing leaves the rows as they are: they hold ids, figures and words of ours only. `why` they are needed."""

    why: str


Erasure = Delete | Blank | Keep


@dataclass(frozen=True, slots=True)
class Answer:
    """What one table answers to a wish for a copy and to one for erasure.

    `person` and `org` say which rows are somebody's; None: the table has no rows of such. `shown` widens what an
    organization's copy shows beyond its own rows (messages it received). `stays` names text columns that remain
    because nothing personal can get into them; `hidden` adds to what no copy shows.
    """

    table: type[Base]
    person: Rows | None = None
    erase_person: Erasure = field(default_factory=Delete)
    org: Rows | None = None
    erase_org: Erasure = field(default_factory=Delete)
    shown: Rows | None = None
    stays: Mapping[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Nothing:
    """A table that holds nothing of a person or an organization, and why that is so."""

    table: type[Base]
    why: str


def free_text(table: type[Base]) -> set[str]:
    """The columns of a table that could hold a person's words: texts, JSON and bytes that are no ids and no keys."""
    return {column.key for column in table.__table__.columns if _is_free(column)}


def _is_free(column: KeyedColumnElement[Any]) -> bool:
    if column.primary_key or column.foreign_keys or column.key.endswith(("_id", "_by")) or column.key == "actor":
        return False
    return isinstance(column.type, String | JSON | LargeBinary)


def copy_of(
    session: Session, answers: Sequence[Answer], *, user_id: str | None = None, org_id: str | None = None
) -> Any:
    """The rows of a person, or of an organization, by table name; without secrets."""
    found: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        where = answer.person if org_id is None else answer.shown or answer.org
        if where is None:
            continue
        about = org_id if org_id is not None else user_id
        assert about is not None
        rows = [plain(row, answer.hidden) for row in session.scalars(select(answer.table).where(where(about)))]
        if rows:
            known = found.setdefault(answer.table.__tablename__, [])
            known.extend(row for row in rows if row not in known)
    return found


def plain(row: Any, hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A row's columns as JSON-able values, without what is secret."""
    return {
        column.key: _plain_value(getattr(row, column.key))
        for column in row.__table__.columns
        if column.key not in SECRET | hidden and not isinstance(column.type, LargeBinary)
    }


def _plain_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def erase(
    session: Session, answers: Sequence[Answer], *, user_id: str | None = None, org_id: str | None = None
) -> None:
    """Carry out every answer for a person, or for an organization, in the order they are listed."""
    about = org_id if org_id is not None else user_id
    assert about is not None
    for answer in answers:
        where, erasure = (answer.person, answer.erase_person) if org_id is None else (answer.org, answer.erase_org)
        if where is None:
            continue
        match erasure:
            case Delete():
                session.execute(delete(answer.table).where(where(about)), execution_options=_UNSYNCED)
            case Blank(values):
                session.execute(update(answer.table).where(where(about)).values(**values), execution_options=_UNSYNCED)
            case Keep():
                pass


_UNSYNCED = {"synchronize_session": False}


def unanswered(answer: Answer) -> Iterator[str]:
    """The text columns an answer forgets: neither removed with their row, nor blanked, nor said to stay."""
    for erasure, where in ((answer.erase_person, answer.person), (answer.erase_org, answer.org)):
        if where is None or isinstance(erasure, Delete):
            continue
        blanked = set(erasure.values) if isinstance(erasure, Blank) else set()
        if erasure is answer.erase_person and answer.org is not None:
            continue  # a person inside an organization: the organization's own words stay
        yield from sorted(free_text(answer.table) - blanked - set(answer.stays))

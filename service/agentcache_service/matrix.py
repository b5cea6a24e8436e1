"""The table each router declares: for every route, what every kind of caller must be answered.

A router module has `ACCESS: tuple[Row, ...]`. The test suite builds two organizations with their people and keys, runs
every row with every caller, and fails when a route has no row. Statuses are written down, not derived from the guard:
the table is an independent statement of what the guard should do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CALLERS = (
    "admin",  # session of an admin of the organization
    "member",
    "viewer",
    "other_tenant",  # session of an admin of another organization, naming this organization's things
    "anonymous",
    "key",  # an API key of this organization with every scope
    "other_namespace",  # a key restricted to another namespace
    "other_tenant_key",  # a key of another organization, naming this organization's things
    "revoked_key",
    "wrong_scope",  # a key without the scope the route needs
)

Seed = Callable[[Any, str, str], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One route and the status each caller must get.

    `expect` maps every name in `CALLERS` to a status. `seed(service, org_id, user_id)` makes what the path or body
    names and returns the values put into `{…}` of `path`, `body` and `query`. `staff` adds a row for a platform admin.
    `streams` marks an answer without end: only its head is read.
    """

    method: str
    path: str
    expect: Mapping[str, int]
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    query: Mapping[str, str] | None = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seed: Seed | None = None
    staff: int | None = None
    streams: bool = False

    def but(self, **statuses: int) -> Row:
        """The same row with some callers' statuses changed."""
        return replace(self, expect={**self.expect, **statuses})


_KEYS_REFUSED = {
    "key": 401,
    "other_namespace": 401,
    "other_tenant_key": 401,
    "revoked_key": 401,
    "wrong_scope": 401,
    "anonymous": 401,
}


def for_sessions(ok: int = 200, *, least: str, other_tenant: int = 404) -> dict[str, int]:
    """The statuses of a route for sessions only, from the least role that may pass.

    `other_tenant` is 404 where the route names a thing; `ok` where it acts on the caller's own organization.
    """
    order = ("viewer", "member", "admin")
    passing = order[order.index(least) :]
    return {**{role: ok if role in passing else 403 for role in order}, "other_tenant": other_tenant, **_KEYS_REFUSED}


def for_everybody(ok: int = 200) -> dict[str, int]:
    """The statuses of a public route."""
    return dict.fromkeys(CALLERS, ok)


def for_keys(ok: int = 200, *, other_tenant_key: int = 404, other_namespace: int = 403) -> dict[str, int]:
    """The statuses of a route for API keys only."""
    return {
        "admin": 401,
        "member": 401,
        "viewer": 401,
        "other_tenant": 401,
        "anonymous": 401,
        "key": ok,
        "other_namespace": other_namespace,
        "other_tenant_key": other_tenant_key,
        "revoked_key": 401,
        "wrong_scope": 403,
    }


def for_staff() -> dict[str, int]:
    """The statuses of a route for platform admins: everybody else is refused."""
    return {**dict.fromkeys(("admin", "member", "viewer", "other_tenant"), 403), **_KEYS_REFUSED}

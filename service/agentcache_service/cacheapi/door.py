"""The quick way in for the calls that are made most: key, scope, namespace, plan and rate checked with one read.

It does what `require(..., by=("api_key",), namespaced=True)` and `place.enter` do together; one test holds it against
them. The check happens in the thread that does the work, so a call changes threads once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fastapi import Request
from sqlalchemy import bindparam, select

from agentcache_service.cacheapi.place import Place
from agentcache_service.crypto import token_digest
from agentcache_service.db import Database
from agentcache_service.errors import NotFound
from agentcache_service.identity import presets
from agentcache_service.identity.credentials import is_key, is_living, wants_touch
from agentcache_service.identity.tables import ApiKey, Namespace, Org
from agentcache_service.policy import PERMISSIONS, Guard, check_namespace
from agentcache_service.principal import Principal
from agentcache_service.quickread import QuickRead

if TYPE_CHECKING:
    from agentcache_service.service import Service

_MOST_KNOWN = 10_000
_READ = (
    select(
        ApiKey.id,
        ApiKey.org_id,
        ApiKey.scopes,
        ApiKey.namespaces,
        ApiKey.expires_at,
        ApiKey.last_used_at,
        ApiKey.revoked_at,
        Org.plan,
        Org.trial_ends_at,
        Namespace.nodes,
    )
    .join(Org, Org.id == ApiKey.org_id)
    .outerjoin(Namespace, (Namespace.org_id == ApiKey.org_id) & (Namespace.name == bindparam("namespace")))
    .where(ApiKey.digest == bindparam("digest"))
)


@dataclass(frozen=True, slots=True)
class _Known:
    """A row of `_READ` as it stands in the database, and what it says."""

    row: tuple[Any, ...]
    caller: Principal
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    plan: str
    trial_ends_at: datetime | None
    settings: Mapping[str, Any] | None


class Keys:
    """Who stands behind an API key, and the namespace it asks for: one read of the database at every call, so that a
    revocation holds for the next one, whichever process it reaches. A row that is what it was is not parsed again."""

    def __init__(self, database: Database) -> None:
        self._read = QuickRead(database, _READ)
        self._known: dict[tuple[str, str], _Known] = {}

    def find(self, key: str, namespace: str) -> _Known | None:
        """What the database says now; None for a key it does not have."""
        digest = token_digest(key)
        row = self._read.one({"digest": digest, "namespace": namespace})
        if row is None:
            return None
        known = self._known.get((digest, namespace))
        if known is None or known.row != row:
            known = _parsed(row, self._read.parsed(row))
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[digest, namespace] = known
        return known

    def close(self) -> None:
        """Return connections."""
        self._read.close()


def _parsed(raw: tuple[Any, ...], row: tuple[Any, ...]) -> _Known:
    key_id, org_id, scopes, namespaces, expires_at, last_used_at, revoked_at, plan, trial_ends_at, nodes = row
    caller = Principal(
        kind="api_key",
        org_id=org_id,
        scopes=frozenset(scopes),
        namespaces=None if namespaces is None else frozenset(namespaces),
        key_id=key_id,
    )
    settings = None if nodes is None else presets.effective(nodes)
    return _Known(raw, caller, expires_at, last_used_at, revoked_at, plan, trial_ends_at, settings)


@dataclass(frozen=True, slots=True)
class Door(Guard):
    """A guard that checks when the route calls `enter`, not before. A route that wears one must call it first."""

    async def __call__(self, request: Request) -> Any:
        """Hand the guard to the route."""
        return self

    def enter(self, service: Service, key: str, namespace: str | None) -> Place:
        """Check the caller and find the place; raises what `Guard.check` and `place.enter` raise."""
        now = service.clock.now()
        found = service.keys.find(key, namespace or "") if is_key(key) else None
        if found is None or not is_living(found.revoked_at, found.expires_at, now):
            self.check(Principal())
            raise AssertionError("an anonymous caller passed a door")
        caller = found.caller
        assert caller.key_id is not None
        if wants_touch(found.last_used_at, now):
            service.meter.touch(caller.key_id, now)
        self.check(caller)
        check_namespace(caller, namespace)
        assert namespace is not None
        if found.settings is None:
            raise NotFound(f"There is no namespace {namespace!r} in this organization.", code="namespace_unknown")
        plan = service.plans.current(found.plan, found.trial_ends_at, now)
        service.limiter.check(plan.rate, "cache", caller.tenant)
        return Place(caller.tenant, namespace, plan, found.settings, now)


def door(permission: str) -> Door:
    """The guard of a much-used route; the route takes it as `entrance: Door = Depends(…)`."""
    if permission not in PERMISSIONS:
        raise ValueError(f"unknown permission {permission!r}; add it to policy.PERMISSIONS")
    return Door(permission, ("api_key",), namespaced=True)

"""The quick way in for the calls that are made most: key, scope, namespace, plan and rate checked with one read.

It does what `require(..., by=("api_key",), namespaced=True)` and `place.enter` do together; one test holds it against
them. The check happens in the thread that does the work, so a call changes threads once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Depends, Request
from sqlalchemy import bindparam, select

from agentcache_service.cacheapi.place import Place
from agentcache_service.crypto import token_digest
from agentcache_service.errors import NotFound
from agentcache_service.identity import presets
from agentcache_service.identity.credentials import is_key, is_living, wants_touch
from agentcache_service.identity.tables import ApiKey, Namespace, Org
from agentcache_service.policy import PERMISSIONS, Guard, check_namespace
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from agentcache_service.service import Service

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
class Door(Guard):
    """A guard that checks when the route calls `enter`, not before. A route that wears one must call it first."""

    async def __call__(self, request: Request) -> Any:
        """Hand the guard to the route."""
        return self

    def enter(self, request: Request) -> tuple[Service, Place]:
        """Check the caller and find the place; raises what `Guard.check` and `place.enter` raise."""
        service: Service = request.app.state.service
        key, namespace = request.headers.get("x-api-key", ""), request.headers.get("x-namespace")
        now = service.clock.now()
        row = None
        if is_key(key):
            with service.db.quick() as connection:
                row = connection.execute(
                    _READ, {"digest": token_digest(key), "namespace": namespace or ""}
                ).one_or_none()
        if row is None or not is_living(row.revoked_at, row.expires_at, now):
            self.check(Principal())
            raise AssertionError("an anonymous caller passed a door")
        if wants_touch(row.last_used_at, now):
            service.meter.touch(row.id, now)
        caller = Principal(
            kind="api_key",
            org_id=row.org_id,
            scopes=frozenset(row.scopes),
            namespaces=None if row.namespaces is None else frozenset(row.namespaces),
            key_id=row.id,
        )
        self.check(caller)
        check_namespace(caller, namespace)
        assert namespace is not None
        if row.nodes is None:
            raise NotFound(f"There is no namespace {namespace!r} in this organization.", code="namespace_unknown")
        plan = service.plans.current(row.plan, row.trial_ends_at, now)
        service.limiter.check(plan.rate, "cache", row.org_id)
        return service, Place(row.org_id, namespace, plan, presets.effective(row.nodes), now)


def door(permission: str) -> Any:
    """The guard of a much-used route, as a parameter default: `entrance: Door = door("cache:read")`."""
    if permission not in PERMISSIONS:
        raise ValueError(f"unknown permission {permission!r}; add it to policy.PERMISSIONS")
    return Depends(Door(permission, ("api_key",), namespaced=True))

"""Who may do what: roles and scopes as tables, and `require()`, the guard every route wears."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from agentcache_service.errors import Forbidden, ServiceError, Unauthenticated
from agentcache_service.principal import Principal

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant
    from starlette.routing import BaseRoute

Credential = Literal["session", "api_key"]

ROLES = ("viewer", "member", "admin")

# permission -> the least role of an organization that has it
PERMISSIONS: dict[str, str] = {
    "account:self": "viewer",  # account permissions hold for every signed-in person, with or without organization
    "account:second_factor": "viewer",  # the only thing a session may do while its second factor is missing
    "org:read": "viewer",
    "org:write": "admin",
    "members:read": "viewer",
    "members:write": "admin",
    "audit:read": "admin",
    "keys:read": "member",
    "keys:write": "admin",
    "namespaces:read": "viewer",
    "namespaces:write": "admin",
    "listeners:read": "viewer",
    "listeners:write": "member",
    "usage:read": "viewer",
    "cache:read": "member",
    "cache:write": "member",
    "billing:read": "viewer",
    "billing:write": "admin",
    "market:read": "viewer",
    "market:use": "member",
    "market:review": "member",
    "market:buy": "admin",
    "market:sell": "admin",
    "integrations:read": "viewer",
    "integrations:use": "member",
    "integrations:write": "admin",
    "affiliates:read": "viewer",
    "affiliates:write": "admin",
}

# permission -> the scope an API key needs for it; a permission that is not here is out of reach for keys
KEY_SCOPES: dict[str, str] = {
    "cache:read": "cache:read",
    "cache:write": "cache:write",
    "listeners:read": "cache:read",
    "listeners:write": "cache:write",
    "usage:read": "stats:read",
}

SCOPES = ("cache:read", "cache:write", "stats:read")
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def role_allows(role: str | None, permission: str) -> bool:
    """True when a role of an organization includes a permission. An unknown permission is an error of ours."""
    least = PERMISSIONS[permission]
    return role in ROLES and ROLES.index(role) >= ROLES.index(least)


@dataclass(frozen=True, slots=True)
class Guard:
    """The check in front of a route, callable by FastAPI as a dependency; returns the `Principal`.

    `permission` None means the route is public. `by` names the credentials it takes. `staff` asks for a platform
    admin. `namespaced` asks for an `X-Namespace` header and checks that the key may use it. `rate` limits calls per
    caller (per address while the caller is anonymous).
    """

    permission: str | None
    by: tuple[Credential, ...] = ("session",)
    staff: bool = False
    namespaced: bool = False
    rate: str | None = None

    async def __call__(self, request: Request) -> Principal:
        service = request.app.state.service
        principal: Principal = await run_in_threadpool(service.identify, request)
        if principal.kind != "api_key":
            await self._check_origin(request, principal, service.settings.public_url)
        if self.rate:
            caller = principal.key_id or principal.user_id or principal.address
            await run_in_threadpool(service.limiter.check, self.rate, request.scope["route"].path, caller)
        if self.permission is not None or self.staff:
            self.check(principal)
            if self.namespaced:
                check_namespace(principal, request.headers.get("x-namespace"))
        return principal

    def check(self, principal: Principal) -> None:
        """Raise `Unauthenticated` or `Forbidden` unless the principal may pass."""
        if principal.kind == "anonymous" or principal.kind not in self.by:
            raise Unauthenticated(_how_to_sign_in(self.by), headers={"WWW-Authenticate": "ApiKey"})
        if self.staff:
            if not principal.is_staff:
                raise Forbidden("Only platform admins with a second factor may do this.")
            return
        assert self.permission is not None
        if principal.needs_second_factor and self.permission != "account:second_factor":
            raise Forbidden("Give your second factor first.", code="second_factor_required")
        if principal.kind == "api_key":
            scope = KEY_SCOPES.get(self.permission)
            if scope is None or scope not in principal.scopes:
                needed = scope or "a session"
                raise Forbidden(f"This API key may not do this; it needs {needed}.", code="insufficient_scope")
        elif not self.permission.startswith("account:") and not role_allows(principal.role, self.permission):
            raise Forbidden("Your role in this organization does not allow this.")

    async def _check_origin(self, request: Request, principal: Principal, public_url: str) -> None:
        """Refuse changes that another site's page sends with the visitor's cookie."""
        if request.method in _SAFE_METHODS:
            return
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site")
        own = {public_url, f"{request.url.scheme}://{request.headers.get('host', '')}"}
        if site in {"cross-site", "same-site"} or (origin is not None and origin not in own):
            raise Forbidden("This request comes from another site.", code="cross_origin")
        if principal.kind != "session" or not (self.permission or self.staff):
            return  # nothing a public route does rests on the session
        given = request.headers.get("x-csrf-token", "")
        content_type = request.headers.get("content-type", "")
        if not given and content_type.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
            field = (await request.form()).get("csrf_token")
            given = field if isinstance(field, str) else ""
        if not hmac.compare_digest(given.encode(), principal.csrf_token.encode()):
            raise Forbidden("The CSRF token is missing or wrong; reload the page.", code="csrf")


def check_namespace(principal: Principal, namespace: str | None) -> None:
    """Refuse a call without `X-Namespace`, or with one the key may not use (whether or not it exists)."""
    if not namespace:
        raise ServiceError("The header X-Namespace is missing.", code="namespace_missing")
    if principal.namespaces is not None and namespace not in principal.namespaces:
        raise Forbidden("This API key may not use this namespace.", code="wrong_namespace")


def _how_to_sign_in(by: tuple[Credential, ...]) -> str:
    if by == ("api_key",):
        return "Send a valid API key in the header X-API-Key."
    if by == ("session",):
        return "Sign in first."
    return "Sign in, or send a valid API key in the header X-API-Key."


def require(
    permission: str,
    *,
    by: tuple[Credential, ...] = ("session",),
    namespaced: bool = False,
    rate: str | None = None,
) -> Any:
    """The guard of a route, as a parameter default: `principal: Principal = require("keys:write")`."""
    if permission not in PERMISSIONS:
        raise ValueError(f"unknown permission {permission!r}; add it to policy.PERMISSIONS")
    return Depends(Guard(permission, by, namespaced=namespaced, rate=rate))


def require_staff(*, rate: str | None = None) -> Any:
    """The guard of a route for platform admins."""
    return Depends(Guard(None, ("session",), staff=True, rate=rate))


def public(*, rate: str | None = None) -> Any:
    """The guard of a route that anybody may call; it still identifies the caller and refuses foreign origins."""
    return Depends(Guard(None, ("session", "api_key"), rate=rate))


def guards_of(route: BaseRoute) -> list[Guard]:
    """The guards a route wears; a route with none is refused when the app is built."""
    return list(_guards_in(route.dependant)) if isinstance(route, APIRoute) else []


def _guards_in(dependant: Dependant) -> Iterator[Guard]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, Guard):
            yield inner.call
        yield from _guards_in(inner)

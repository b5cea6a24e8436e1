"""Routes for those who run the service: alive, ready, figures."""

from __future__ import annotations

import hmac
import ipaddress

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from agentcache_service import jobs, schema
from agentcache_service.errors import NotFound
from agentcache_service.matrix import Row, for_everybody
from agentcache_service.policy import public
from agentcache_service.principal import Principal
from agentcache_service.service import service_of

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def alive(_caller: Principal = public()) -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(request: Request, _caller: Principal = public()) -> JSONResponse:
    """The database answers and its schema is the one this code needs (503 otherwise)."""
    service = service_of(request)
    try:
        service.db.ping()
        current = schema.is_current(service.db)
    except SQLAlchemyError:
        return JSONResponse({"status": "database unreachable"}, status_code=503)
    if not current:
        return JSONResponse({"status": "schema is old: run `agentcache-service migrate`"}, status_code=503)
    return JSONResponse({"status": "ready"})


@router.get("/metrics", response_class=PlainTextResponse)
def figures(request: Request, caller: Principal = public()) -> Response:
    """Prometheus figures: for callers on this machine without a proxy, or with the metrics token as bearer."""
    service = service_of(request)
    if not (_has_token(request) or (service.settings.metrics_token is None and is_direct_loopback(request))):
        raise NotFound("There is no such page.")
    service.metrics.queued.set(jobs.waiting(service.db, service.clock))
    return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def is_direct_loopback(request: Request) -> bool:
    """True for a caller on this machine that came through no proxy."""
    if any(name in request.headers for name in ("x-forwarded-for", "forwarded", "x-real-ip")):
        return False
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _has_token(request: Request) -> bool:
    token = service_of(request).settings.metrics_token
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    return token is not None and hmac.compare_digest(given.encode(), token.get_secret_value().encode())


ACCESS: tuple[Row, ...] = (
    Row("GET", "/healthz", for_everybody()),
    Row("GET", "/readyz", for_everybody()),
    Row("GET", "/metrics", for_everybody(404)),
)

"""Routes of the cache: get, set, invalidate, raw bodies."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from agentcache_core.model import Hit
from agentcache_service.cacheapi import calls, quick
from agentcache_service.cacheapi.bodies import (
    MAX_TTL,
    GetBody,
    HitAnswer,
    InvalidateBody,
    Invalidated,
    SetAnswer,
    SetBody,
)
from agentcache_service.cacheapi.door import Door
from agentcache_service.cacheapi.place import Place, admit_request, enter
from agentcache_service.cacheapi.ranges import Part, in_blocks, part_of, part_response
from agentcache_service.errors import BadRequest, NotFound, Unprocessable
from agentcache_service.matrix import Row, for_keys
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.usage.plans import require_feature
from agentcache_service.wire import DOWNLOAD

router = APIRouter(prefix="/api/cache", tags=["cache"])

NamespaceHeader = Annotated[str, Header(alias="X-Namespace", min_length=1, max_length=64)]


def _place(request: Request, caller: Principal, namespace: str, *, writes: bool = False) -> tuple[Service, Place]:
    service = service_of(request)
    place = enter(service, caller, namespace, writes=writes)
    admit_request(service, place)
    service.meter.count(place.org_id, place.namespace, place.now, requests=1)
    return service, place


@router.post(quick.PATH.removeprefix("/api/cache"), response_model=HitAnswer)
async def get(
    body: GetBody,
    request: Request,
    namespace: Annotated[str | None, Header(alias="X-Namespace", max_length=64)] = None,
    _entrance: Door = Depends(quick.ENTRANCE),
) -> Response:
    """Look an entry up. A miss is a 200 with `{"hit": false}`."""
    key = request.headers.get("x-api-key", "")
    return Response(await quick.answer(service_of(request), body, key, namespace), media_type="application/json")


@router.post("/set")
def put(
    body: SetBody,
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> SetAnswer:
    """Store a value, as JSON or base64."""
    service, place = _place(request, caller, namespace, writes=True)
    value = calls.decode_value(body.value if body.request is None else body.response, body.encoding)
    stored = calls.put(
        service,
        place,
        body.address,
        value,
        ttl=body.ttl,
        tags=body.tags,
        sources=body.sources,
        cost=calls.cost_of(body.cost.model_dump() if body.cost else None),
        content_type=body.content_type,
    )
    return _set_answer(stored)


def _set_answer(stored: calls.StoredAnswer) -> SetAnswer:
    return SetAnswer(key=stored.key, bytes=stored.size, deduplicated=stored.deduplicated, expires_at=stored.expires_at)


_RAW_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put("/value", openapi_extra=_RAW_BODY)
async def put_raw(
    request: Request,
    namespace: NamespaceHeader,
    key: Annotated[str, Query(min_length=1, max_length=2048)],
    ttl: Annotated[float | None, Query(gt=0, le=MAX_TTL)] = None,
    tag: Annotated[list[str] | None, Query(max_length=50)] = None,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> SetAnswer:
    """Store a raw body under a key of the query; its content type is kept."""
    content = await request.body()
    content_type = request.headers.get("content-type", "application/octet-stream")[:200]
    if any(not item or len(item) > 200 for item in tag or ()):
        raise Unprocessable("A tag has 1 to 200 characters.", code="tag")

    def store() -> SetAnswer:
        service, place = _place(request, caller, namespace, writes=True)
        stored = calls.put(service, place, key, content, ttl=ttl, tags=tag or (), content_type=content_type)
        return _set_answer(stored)

    return await run_in_threadpool(store)


@router.head("/value", include_in_schema=False)
@router.get("/value", response_class=Response, responses=DOWNLOAD)
def get_raw(
    request: Request,
    namespace: NamespaceHeader,
    key: Annotated[str, Query(min_length=1, max_length=2048)],
    caller: Principal = require("cache:read", by=("api_key",), namespaced=True),
) -> Response:
    """The raw body of a key, whole or by `Range`, with the content type it was stored with; 404 on a miss."""
    service, place = _place(request, caller, namespace)
    parts: list[Part] = []

    def sent(_hit: Hit, body: bytes) -> int:
        parts.append(part_of(request, size=len(body), etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"'))
        return parts[0].length

    hit, value = calls.get(service, place, key, sent=sent)
    if hit is None:
        raise NotFound("There is no fresh entry under this key.")
    media = (hit.content_type or "application/octet-stream") if isinstance(hit.value, bytes) else "application/json"
    (part,) = parts
    return part_response(part, in_blocks(value, part), media_type=media, Content_Disposition="attachment")


@router.post("/invalidate")
def invalidate(
    body: InvalidateBody,
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> Invalidated:
    """Make entries unservable, by exactly one selector."""
    service, place = _place(request, caller, namespace)
    require_feature(place.plan, "anti_cache", public_url=service.settings.public_url)
    if body.namespace is not None:
        return Invalidated(invalidated=_invalidate_namespace(service, caller, body))
    single = [body.key] if body.key is not None else body.keys
    if body.request is not None:
        if body.provider is None:
            raise BadRequest("provider and request belong together.")
        addresses: list[object] = [{"provider": body.provider, **body.request}]
    else:
        addresses = list(single or ())
    if addresses:
        return Invalidated(invalidated=calls.invalidate_keys(service, place, addresses, older_than=body.older_than))
    if body.keys is not None:
        return Invalidated(invalidated=0)
    return Invalidated(
        invalidated=calls.invalidate_matching(
            service, place, tag=body.tag, pattern=body.pattern, url=body.url, older_than=body.older_than
        )
    )


def _invalidate_namespace(service: Service, caller: Principal, body: InvalidateBody) -> int:
    from agentcache_service.policy import check_namespace

    assert body.namespace is not None
    check_namespace(caller, body.namespace)
    place = enter(service, caller, body.namespace)
    return calls.invalidate_matching(service, place, older_than=body.older_than)


def _an_entry(service: Service, org_id: str, user_id: str) -> dict[str, str]:
    caller = Principal(kind="api_key", org_id=org_id, key_id="seed")
    place = enter(service, caller, "storage")
    calls.put(service, place, "seeded", "x", ttl=60)
    return {}


# a key of another organization works in that organization's own namespace of the same name, where nothing is seeded
ACCESS: tuple[Row, ...] = (
    Row("POST", "/api/cache/get", for_keys(other_tenant_key=200), body={"key": "seeded"}, seed=_an_entry),
    Row("POST", "/api/cache/set", for_keys(other_tenant_key=200), body={"key": "k", "value": {"a": 1}, "ttl": 60}),
    Row("PUT", "/api/cache/value", for_keys(other_tenant_key=200), query={"key": "raw"}, content=b"abc"),
    Row("GET", "/api/cache/value", for_keys(), query={"key": "seeded"}, seed=_an_entry),
    Row("POST", "/api/cache/invalidate", for_keys(other_tenant_key=200), body={"pattern": "seed*"}, seed=_an_entry),
)

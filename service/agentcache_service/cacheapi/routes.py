"""Routes of the cache: get, set, invalidate, raw bodies."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field, model_validator
from starlette.concurrency import run_in_threadpool

from agentcache_service.cacheapi import calls
from agentcache_service.cacheapi.door import Door, door
from agentcache_service.cacheapi.place import Place, admit_request, enter
from agentcache_service.cacheapi.ranges import ranged
from agentcache_service.errors import BadRequest, NotFound, Unprocessable
from agentcache_service.matrix import Row, for_keys
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.usage.plans import require_feature
from agentcache_service.wire import DOWNLOAD, Body, Done

router = APIRouter(prefix="/api/cache", tags=["cache"])

NamespaceHeader = Annotated[str, Header(alias="X-Namespace", min_length=1, max_length=64)]
MAX_TTL = calls.LONGEST_TTL


class Addressed(Body):
    """What names an entry: a plain key, or a provider and its request."""

    key: str | None = Field(default=None, min_length=1, max_length=2048)
    provider: str | None = Field(default=None, max_length=100)
    request: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_address(self) -> Addressed:
        if (self.key is None) == (self.request is None):
            raise ValueError("give either key, or provider and request")
        if (self.provider is None) != (self.request is None):
            raise ValueError("provider and request belong together")
        return self

    @property
    def address(self) -> object:
        """What the engine keys: identical to the same request in an embedded cache."""
        return self.key if self.request is None else {"provider": self.provider, **self.request}


class GetBody(Addressed):
    """A look-up."""

    max_age: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="seconds; nothing older is answered"
    )
    semantic: bool | None = Field(default=None, description="false: exact matches only")


class CostBody(Body):
    """What computing the value cost: told back, summed up, when the cache saves it."""

    usd_micros: int = Field(default=0, ge=0, le=10**12)
    input_tokens: int = Field(default=0, ge=0, le=10**9)
    cached_input_tokens: int = Field(default=0, ge=0, le=10**9)
    output_tokens: int = Field(default=0, ge=0, le=10**9)
    seconds: float = Field(default=0.0, ge=0, le=10**6)


class SetBody(Addressed):
    """A value to be stored: `value` with a key, `response` with a request."""

    value: Any = None
    response: Any = None
    encoding: str | None = Field(default=None, description='"base64" where the value is bytes')
    ttl: float | None = Field(default=None, gt=0, le=MAX_TTL, description="seconds", examples=[604800])
    tags: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=50)
    sources: list[Annotated[str, Field(min_length=1, max_length=2048)]] = Field(default_factory=list, max_length=50)
    cost: CostBody | None = None
    content_type: str | None = Field(default=None, max_length=200)

    @model_validator(mode="after")
    def _one_value(self) -> SetBody:
        wanted, other = ("value", "response") if self.request is None else ("response", "value")
        if wanted not in self.model_fields_set or other in self.model_fields_set:
            raise ValueError(f"this form of set takes {wanted!r}")
        return self


class InvalidateBody(Body):
    """Exactly one selector; `older_than` (seconds) narrows any of them."""

    key: str | None = Field(default=None, min_length=1, max_length=2048)
    keys: list[Annotated[str, Field(min_length=1, max_length=2048)]] | None = Field(default=None, max_length=1000)
    pattern: str | None = Field(default=None, min_length=1, max_length=2048)
    tag: str | None = Field(default=None, min_length=1, max_length=200)
    namespace: str | None = Field(default=None, min_length=1, max_length=64)
    url: str | None = Field(default=None, min_length=1, max_length=2048)
    provider: str | None = Field(default=None, max_length=100)
    request: dict[str, Any] | None = None
    older_than: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_selector(self) -> InvalidateBody:
        given = [
            name
            for name in ("key", "keys", "pattern", "tag", "namespace", "url", "request")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise ValueError(f"give exactly one of key, keys, pattern, tag, namespace, url, request; got {given}")
        return self


class SetAnswer(Done):
    """Stored."""

    key: str
    bytes: int
    deduplicated: bool = Field(description="the same content was there already, in your own organization")
    expires_at: datetime | None


class Saved(BaseModel):
    """What the hit saved."""

    usd_micros: int
    input_tokens: int
    output_tokens: int
    seconds: float
    bytes: int


class HitAnswer(BaseModel):
    """A hit, or only `{"hit": false}`."""

    hit: bool
    value: Any = None
    encoding: str | None = None
    how: str | None = Field(default=None, description='"exact" or "semantic"')
    similarity: float | None = None
    age_s: float | None = None
    ttl_s: float | None = None
    freshness: str | None = Field(default=None, description='"fresh", "stale" or "expired"')
    saved: Saved | None = None


class Invalidated(BaseModel):
    """How many entries it concerned."""

    invalidated: int


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _place(request: Request, caller: Principal, namespace: str, *, writes: bool = False) -> tuple[Service, Place]:
    service = service_of(request)
    place = enter(service, caller, namespace, writes=writes)
    admit_request(service, place)
    service.meter.count(place.org_id, place.namespace, place.now, requests=1)
    return service, place


@router.post("/get", response_model=HitAnswer)
async def get(
    body: GetBody,
    request: Request,
    _namespace: Annotated[str | None, Header(alias="X-Namespace", max_length=64)] = None,
    entrance: Door = door("cache:read"),
) -> Response:
    """Look an entry up. A miss is a 200 with `{"hit": false}`."""
    service = service_of(request)
    if not service.reads_are_local:
        return await run_in_threadpool(_look_up, body, *(await run_in_threadpool(entrance.enter, request)))
    # local reads of a tenth of a millisecond are done here: changing threads would take longer than they do
    service, place = entrance.enter(request)
    if service.meter.holds(place.org_id, place.now):
        return _look_up(body, service, place)
    return await run_in_threadpool(_look_up, body, service, place)


def _look_up(body: GetBody, service: Service, place: Place) -> Response:
    admit_request(service, place)
    service.meter.count(place.org_id, place.namespace, place.now, requests=1)
    hit, value = calls.get(service, place, body.address, max_age=body.max_age, semantic=body.semantic)
    return _json({"hit": False} if hit is None else calls.hit_body(hit, value))


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


@router.get("/value", response_class=Response, responses=DOWNLOAD)
def get_raw(
    request: Request,
    namespace: NamespaceHeader,
    key: Annotated[str, Query(min_length=1, max_length=2048)],
    caller: Principal = require("cache:read", by=("api_key",), namespaced=True),
) -> Response:
    """The raw body of a key, whole or by `Range`; 404 on a miss."""
    service, place = _place(request, caller, namespace)
    hit, value = calls.get(service, place, key)
    if hit is None:
        raise NotFound("There is no fresh entry under this key.")
    media = "application/octet-stream" if isinstance(hit.value, bytes) else "application/json"
    return ranged(request, value, media_type=media)


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

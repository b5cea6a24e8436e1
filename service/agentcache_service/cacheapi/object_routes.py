"""Routes of opaque objects, for the remote client: one object with ETag conditions, batches, listing, and who I am."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import ormsgpack
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from agentcache_service.cacheapi.objects import Room
from agentcache_service.cacheapi.place import enter
from agentcache_service.errors import BadRequest, ErrorBody, NotFound, ServiceError
from agentcache_service.matrix import Row, for_keys
from agentcache_service.policy import require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import DOWNLOAD, Said, bytes_of

router = APIRouter(prefix="/api/v1", tags=["objects"])
T = TypeVar("T")

NamespaceHeader = Annotated[str, Header(alias="X-Namespace", min_length=1, max_length=64)]
NamePath = Annotated[str, Path(max_length=700, description="base64url of the name's bytes")]
Expires = Annotated[float | None, Header(alias="X-Expires-At", description="wall-clock seconds", allow_inf_nan=False)]
MAX_BATCH = 1000
_PACKED = "application/msgpack"
_BINARY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_PACKED_BODY = {
    "requestBody": {"required": True, "content": {_PACKED: {"schema": {"type": "string", "format": "binary"}}}}
}
_PACKED_ANSWER = bytes_of(_PACKED, description="One item for each that was asked, in order.")
_WRITES: Said = {
    412: {"model": ErrorBody, "description": "The object is not in the state that the condition names."},
    507: {"model": ErrorBody, "description": "The storage behind the service is full."},
}


class TenantAnswer(BaseModel):
    """Whom a key belongs to: what a remote client computes its keys with."""

    tenant: str
    namespace: str


class ListedObject(BaseModel):
    """One name of a listing; `name` and `version` in base64url."""

    name: str
    size: int
    modified_at: float
    expires_at: float | None
    version: str


class Listing(BaseModel):
    """A page of names; ask again with the last one as `after` while `more`."""

    objects: list[ListedObject]
    more: bool


def encoded(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decoded(text: str) -> bytes:
    """The inverse of `encoded`; raises `BadRequest`."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A name or version is not base64url.") from None


def _etag(version: bytes) -> str:
    return f'"{encoded(version)}"'


def _version(header: str | None) -> bytes | None:
    return None if header is None else decoded(header.strip().strip('"'))


def _room(request: Request, caller: Principal, namespace: str, *, writes: bool = False) -> Room:
    service = service_of(request)
    return Room(service, caller, enter(service, caller, namespace, writes=writes))


@router.get("/tenant")
def tenant(
    namespace: NamespaceHeader, caller: Principal = require("cache:read", by=("api_key",), namespaced=True)
) -> TenantAnswer:
    """The organization this key belongs to."""
    return TenantAnswer(tenant=caller.tenant, namespace=namespace)


@router.get("/objects/{name}", response_class=Response, responses=DOWNLOAD)
def read(
    name: NamePath,
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:read", by=("api_key",), namespaced=True),
) -> Response:
    """One object's bytes, its version as ETag; 404 when there is none."""
    (stored,) = _room(request, caller, namespace).get([decoded(name)])
    if not stored:
        raise NotFound("There is no such object.")
    return Response(stored.data, media_type="application/octet-stream", headers={"ETag": _etag(stored.version)})


@router.put("/objects/{name}", status_code=204, response_class=Response, openapi_extra=_BINARY, responses=_WRITES)
async def write(
    name: NamePath,
    request: Request,
    namespace: NamespaceHeader,
    x_expires_at: Expires = None,
    if_match: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> Response:
    """Store an object; `If-None-Match: *` only where there is none, `If-Match` only over that version (412)."""
    data = await request.body()

    def store() -> bytes | None:
        return _room(request, caller, namespace, writes=True).put(
            decoded(name),
            data,
            expires_at=x_expires_at,
            if_absent=if_none_match == "*",
            if_version=_version(if_match),
        )

    version = await run_in_threadpool(store)
    if version is None:
        raise ServiceError("The condition does not hold.", code="precondition_failed", status=412)
    return Response(status_code=204, headers={"ETag": _etag(version)})


@router.delete("/objects/{name}", status_code=204, response_class=Response, responses=_WRITES)
def remove(
    name: NamePath,
    request: Request,
    namespace: NamespaceHeader,
    if_match: Annotated[str | None, Header()] = None,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> Response:
    """Remove an object; 404 when there is none, or another version than `If-Match` says."""
    if not _room(request, caller, namespace).delete(decoded(name), if_version=_version(if_match)):
        raise NotFound("There is no such object.")
    return Response(status_code=204)


@router.post("/objects/{name}/touch", status_code=204, response_class=Response, responses=_WRITES)
def touch(
    name: NamePath,
    request: Request,
    namespace: NamespaceHeader,
    x_expires_at: Expires = None,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> Response:
    """Keep an object alive until at least `X-Expires-At` (without: for ever); 404 when there is none."""
    if not _room(request, caller, namespace, writes=True).touch(decoded(name), x_expires_at):
        raise NotFound("There is no such object.")
    return Response(status_code=204)


@router.get("/objects")
def listing(
    request: Request,
    namespace: NamespaceHeader,
    prefix: Annotated[str, Query(max_length=700)] = "",
    after: Annotated[str, Query(max_length=700)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    caller: Principal = require("cache:read", by=("api_key",), namespaced=True),
) -> Listing:
    """Names in byte order, page by page."""
    room = _room(request, caller, namespace)
    stats = room.scan(decoded(prefix), after=decoded(after), limit=limit + 1)
    return Listing(
        objects=[
            ListedObject(
                name=encoded(stat.name),
                size=stat.size,
                modified_at=stat.modified_at,
                expires_at=stat.expires_at,
                version=encoded(stat.version),
            )
            for stat in stats[:limit]
        ],
        more=len(stats) > limit,
    )


async def _batched(
    request: Request, caller: Principal, namespace: str, answer: Callable[[Room, list[Any]], list[Any]], *, writes: bool
) -> Response:
    try:
        items = ormsgpack.unpackb(await request.body())
    except (ValueError, TypeError):
        raise BadRequest("The body is not MessagePack.") from None
    if not isinstance(items, list) or len(items) > MAX_BATCH:
        raise BadRequest(f"A batch is a list of at most {MAX_BATCH} items.")

    def work() -> bytes:
        room = _room(request, caller, namespace, writes=writes)
        try:
            return ormsgpack.packb(answer(room, items))
        except (TypeError, ValueError, AttributeError):
            raise BadRequest("An item of the batch has a wrong shape.") from None

    return Response(await run_in_threadpool(work), media_type=_PACKED)


@router.post("/batches/get", response_class=Response, openapi_extra=_PACKED_BODY, responses=_PACKED_ANSWER)
async def get_many(
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:read", by=("api_key",), namespaced=True),
) -> Response:
    """Several objects in one round trip. Body: MessagePack list of names; answer: list of [data, version], nil where
    there is none, or false where the answer would grow too large: ask for those again."""

    def answer(room: Room, names: list[Any]) -> list[Any]:
        return [list(stored) if stored else stored for stored in room.get([_bytes(name) for name in names])]

    return await _batched(request, caller, namespace, answer, writes=False)


@router.post("/batches/put", response_class=Response, openapi_extra=_PACKED_BODY, responses=_PACKED_ANSWER)
async def put_many(
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> Response:
    """Several writes. Items: [name, data, expires_at, if_absent, if_version]; answer: list of versions or nil."""

    def answer(room: Room, items: list[Any]) -> list[Any]:
        return [
            room.put(
                _bytes(name),
                _bytes(data),
                expires_at=_moment(expires),
                if_absent=bool(absent),
                if_version=None if version is None else _bytes(version),
            )
            for name, data, expires, absent, version in items
        ]

    return await _batched(request, caller, namespace, answer, writes=True)


@router.post("/batches/delete", response_class=Response, openapi_extra=_PACKED_BODY, responses=_PACKED_ANSWER)
async def delete_many(
    request: Request,
    namespace: NamespaceHeader,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> Response:
    """Several removals. Body: list of names; answer: list of booleans."""

    def answer(room: Room, names: list[Any]) -> list[Any]:
        return [room.delete(_bytes(name)) for name in names]

    return await _batched(request, caller, namespace, answer, writes=False)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("bytes are expected")
    return value


def _moment(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("a number of seconds is expected")
    return float(value)


def _an_object(service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    space = service.engine.space(org_id, "storage")
    name = space.entries_prefix + b"seeded"
    service.engine.objects.put(name, b"frame")
    return {"name": encoded(name)}


# for a key of another organization our names are ordinary names of its own, under which it finds nothing
ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/v1/tenant", for_keys(other_tenant_key=200)),
    Row("GET", "/api/v1/objects/{name}", for_keys(), seed=_an_object),
    Row("PUT", "/api/v1/objects/{name}", for_keys(204, other_tenant_key=204), seed=_an_object, content=b"frame"),
    Row("DELETE", "/api/v1/objects/{name}", for_keys(204), seed=_an_object),
    Row("POST", "/api/v1/objects/{name}/touch", for_keys(204), seed=_an_object),
    Row("GET", "/api/v1/objects", for_keys(other_tenant_key=200)),
    Row("POST", "/api/v1/batches/get", for_keys(other_tenant_key=200), content=b"\x90"),
    Row("POST", "/api/v1/batches/put", for_keys(other_tenant_key=200), content=b"\x90"),
    Row("POST", "/api/v1/batches/delete", for_keys(other_tenant_key=200), content=b"\x90"),
)

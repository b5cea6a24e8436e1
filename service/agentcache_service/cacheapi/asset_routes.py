"""Routes of assets: upload, download whole or in parts, signed links."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from agentcache_service.cacheapi import assets
from agentcache_service.cacheapi.place import Place, admit_bytes, admit_request, enter
from agentcache_service.cacheapi.ranges import part_of, part_response
from agentcache_service.cacheapi.tables import AssetRecord
from agentcache_service.errors import ServiceError
from agentcache_service.identity import orgs
from agentcache_service.matrix import Row, for_everybody, for_keys
from agentcache_service.policy import public, require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import DOWNLOAD, Done

router = APIRouter(tags=["assets"])
NamespaceHeader = Annotated[str, Header(alias="X-Namespace", min_length=1, max_length=64)]
_BINARY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class AssetAnswer(Done):
    """A stored asset. `url` answers this content for ever, and only this; it needs a key. `signed_url` works without
    one until `link_expires_at`."""

    asset: str
    url: str
    digest: str = Field(description="SHA-256 of the content")
    size: int
    content_type: str
    deduplicated: bool
    signed_url: str
    link_expires_at: datetime
    expires_at: datetime | None


@router.post("/api/assets", status_code=201, openapi_extra=_BINARY)
async def upload(
    request: Request,
    namespace: NamespaceHeader,
    key: Annotated[str, Query(min_length=1, max_length=2048)],
    ttl: Annotated[float | None, Query(gt=0, le=315360000)] = None,
    caller: Principal = require("cache:write", by=("api_key",), namespaced=True),
) -> AssetAnswer:
    """Store the body under a key. Content that the organization has already is answered with its address."""
    service = service_of(request)
    content_type = request.headers.get("content-type", "application/octet-stream")[:200]
    folder = await run_in_threadpool(assets.upload_folder, service)
    with tempfile.SpooledTemporaryFile(max_size=1 << 20, dir=str(folder)) as file:
        async for chunk in request.stream():
            await run_in_threadpool(file.write, chunk)

        def keep() -> AssetAnswer:
            place = enter(service, caller, namespace, writes=True)
            admit_request(service, place)
            service.meter.count(place.org_id, place.namespace, place.now, requests=1)
            stored = assets.store(service, place, key=key, file=file, content_type=content_type, ttl=ttl)
            return _answer(service, stored)

        return await run_in_threadpool(keep)


def _answer(service: Service, stored: assets.StoredAsset) -> AssetAnswer:
    row = stored.record
    link, until = assets.signed_link(service, row)
    return AssetAnswer(
        asset=row.address,
        url=assets.address(service, row),
        digest=row.content_hash,
        size=row.size,
        content_type=row.mime_type,
        deduplicated=stored.deduplicated,
        signed_url=link,
        link_expires_at=until,
        expires_at=row.expires_at,
    )


@router.head("/api/assets/{asset_id}", include_in_schema=False)
@router.get("/api/assets/{asset_id}", response_class=Response, responses=DOWNLOAD)
def download(asset_id: str, request: Request, caller: Principal = require("cache:read", by=("api_key",))) -> Response:
    """The content, whole or by `Range`."""
    service = service_of(request)
    with service.db.read() as session:
        rows = assets.find(
            session, asset_id, org_id=caller.tenant, namespaces=caller.namespaces, now=service.clock.now()
        )
    return _send(request, service, rows)


@router.head("/assets/{asset_id}", include_in_schema=False)
@router.get("/assets/{asset_id}", response_class=Response, responses=DOWNLOAD)
def download_by_link(
    asset_id: str,
    request: Request,
    expires: Annotated[int, Query(ge=0)] = 0,
    signature: Annotated[str, Query(max_length=100)] = "",
    _caller: Principal = public(rate="600/minute"),
) -> Response:
    """The content by a signed link."""
    service = service_of(request)
    assets.check_link(service, asset_id, expires, signature)
    with service.db.read() as session:
        rows = assets.find(session, asset_id, org_id=None, namespaces=None, now=service.clock.now())
    # a link is given to others to be used in their pages, so pages of other origins may embed what it answers
    return _send(request, service, rows, Cross_Origin_Resource_Policy="cross-origin")


def _send(request: Request, service: Service, rows: Sequence[AssetRecord], **headers: str) -> Response:
    row, reader = assets.open_asset(service, rows)
    part = part_of(request, size=row.size, etag=f'"{row.content_hash[:32]}"')
    content = assets.blocks(reader, part.first, part.length)
    _admit(service, row, part.length)
    return part_response(
        part,
        content,
        media_type=row.mime_type,
        Cache_Control="private, max-age=60",
        Content_Disposition="attachment",
        **headers,
    )


def _admit(service: Service, row: AssetRecord, size: int) -> None:
    """Charge a download to the organization that owns the asset, whoever follows the link."""
    now = service.clock.now()
    with service.db.read() as session:
        plan = orgs.plan_of(service, orgs.get(session, row.org_id))
    place = Place(row.org_id, row.namespace, plan, {}, now)
    admit_request(service, place)
    admit_bytes(service, place, size)
    assets.count_hit(service, row, size, now)


def _an_asset(service: Service, org_id: str, _user_id: str) -> dict[str, str]:
    place = enter(service, Principal(kind="api_key", org_id=org_id), "storage")
    try:
        stored = assets.store(
            service, place, key="seeded", file=io.BytesIO(b"content"), content_type="text/plain", ttl=None
        )
    except ServiceError:
        raise RuntimeError("the seed of the access matrix needs a plan with assets") from None
    return {"asset_id": stored.record.address}


ACCESS: tuple[Row, ...] = (
    Row("POST", "/api/assets", for_keys(201, other_tenant_key=201), query={"key": "k"}, content=b"content"),
    Row("GET", "/api/assets/{asset_id}", for_keys(other_namespace=404), seed=_an_asset),
    Row("GET", "/assets/{asset_id}", for_everybody(404), seed=_an_asset),
)

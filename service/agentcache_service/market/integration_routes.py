"""Routes of the integration marketplace: catalogue, connecting, actions, jobs, figures, disconnecting."""

from __future__ import annotations

from datetime import datetime
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field

from agentcache_service import wire
from agentcache_service.errors import NotFound
from agentcache_service.matrix import Row, for_everybody, for_sessions
from agentcache_service.policy import public, require
from agentcache_service.principal import Principal
from agentcache_service.service import Service, service_of
from agentcache_service.wire import UPSTREAM, leads_to

from . import connections, partner_calls, partner_jobs, seeds
from .integration_tables import Connection, PartnerJob
from .partner_catalog import Bundle, Category, Partner

router = APIRouter(prefix="/api/integrations", tags=["integrations"])


class PartnerView(BaseModel):
    """A partner's card."""

    slug: str
    name: str
    category: str
    benefit: str
    price: str
    deal: str
    commission: str
    featured: bool
    connect: str
    fields: list[str]
    hint: str
    home: str
    docs: str
    actions: list[str]


class BundleView(BaseModel):
    """Partners that go together."""

    slug: str
    title: str
    benefit: str
    partners: list[str]


class CatalogView(BaseModel):
    """The catalogue: what was found, the featured three, the categories and bundles."""

    partners: list[PartnerView]
    featured: list[str]
    categories: list[str]
    bundles: list[BundleView]


class ConnectionView(BaseModel):
    """A connection: its status, last use, usage, savings and how they are computed."""

    partner: str
    name: str
    status: str
    account: str
    method: str
    connected_at: datetime
    last_used_at: datetime | None
    hits: int
    misses: int
    saved: int = Field(description="micro-USD")
    formula: str
    words: str
    trouble: str


class PartnerDetail(PartnerView):
    """A partner with its recipe, where it is connected by following one."""

    recipe: str | None


class FieldsBody(wire.Body):
    """The credential's fields, as the partner's card names them."""

    fields: dict[str, str] = Field(max_length=10, repr=False)


class DisconnectedView(wire.Done):
    """The credential is erased here; `revoked` says whether the partner has confirmed (a job goes on otherwise)."""

    revoked: bool


class JobView(BaseModel):
    """A job at a partner; the cost in micro-USD."""

    id: str
    action: str
    state: str
    schedule: str | None
    log: list[dict[str, Any]]
    cost: int
    result: dict[str, Any]
    created_at: datetime
    next_at: datetime | None
    finished_at: datetime | None


def partner_view(partner: Partner) -> PartnerView:
    """A partner's wire form."""
    return PartnerView(
        slug=partner.slug,
        name=partner.name,
        category=partner.category,
        benefit=partner.benefit,
        price=partner.price,
        deal=partner.deal,
        commission=partner.commission.words,
        featured=bool(partner.featured),
        connect=partner.connect.method,
        fields=list(partner.connect.fields),
        hint=partner.connect.hint,
        home=partner.home,
        docs=partner.docs,
        actions=[*partner.actions, *_CALLS.get(partner.slug, {})],
    )


def bundle_view(bundle: Bundle) -> BundleView:
    """A bundle's wire form."""
    return BundleView(slug=bundle.slug, title=bundle.title, benefit=bundle.benefit, partners=list(bundle.partners))


def connection_view(service: Service, row: Connection) -> ConnectionView:
    """A connection's wire form."""
    partner = connections.partner(service, row.partner)
    return ConnectionView(
        partner=row.partner,
        name=partner.name,
        status="trouble" if row.trouble else row.status,
        account=row.account,
        method=row.method,
        connected_at=row.connected_at,
        last_used_at=row.last_used_at,
        hits=row.hits,
        misses=row.misses,
        saved=row.saved,
        formula=partner.savings,
        words=partner_calls.savings_words(partner.name, row.hits, row.saved),
        trouble=row.trouble,
    )


def job_view(row: PartnerJob) -> JobView:
    """A job's wire form."""
    return JobView(
        id=row.id,
        action=row.action,
        state=row.state,
        schedule=row.schedule,
        log=row.log,
        cost=row.cost,
        result=row.result,
        created_at=row.created_at,
        next_at=row.next_at,
        finished_at=row.finished_at,
    )


def recipe_text(service: Service, partner: Partner) -> str | None:
    """A partner's recipe with this installation's address in it."""
    if not partner.connect.recipe:
        return None
    path = resources.files("agentcache_service.market") / "recipes" / f"{partner.connect.recipe}.md"
    return path.read_text("utf-8").replace("%(url)s", service.settings.public_url)


_CALLS = {"replicate": {"predict": partner_calls.predict}, "together": {"chat": partner_calls.chat}}


@router.get("")
def catalogue(
    request: Request, q: str = "", category: Category | None = None, _caller: Principal = public(rate="300/minute")
) -> CatalogView:
    """The partners, by words and category."""
    catalog = service_of(request).market.catalog
    return CatalogView(
        partners=[partner_view(partner) for partner in catalog.search(q[:100], category=category)],
        featured=[partner.slug for partner in catalog.featured],
        categories=sorted({partner.category for partner in catalog.by_slug.values()}),
        bundles=[bundle_view(bundle) for bundle in catalog.bundles],
    )


@router.get("/mine")
def mine(request: Request, caller: Principal = require("integrations:read")) -> list[ConnectionView]:
    """The organization's connections."""
    service = service_of(request)
    with service.db.read() as session:
        rows = connections.connected(session, caller.tenant)
    return [connection_view(service, row) for row in rows]


@router.get("/{slug}")
def one(slug: str, request: Request, _caller: Principal = public(rate="300/minute")) -> PartnerDetail:
    """One partner."""
    service = service_of(request)
    partner = connections.partner(service, slug)
    return PartnerDetail(**partner_view(partner).model_dump(), recipe=recipe_text(service, partner))


@router.get(
    "/{slug}/connect",
    status_code=303,
    response_class=Response,
    responses={**leads_to("the partner's page that asks for consent"), **UPSTREAM},
)
def connect(slug: str, request: Request, caller: Principal = require("integrations:write")) -> Response:
    """Begin an OAuth connect: sends the browser to the partner."""
    return RedirectResponse(connections.start(service_of(request), caller, slug), status_code=303)


@router.get(
    "/{slug}/callback",
    status_code=303,
    response_class=Response,
    responses={**leads_to("the page of integrations"), **UPSTREAM},
)
def callback(slug: str, request: Request, caller: Principal = require("integrations:write")) -> Response:
    """Where the partner sends the browser back to; every doubt about its answer is a refusal."""
    service = service_of(request)
    connections.finish(service, caller, slug, answer=dict(request.query_params))
    return RedirectResponse(f"{service.settings.public_url}/dashboard/integrations?connected={slug}", status_code=303)


@router.post("/{slug}/key", responses=UPSTREAM)
def connect_by_key(
    slug: str, body: FieldsBody, request: Request, caller: Principal = require("integrations:write")
) -> ConnectionView:
    """Connect by key: the fields are checked with the partner, then sealed."""
    service = service_of(request)
    return connection_view(service, connections.connect_by_key(service, caller, slug, fields=body.fields))


@router.delete("/{slug}", responses=UPSTREAM)
def disconnect(slug: str, request: Request, caller: Principal = require("integrations:write")) -> DisconnectedView:
    """Erase the credential here and revoke it at the partner."""
    return DisconnectedView(revoked=connections.disconnect(service_of(request), caller, slug))


@router.get("/{slug}/stats")
def stats(slug: str, request: Request, caller: Principal = require("integrations:read")) -> ConnectionView:
    """Usage and savings of a connection, with the formula."""
    service = service_of(request)
    connections.partner(service, slug)
    with service.db.read() as session:
        row = connections.find(session, caller.tenant, slug)
    if row is None or row.sealed is None:
        raise NotFound("This partner is not connected.")
    return connection_view(service, row)


@router.post("/{slug}/actions/{name}", responses=UPSTREAM)
def act(
    slug: str,
    name: str,
    request: Request,
    given: Annotated[dict[str, Any], Body(default_factory=dict)],
    caller: Principal = require("integrations:use"),
) -> dict[str, Any]:
    """Do something with a connected partner: a cached call, or a job (`schedule`: nightly, weekly or cron)."""
    service = service_of(request)
    connections.partner(service, slug)
    call = _CALLS.get(slug, {}).get(name)
    if call is not None:
        return call(service, caller, given=given)
    schedule = given.pop("schedule", None)
    row = partner_jobs.trigger(
        service, caller, slug, action=name, given=given, schedule=str(schedule) if schedule is not None else None
    )
    return {"job": row.id, "state": row.state, "next_at": row.next_at.isoformat() if row.next_at else None}


@router.get("/{slug}/jobs")
def list_jobs(slug: str, request: Request, caller: Principal = require("integrations:read")) -> list[JobView]:
    """The organization's jobs at a partner, newest first."""
    service = service_of(request)
    connections.partner(service, slug)
    with service.db.read() as session:
        return [job_view(row) for row in partner_jobs.of_org(session, caller.tenant, slug)]


@router.get("/{slug}/jobs/{job_id}")
def one_job(slug: str, job_id: str, request: Request, caller: Principal = require("integrations:read")) -> JobView:
    """A job: state, log, cost, result."""
    with service_of(request).db.read() as session:
        return job_view(partner_jobs.own(session, caller.tenant, slug, job_id=job_id))


@router.post("/{slug}/jobs/{job_id}/cancel", responses=UPSTREAM)
def cancel_job(slug: str, job_id: str, request: Request, caller: Principal = require("integrations:use")) -> JobView:
    """Stop a job here and at the partner."""
    return job_view(partner_jobs.cancel(service_of(request), caller, slug, job_id=job_id))


_OWN = for_sessions(least="viewer", other_tenant=200)
_KEY = {"fields": {"database_url": "postgresql://u:p@10.0.0.1/d"}}

ACCESS: tuple[Row, ...] = (
    Row("GET", "/api/integrations", for_everybody()),
    Row("GET", "/api/integrations/mine", _OWN),
    Row("GET", "/api/integrations/{slug}", for_everybody(), seed=seeds.a_connection),
    Row(
        "GET",
        "/api/integrations/{slug}/connect",
        for_sessions(409, least="admin", other_tenant=409),
        seed=seeds.a_connection,
    ),
    Row(
        "GET",
        "/api/integrations/{slug}/callback",
        for_sessions(400, least="admin", other_tenant=400),
        seed=seeds.a_connection,
    ),
    Row(
        "POST",
        "/api/integrations/{slug}/key",
        for_sessions(422, least="admin", other_tenant=422),
        body=_KEY,
        seed=seeds.a_connection,
    ),
    Row("DELETE", "/api/integrations/{slug}", for_sessions(least="admin"), seed=seeds.a_connection),
    Row("GET", "/api/integrations/{slug}/stats", for_sessions(least="viewer"), seed=seeds.a_connection),
    Row(
        "POST",
        "/api/integrations/{slug}/actions/{name}",
        for_sessions(least="member", other_tenant=409),
        body={"input": {}, "schedule": "nightly"},
        seed=seeds.a_connection,
    ),
    Row("GET", "/api/integrations/{slug}/jobs", _OWN, seed=seeds.a_connection),
    Row("GET", "/api/integrations/{slug}/jobs/{job_id}", for_sessions(least="viewer"), seed=seeds.a_connection),
    Row("POST", "/api/integrations/{slug}/jobs/{job_id}/cancel", for_sessions(least="member"), seed=seeds.a_connection),
)

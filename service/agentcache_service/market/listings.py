"""Listings: made, changed, given versions, published after automatic checks, and taken off again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agentcache_service import audit
from agentcache_service.errors import Conflict, NotFound, Unprocessable
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import creators, listing_rules, moderation, notices
from .archive import Package
from .listing_rules import Kind, Pricing, Step, StepRefused
from .tables import Listing, ListingCredential, ListingVersion, Purchase

MAX_TAGS = 10


@dataclass(frozen=True, slots=True)
class Draft:
    """What a creator writes about a listing; prices in micro-USD."""

    kind: Kind
    name: str
    summary: str
    description: str
    category: str
    use_case: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    pricing: Pricing
    price: int
    price_per_call: int
    price_per_1k_tokens: int


def create(service: Service, session: Session, principal: Principal, draft: Draft) -> Listing:
    """A new listing, not yet visible to anybody else."""
    creators.of(session, principal.tenant)
    _check(service, draft)
    now = service.clock.now()
    row = Listing(
        id=new_id("lst"),
        org_id=principal.tenant,
        kind=draft.kind,
        status="draft",
        version="",
        created_by=principal.user,
        created_at=now,
        updated_at=now,
        **_columns(draft),
    )
    session.add(row)
    audit.record(session, service.clock, principal=principal, action="market.listing.create", target=row.id)
    return row


def edit(service: Service, session: Session, principal: Principal, *, listing_id: str, draft: Draft) -> Listing:
    """Change a listing. What buyers have already bought keeps its price."""
    row = own(session, principal.tenant, listing_id)
    if row.status == "suspended":
        raise Conflict("A suspended listing cannot be changed; appeal first.", code="suspended")
    if draft.kind != row.kind:
        raise Unprocessable("A listing stays a model or an agent; make another one.")
    _check(service, draft)
    for name, value in _columns(draft).items():
        setattr(row, name, value)
    row.updated_at = service.clock.now()
    if row.status == "active" and (findings := moderation.automatic_findings(row, None)):
        row.status = "inactive"
        moderation.open_case(service, session, row, cause="automatic", findings=findings)
    return row


def publish(service: Service, session: Session, principal: Principal, *, listing_id: str) -> Listing:
    """Put a complete listing on sale, unless the automatic checks hold it for a person; the row says which."""
    row = own(session, principal.tenant, listing_id)
    creators.check_may_sell(session, principal.tenant)
    latest = latest_version(session, row)
    if row.kind == "model" and session.get(ListingCredential, row.id) is None:
        raise Conflict("Store the model's credentials first.", code="credentials_missing")
    if latest is None or (row.kind == "agent" and latest.package_cid is None):
        raise Conflict("Add a version first (for an agent: with its package).", code="version_missing")
    wanted = _step(row, "publish")
    open_case = moderation.open_case_of(session, row.id)
    if open_case is not None and open_case.cause == "automatic":
        raise Conflict("This listing waits for a moderator's decision.", code="in_moderation")
    findings = moderation.automatic_findings(row, latest)
    if findings and not moderation.was_approved(session, row, latest):
        moderation.open_case(service, session, row, cause="automatic", findings=findings)
    else:
        row.status = wanted
        row.published_at = row.published_at or service.clock.now()
    row.updated_at = service.clock.now()
    audit.record(session, service.clock, principal=principal, action="market.listing.publish", target=row.id)
    return row


def delist(service: Service, session: Session, principal: Principal, *, listing_id: str) -> Listing:
    """Take a listing off sale; those who bought it keep what they have."""
    row = own(session, principal.tenant, listing_id)
    row.status = _step(row, "delist")
    row.updated_at = service.clock.now()
    audit.record(session, service.clock, principal=principal, action="market.listing.delist", target=row.id)
    return row


def withdraw(service: Service, session: Session, principal: Principal, *, listing_id: str) -> Listing:
    """Take a listing off sale and let its subscriptions run out: nothing renews, paid time stays until its end."""
    row = own(session, principal.tenant, listing_id)
    if row.status == "active":
        row.status = _step(row, "delist")
    now = service.clock.now()
    row.updated_at = now
    running = (Purchase.listing_id == row.id, Purchase.status == "completed", Purchase.renews)
    for purchase in session.scalars(select(Purchase).where(*running)):
        purchase.renews = False
        context = {"name": row.name, "until": purchase.access_until, "purchase": purchase.id}
        notices.tell_org(service, session, purchase.org_id, template="market_withdrawn", context=context)
    audit.record(session, service.clock, principal=principal, action="market.listing.withdraw", target=row.id)
    return row


def add_version(
    service: Service,
    session: Session,
    principal: Principal,
    *,
    listing_id: str,
    version: str,
    notes: str,
    package: tuple[Package, str, int] | None = None,
) -> ListingVersion:
    """A new version; `package` is the checked archive, its CID and its size. Must be newer than the last."""
    row = own(session, principal.tenant, listing_id)
    if not listing_rules.is_version(version):
        raise Unprocessable("A version is written like 1.2.3 or 1.2.3-beta.1.")
    if row.kind == "agent" and package is None:
        raise Unprocessable("A version of an agent needs its package.")
    if row.kind == "model" and package is not None:
        raise Unprocessable("A model has no package: it is reached at its endpoint.")
    if row.version and listing_rules.version_order(version) <= listing_rules.version_order(row.version):
        raise Conflict(f"Version {version} is not newer than {row.version}.", code="version_not_newer")
    made = ListingVersion(
        id=new_id("ver"),
        listing_id=row.id,
        version=version,
        notes=notes,
        package_bytes=0,
        files=[],
        findings=[],
        readme="",
        created_at=service.clock.now(),
    )
    if package is not None:
        checked, cid, size = package
        made.package_cid, made.package_sha256, made.package_bytes = cid, checked.sha256, size
        made.files = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in checked.files]
        made.findings = [{"path": f.path, "line": f.line, "what": f.what} for f in checked.findings]
        made.readme = checked.readme
    session.add(made)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(f"Version {version} is there already.") from None
    row.version, row.updated_at = version, service.clock.now()
    findings = moderation.automatic_findings(row, made)
    if row.status == "active" and findings:
        row.status = "inactive"
        moderation.open_case(service, session, row, cause="automatic", findings=findings)
    elif row.status == "active":
        notices.tell_of_version(service, session, row, version)
    return made


def own(session: Session, org_id: str, listing_id: str) -> Listing:
    """A listing of this organization, or `NotFound`."""
    row = session.get(Listing, listing_id)
    if row is None or row.org_id != org_id:
        raise NotFound("There is no such listing.")
    return row


def of_creator(session: Session, org_id: str) -> list[Listing]:
    """Every listing of an organization, newest first."""
    query = select(Listing).where(Listing.org_id == org_id).order_by(Listing.created_at.desc())
    return list(session.scalars(query))


def visible(session: Session, listing_id: str, *, org_id: str | None = None) -> Listing:
    """A listing on sale, or one's own in any state; `NotFound` otherwise."""
    row = session.get(Listing, listing_id)
    if row is None or (row.status != "active" and row.org_id != org_id):
        raise NotFound("There is no such listing.")
    return row


def versions(session: Session, listing_id: str) -> list[ListingVersion]:
    """A listing's versions, newest first."""
    rows = list(session.scalars(select(ListingVersion).where(ListingVersion.listing_id == listing_id)))
    return sorted(rows, key=lambda row: listing_rules.version_order(row.version), reverse=True)


def latest_version(session: Session, row: Listing) -> ListingVersion | None:
    """The newest version of a listing."""
    query = select(ListingVersion).where(ListingVersion.listing_id == row.id, ListingVersion.version == row.version)
    return session.scalars(query).one_or_none()


def _step(row: Listing, step: Step) -> str:
    try:
        return listing_rules.listing_after(cast("listing_rules.Status", row.status), step)
    except StepRefused as refused:
        raise Conflict(str(refused), code="wrong_state") from None


def _check(service: Service, draft: Draft) -> None:
    categories = service.market.rates.categories
    if draft.category not in categories:
        raise Unprocessable(f"category must be one of {', '.join(categories)}.")
    if len(draft.tags) > MAX_TAGS or any(not 1 <= len(tag) <= 30 for tag in draft.tags):
        raise Unprocessable(f"At most {MAX_TAGS} tags of 1 to 30 characters.")
    wrong = listing_rules.check_pricing(
        draft.kind,
        draft.pricing,
        price=draft.price,
        per_call=draft.price_per_call,
        per_1k_tokens=draft.price_per_1k_tokens,
    )
    if wrong is not None:
        raise Unprocessable(wrong)


def _columns(draft: Draft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "summary": draft.summary,
        "description": draft.description,
        "category": draft.category,
        "use_case": draft.use_case,
        "tags": sorted({tag.strip().lower() for tag in draft.tags}),
        "config": dict(draft.config),
        "pricing": draft.pricing,
        "price": draft.price,
        "price_per_call": draft.price_per_call,
        "price_per_1k_tokens": draft.price_per_1k_tokens,
    }

"""Things the access matrix names: a listing, a purchase, a key, a case, made as their owners would make them."""

from __future__ import annotations

import io
import zipfile

from agentcache_service.identity import orgs
from agentcache_service.money import invoices
from agentcache_service.orm import new_id
from agentcache_service.principal import Principal
from agentcache_service.service import Service

from . import (
    access_keys,
    affiliates,
    connections,
    creators,
    credentials,
    listings,
    moderation,
    packages,
    partner_jobs,
    purchases,
    reviews,
)
from .listings import Draft
from .tables import Listing, Purchase

Names = dict[str, str]


def owner(org_id: str, user_id: str) -> Principal:
    """The organization's admin."""
    return Principal(kind="session", user_id=user_id, org_id=org_id, role="admin")


def a_draft(kind: str = "model", *, price: int = 5_000_000, pricing: str = "one_time") -> Draft:
    """A listing as a creator might write it."""
    return Draft(
        kind="agent" if kind == "agent" else "model",
        name="Seeded listing",
        summary="A listing for a test.",
        description="A listing that exists so that somebody can ask for it.",
        category="text",
        use_case="testing",
        tags=("seed",),
        config={},
        pricing="subscription" if pricing == "subscription" else "one_time",
        price=price,
        price_per_call=0,
        price_per_1k_tokens=0,
    )


def a_package() -> bytes:
    """The smallest package that passes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("README.md", "# Seed\n\nRun `python src/main.py`.\n")
        archive.writestr("src/main.py", "print('seed')\n")
    return buffer.getvalue()


def a_listing(service: Service, org_id: str, user_id: str, *, kind: str = "model", publish: bool = False) -> Names:
    """A listing of the organization, a draft unless it shall be published."""
    principal = owner(org_id, user_id)
    service.money.customers.payee(org_id, "creator@example.com")
    with service.db.write() as session:
        creators.become(service, session, principal, display_name="Seed", about="")
        row = listings.create(service, session, principal, a_draft(kind))
        session.flush()
        name = row.id
        if kind == "model":
            raw = {
                "modelId": "seed-1",
                "externalApiEndpoint": "https://8.8.8.8/v1",
                "apiKey": "sk-seed",
                "rateLimits": {"requestsPerMinute": 60, "requestsPerHour": 600},
                "permissions": ["*"],
            }
            credentials.store(service, session, principal, listing_id=name, credentials=credentials.parse(raw))
    made = packages.take_in(service, a_package()) if kind == "agent" else None
    with service.db.write() as session:
        listings.add_version(service, session, principal, listing_id=name, version="1.0.0", notes="First", package=made)
        if publish:
            listings.publish(service, session, principal, listing_id=name)
    return {"listing_id": name}


def an_active_listing(service: Service, org_id: str, user_id: str) -> Names:
    """A model on sale."""
    return a_listing(service, org_id, user_id, publish=True)


def somebody_elses_listing(service: Service, org_id: str, user_id: str, *, kind: str = "model") -> Names:
    """A listing on sale by an organization that has nothing to do with any caller."""
    with service.db.write() as session:
        seller = orgs.create_org(service, session, user_id=user_id, name=f"Seller {new_id('s')[-6:]}", sector="agents")
        seller_id = seller.id
    return a_listing(service, seller_id, user_id, kind=kind, publish=True)


def a_purchase(service: Service, org_id: str, user_id: str, *, kind: str = "model") -> Names:
    """A completed purchase of the organization."""
    names = somebody_elses_listing(service, org_id, user_id, kind=kind)
    service.money.customers.attach_card(org_id, "seed@example.com", card="card_ok", key=new_id("key"))
    bought = purchases.buy(service, owner(org_id, user_id), names["listing_id"])
    return {**names, "purchase_id": bought.id}


def an_agent_purchase(service: Service, org_id: str, user_id: str) -> Names:
    """A bought package."""
    return a_purchase(service, org_id, user_id, kind="agent")


def a_subscription_purchase(service: Service, org_id: str, user_id: str) -> Names:
    """A purchase that renews."""
    names = somebody_elses_listing(service, org_id, user_id)
    with service.db.write() as session:
        row = session.get_one(Listing, names["listing_id"])
        row.pricing = "subscription"
    service.money.customers.attach_card(org_id, "seed@example.com", card="card_ok", key=new_id("key"))
    bought = purchases.buy(service, owner(org_id, user_id), names["listing_id"])
    return {**names, "purchase_id": bought.id}


def a_key(service: Service, org_id: str, user_id: str) -> Names:
    """A buyer's key."""
    names = a_purchase(service, org_id, user_id)
    with service.db.write() as session:
        made = access_keys.create(
            service,
            session,
            owner(org_id, user_id),
            purchase_id=names["purchase_id"],
            name="seed",
            permissions=[],
            expires_at=None,
        )
        return {**names, "key_id": made.row.id}


def a_review(service: Service, org_id: str, user_id: str) -> Names:
    """A review by the organization."""
    names = a_purchase(service, org_id, user_id)
    with service.db.write() as session:
        made = reviews.write(
            service, session, owner(org_id, user_id), listing_id=names["listing_id"], rating=4, words="Works."
        )
        return {**names, "review_id": made.id}


def a_rejected_case(service: Service, org_id: str, user_id: str) -> Names:
    """A case about the organization's listing that was rejected and may be appealed."""
    names = an_active_listing(service, org_id, user_id)
    with service.db.write() as session:
        row = session.get_one(Listing, names["listing_id"])
        case = moderation.open_case(service, session, row, cause="report", findings=[], words="It does not work.")
        session.flush()
        staff = Principal(kind="session", user_id="usr_moderator", org_id=org_id, role="admin", is_staff=True)
        moderation.decide(service, session, staff, case_id=case.id, approve=False, note="Not as described.")
        return {**names, "case_id": case.id}


def an_open_case(service: Service, org_id: str, user_id: str) -> Names:
    """A reported listing that waits for a decision."""
    names = an_active_listing(service, org_id, user_id)
    with service.db.write() as session:
        row = session.get_one(Listing, names["listing_id"])
        case = moderation.open_case(service, session, row, cause="report", findings=[], words="It does not work.")
        return {**names, "case_id": case.id}


def a_connection(service: Service, org_id: str, user_id: str) -> Names:
    """A connection to a compute partner and a job there that waits for the night."""
    principal = owner(org_id, user_id)
    fields = {"url": "https://8.8.8.8", "token_id": "ak-seed", "token_secret": "as-seed"}
    chosen = connections.partner(service, "modal")
    connections.keep(service, principal, chosen, fields=fields, account="seed")
    job = partner_jobs.trigger(service, principal, "modal", action="warm", given={}, schedule="nightly")
    return {"slug": "modal", "name": "warm", "job_id": job.id}


def a_link(service: Service, org_id: str, user_id: str) -> Names:
    """A referral link."""
    with service.db.write() as session:
        affiliates.opt_in(service, session, owner(org_id, user_id), into=True)
        session.flush()
        row = next(row for row in affiliates.links(service, session, org_id) if row.partner == "modal")
        return {"code": row.code, "partner": "modal"}


def a_partner_invoice(service: Service, org_id: str, _user_id: str) -> Names:
    """An invoice to a partner."""
    now = service.clock.now()
    with service.db.write() as session:
        row = invoices.issue(
            session,
            "partner",
            invoices.Party("modal", "Modal"),
            lines=[invoices.Line("Seed", 10_000)],
            period=(now, now),
            now=now,
            reference=f"{org_id}{invoices.next_number(session, now)}",
        )
        return {"invoice_id": row.id}


def a_payment(service: Service, org_id: str, user_id: str) -> Names:
    """A payment that may be returned."""
    names = a_purchase(service, org_id, user_id)
    with service.db.read() as session:
        return {"payment": session.get_one(Purchase, names["purchase_id"]).payment_intent or ""}

"""A service as it looks after a month of use: what the pages are looked at with, by axe, by keyboard and by people."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

from sqlalchemy import select

from agentcache_service.cacheapi.tables import Listener
from agentcache_service.identity import orgs
from agentcache_service.identity.keys import create_key, rotate_key
from agentcache_service.identity.tables import Org, User
from agentcache_service.market import affiliates, credentials, listings, moderation, purchases, reviews, seeds, support
from agentcache_service.market.creators import become
from agentcache_service.market.listings import Draft
from agentcache_service.market.tables import Listing, ListingVersion
from agentcache_service.orm import new_id
from agentcache_service.service import Service
from agentcache_service.usage import quota


@dataclass(frozen=True, slots=True)
class Gallery:
    """Whose pages there are, and what the ids in their addresses are."""

    admin: str
    org: str
    newcomer: str
    staff: str
    listing: str
    own_listing: str
    model_purchase: str
    agent_purchase: str
    sold: str
    invoice: str

    def pages(self) -> dict[str, list[str]]:
        """Every page by who looks at it."""
        dashboard = ["", "/keys", "/namespaces", "/listeners", "/usage", "/plan", "/billing", "/settings"]
        market = [
            "/dashboard/integrations",
            "/dashboard/integrations/modal",
            "/dashboard/integrations/replicate",
            "/dashboard/affiliates",
            "/market",
            f"/market/{self.listing}",
            "/market/purchases",
            f"/market/purchases/{self.model_purchase}",
            f"/market/purchases/{self.agent_purchase}",
            "/creator",
            "/creator/listings/new",
            f"/creator/listings/{self.own_listing}",
            f"/dashboard/billing/invoices/{self.invoice}",
        ]
        thread = f"/creator/support/{self.sold}"
        empty = ["/dashboard/integrations", "/dashboard/affiliates", "/market/purchases", "/creator"]
        return {
            "anybody": [
                "/",
                "/pricing",
                "/signup",
                "/login",
                "/reset",
                "/verify?token=wrong",
                "/reset/wrong",
                "/nothing",
            ],
            "admin": [*(f"/dashboard{path}" for path in dashboard), *market, thread],
            "newcomer": [*(f"/dashboard{path}" for path in dashboard), *empty, "/second-factor"],
            "staff": ["/admin", "/outbox"],
        }


_WORDS = {
    "Contract reader": ("text", "Finds dates, parties and duties in contracts.", 0, 2_500, "usage_based"),
    "Invoice extractor": ("data", "Turns scanned invoices into rows.", 12_000_000, 0, "subscription"),
    "Code reviewer": ("code", "Reads a diff and says what may break.", 29_000_000, 0, "one_time"),
    "Alt-text writer": ("vision", "Describes pictures for people who cannot see them.", 0, 900, "usage_based"),
}


def build(service: Service, *, admin: str, newcomer: str, staff: str, seller: str, org: str, shop: str) -> Gallery:
    """Fill a service for people who exist already: two organizations with a month of usage, sales and talk."""
    _usage(service, org)
    _listeners(service, org)
    _keys(service, org, admin)
    owner, merchant = seeds.owner(org, admin), seeds.owner(shop, seller)
    service.money.customers.attach_card(org, "ada@example.com", card="card_ok", key=new_id("card"))
    service.money.subscriptions.choose(org, "pro")
    for number in (1, 2):
        with service.db.write() as session:
            row = session.get_one(Org, org)
            row.trial_ends_at, row.created_at = None, service.clock.now() - dt.timedelta(days=40)
            orgs.add_namespace(service, session, owner, name=f"experiments-{number}", nodes=["metadata_cache"])
    made = _shop(service, shop, seller)
    service.money.customers.payee(org, "ada@example.com")
    bought = {name: purchases.buy(service, owner, listing).id for name, listing in list(made.items())[:3]}
    package = seeds.an_agent_purchase(service, org, admin)
    with service.db.write() as session:
        for name, stars in (("Contract reader", 5), ("Invoice extractor", 4)):
            reviews.write(
                service,
                session,
                owner,
                listing_id=made[name],
                rating=stars,
                words="Saves us an hour a day. Well documented.",
            )
        support.write(service, session, owner, purchase_id=package["purchase_id"], words="Does it run on Python 3.13?")
        row = session.get_one(Listing, made["Code reviewer"])
        moderation.open_case(
            service, session, row, cause="report", findings=[], reporter=org, words="It reviews only the first file."
        )
    own = seeds.a_listing(service, org, admin, publish=True)["listing_id"]
    with service.db.write() as session:
        become(service, session, owner, display_name="Analytical Engines", about="Models for engineers.")
        session.get_one(Listing, own).name = "Firmware classifier"
    service.money.customers.attach_card(shop, "zoe@example.com", card="card_ok", key=new_id("card"))
    sold = purchases.buy(service, merchant, own).id
    with service.db.write() as session:
        support.write(service, session, merchant, purchase_id=sold, words="Which chips does it know?")
    seeds.a_connection(service, org, admin)
    seeds.a_link(service, org, admin)
    _affiliates(service, org)
    with service.db.read() as session:
        from agentcache_service.money.billing_tables import Invoice

        invoice = session.scalars(select(Invoice.id).where(Invoice.party == org)).first()
        session.get_one(User, staff)
    assert invoice is not None
    service.meter.flush(everything=True)
    return Gallery(
        admin=admin,
        org=org,
        newcomer=newcomer,
        staff=staff,
        listing=made["Contract reader"],
        own_listing=own,
        model_purchase=bought["Contract reader"],
        agent_purchase=package["purchase_id"],
        sold=sold,
        invoice=invoice,
    )


def _usage(service: Service, org: str) -> None:
    """Thirty days: a workday rhythm, and a hit rate that rises as the cache fills."""
    now = service.clock.now()
    for back in range(30):
        day = now - dt.timedelta(days=back)
        busy = 0.35 if day.weekday() >= 5 else 1.0
        asked = int((900 + 400 * math.sin(back / 3)) * busy)
        rate = 0.55 + 0.35 * (30 - back) / 30
        for room, share in (("storage", 0.6), ("cdn", 0.3), ("metadata", 0.1)):
            part = int(asked * share)
            hits = int(part * rate)
            misses = part - hits
            service.meter.count(
                org,
                room,
                day,
                requests=part + misses,
                hits=hits,
                misses=misses,
                sets=misses,
                bytes_in=misses * 90_000,
                bytes_out=hits * 85_000,
                bytes_saved=hits * 85_000,
                duplicate_sets=misses // 2,
                duplicate_bytes=misses * 40_000,
                saved_micros=hits * 1_900,
            )
    service.meter.flush(everything=True)
    with service.db.write() as session:
        quota.take(session, org, "requests", f"{now:%Y-%m}", amount=139_000, limit=None)
        quota.take(session, org, "hot_bytes", quota.STOCK, amount=212 << 20, limit=None)
        quota.take(session, org, "asset_bytes", quota.STOCK, amount=7 << 30, limit=None)
        quota.take(session, org, "bandwidth_bytes", f"{now:%Y-%m}", amount=21 << 30, limit=None)


def _keys(service: Service, org: str, admin: str) -> None:
    """A key in use, one for a single namespace, and one that was rotated."""
    owner = seeds.owner(org, admin)
    with service.db.write() as session:
        used = create_key(service, session, owner, name="Firmware portal").row
        used.last_used_at = service.clock.now() - dt.timedelta(minutes=4)
        create_key(service, session, owner, name="Nightly import", scopes=["cache:write"], namespaces=["storage"])
        old = create_key(service, session, owner, name="Old laptop").row
        session.flush()
        rotate_key(service, session, owner, key_id=old.id)


def _listeners(service: Service, org: str) -> None:
    now = service.clock.now()
    states = (
        ("https://firmware.example.com/releases/index.json", 3, None, ["firmware"]),
        ("https://docs.example.com/a/very/long/path/that/goes/on/for/quite/a/while/changelog.html", 26, None, ["docs"]),
        (
            "https://drivers.example.net/feed.xml",
            400,
            "The name 'drivers.example.net' could not be resolved.",
            ["drivers"],
        ),
    )
    with service.db.write() as session:
        for url, minutes, trouble, tags in states:
            seen = now - dt.timedelta(minutes=minutes)
            session.add(
                Listener(
                    id=new_id("lis"),
                    org_id=org,
                    namespace="cdn",
                    url=url,
                    interval_s=900,
                    tags=tags,
                    next_check_at=now + dt.timedelta(minutes=10),
                    checked_at=seen,
                    ok_at=None if trouble else seen,
                    changed_at=None if trouble else seen - dt.timedelta(days=2),
                    trouble=trouble,
                    created_at=now - dt.timedelta(days=20),
                )
            )


def _shop(service: Service, shop: str, seller: str) -> dict[str, str]:
    """Models on sale, by their names."""
    merchant, found = seeds.owner(shop, seller), {}
    service.money.customers.payee(shop, "zoe@example.com")
    with service.db.write() as session:
        become(service, session, merchant, display_name="Zoe's Models", about="Small models that do one thing well.")
    for name, (category, summary, price, per_call, pricing) in _WORDS.items():
        draft = Draft(
            kind="model",
            name=name,
            summary=summary,
            description=f"{summary}\n\nSend one document per call. Answers come as JSON, with where they were found.",
            category=category,
            use_case="back office",
            tags=("documents", category),
            config={},
            pricing=pricing,  # type: ignore[arg-type]  # one of the three, from the table above
            price=price,
            price_per_call=per_call,
            price_per_1k_tokens=0,
        )
        with service.db.write() as session:
            row = listings.create(service, session, merchant, draft)
            session.flush()
            raw = {
                "modelId": "m-1",
                "externalApiEndpoint": "https://8.8.8.8/v1",
                "apiKey": "sk-gallery",
                "rateLimits": {"requestsPerMinute": 60, "requestsPerHour": 600},
                "permissions": ["*"],
            }
            credentials.store(service, session, merchant, listing_id=row.id, credentials=credentials.parse(raw))
            session.add(
                ListingVersion(
                    id=new_id("ver"),
                    listing_id=row.id,
                    version="1.2.0",
                    notes="Reads tables that span pages.",
                    files=[],
                    findings=[],
                    readme="",
                    created_at=service.clock.now(),
                )
            )
            row.version = "1.2.0"
            session.flush()
            listings.publish(service, session, merchant, listing_id=row.id)
            row.calls, row.call_ms, row.checks, row.checks_ok, row.check_ms = 1840, 1840 * 420, 700, 698, 700 * 80
            found[name] = row.id
    return found


def _affiliates(service: Service, org: str) -> None:
    """Clicks, a sign-up and conversions at a partner."""
    partner = service.market.catalog.by_slug["modal"]
    with service.db.write() as session:
        code = next(row.code for row in affiliates.links(service, session, org) if row.partner == "modal")
    for number in range(12):
        with service.db.write() as session:
            landing = affiliates.click(service, session, code, visitor=None, consent=False, utm={})
        if number % 4:
            continue
        click = landing.address.split("ac_click=")[1].split("&")[0]
        for kind, amount in (("signup", 0), ("conversion", 180_000_000 + number * 10_000_000)):
            event = affiliates.Event(f"{kind}-{number}", kind, f"customer-{number}", click, amount, 0, None)
            with service.db.write() as session:
                affiliates.receive(service, session, partner, event, body_sha256=f"{kind}{number}")

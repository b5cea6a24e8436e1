"""A copy reaches everything and erasure leaves nothing: table by table, column by column, and in what lies on disk."""

from __future__ import annotations

import io
import json
import re
import smtplib
import sqlite3
from contextlib import closing
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import service_world as world
import structlog
from sqlalchemy import JSON, Boolean, LargeBinary, String, insert, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from agentcache_service import models, personal
from agentcache_service.app import build_app
from agentcache_service.areas import job_functions
from agentcache_service.cacheapi import calls
from agentcache_service.cacheapi.place import Place
from agentcache_service.clock import FixedClock
from agentcache_service.identity import privacy
from agentcache_service.identity.tables import Membership, Org, User
from agentcache_service.jobs import Worker
from agentcache_service.logs import configure_logs
from agentcache_service.mail import SEND_MAIL, LocalOutbox, SendMail, forget_recipient, queue_mail
from agentcache_service.market import purchases, seeds
from agentcache_service.market.credentials import CredentialsUnavailable, open_for
from agentcache_service.market.reconcile import CHECKS
from agentcache_service.market.tables import Creator, Listing, Purchase, SaleRecord
from agentcache_service.money.billing_tables import BillingAccount, Payout
from agentcache_service.money.reconcile import reconcile as reconcile_money
from agentcache_service.orm import UtcDateTime, new_id
from agentcache_service.personal import Answer, Blank
from agentcache_service.service import Service
from agentcache_service.usage.reconcile import run as reconcile_usage

MARK = "ada.lovelace@example.com"
TABLES = sorted({mapper.class_.__tablename__ for mapper in models.Base.registry.mappers})
CLASSES = {mapper.class_.__tablename__: mapper.class_ for mapper in models.Base.registry.mappers}
OF_SOMEBODY = {
    "org_id",
    "user_id",
    "actor",
    "created_by",
    "connected_by",
    "decided_by",
    "creator_org_id",
    "reporter_org_id",
    "purchase_id",
    "listing_id",
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_says_what_a_copy_shows_and_what_erasure_leaves(name: str) -> None:
    said = [answer for answer in privacy.DECLARED if answer.table.__tablename__ == name]
    assert said, f"{name} has no answer: add one to its area's personal.py"
    columns = CLASSES[name].__table__.columns
    refers = {column.key for column in columns if column.key in OF_SOMEBODY or _leads_to_somebody(column)}
    answers = [answer for answer in said if isinstance(answer, Answer)]
    if refers:
        assert answers, f"{name} refers to somebody by {refers}: it needs more than Nothing(…)"
    assert all(answer.person or answer.org for answer in answers)


def _leads_to_somebody(column: Any) -> bool:
    return any(key.column.table.name in {"users", "orgs"} for key in column.foreign_keys)


@pytest.mark.parametrize("answer", privacy.ANSWERS, ids=lambda answer: answer.table.__tablename__)
def test_every_column_that_could_hold_a_persons_words_is_accounted_for(answer: Answer) -> None:
    assert list(personal.unanswered(answer)) == []


def test_an_answer_that_forgets_a_column_is_noticed() -> None:
    forgetful = Answer(Creator, org=lambda org: Creator.org_id == org, erase_org=Blank({"about": ""}))
    assert list(personal.unanswered(forgetful)) == ["display_name"]


class Rows:
    """One row of every table, tied to a person and an organization, with the mark in every column that may hold it."""

    def __init__(self, service: Service, session: Session, *, user_id: str, org_id: str, other: str) -> None:
        self._session = session
        self._now = service.clock.now()
        self._user_id, self._org_id, self.other = user_id, org_id, other
        self._serial = 0

    def fill(self, answer: Answer, **fixed: Any) -> None:
        """Insert a row of the answer's table that is this organization's (or person's)."""
        table = answer.table.__table__
        values = {column.key: self._value(answer, column) for column in table.columns}  # type: ignore[attr-defined]
        self._session.execute(insert(answer.table).values(**{**values, **fixed}))

    def _value(self, answer: Answer, column: Any) -> Any:
        self._serial += 1
        name = column.key
        if name in {"user_id", "created_by", "connected_by", "decided_by", "actor"}:
            return self._user_id
        if name in {"org_id", "creator_org_id", "reporter_org_id", "party"}:
            return self._org_id
        stays = name in answer.stays
        if isinstance(column.type, Boolean):
            return False
        if isinstance(column.type, LargeBinary):
            return None if stays else MARK.encode()
        if isinstance(column.type, JSON):
            return {} if stays else {"note": MARK}
        if isinstance(column.type, String):
            if column.primary_key or column.unique or name.endswith("_id"):
                return f"{MARK if name in {'namespace', 'name'} else ''}x{self._serial}"
            return f"{'' if stays else MARK}x{self._serial}"
        if isinstance(column.type, UtcDateTime):
            return self._now
        return self._serial


@pytest.fixture
def filled(any_service: Service) -> tuple[Service, str, str]:
    """A service whose every table has a marked row of one person and their organization."""
    service = any_service
    user_id, other = world.make_user(service, "ada"), world.make_user(service, "zoe")
    org_id, elsewhere = world.make_org(service, user_id, name=MARK), world.make_org(service, other, name="Others")
    with service.db.write() as session:
        session.get_one(User, user_id).email = MARK
        session.get_one(User, user_id).username = MARK
        rows = Rows(service, session, user_id=user_id, org_id=org_id, other=elsewhere)
        parents = _parents(session, rows, org_id, elsewhere)
        for answer in privacy.ANSWERS:
            if answer.table in {User, *_PARENTS} or answer.table.__tablename__ in {"orgs", "memberships"}:
                continue
            for names in parents:
                _tied(rows, answer, names)
    return service, user_id, org_id


_PARENTS = {Listing, Purchase, SaleRecord}


def _parents(session: Session, rows: Rows, org_id: str, elsewhere: str) -> list[dict[str, Any]]:
    """A sale of the organization to another, and one the other way round: what the market's rows hang on."""
    found = []
    for seller, buyer in ((org_id, elsewhere), (elsewhere, org_id)):
        mark = "x" if seller == elsewhere else MARK
        answers = {answer.table: answer for answer in privacy.ANSWERS}
        listing, purchase, sale = new_id("lst"), new_id("pur"), new_id("sal")
        words = {
            "name": mark,
            "summary": mark,
            "description": mark,
            "use_case": mark,
            "tags": [mark],
            "config": {"m": mark},
            "status": mark,
        }
        rows.fill(answers[Listing], id=listing, org_id=seller, **words)
        rows.fill(
            answers[Purchase],
            id=purchase,
            listing_id=listing,
            org_id=buyer,
            creator_org_id=seller,
            access_until=None,
            pricing="one_time",
            kind="agent",
            status="completed",
        )
        rows.fill(answers[SaleRecord], id=sale, purchase_id=purchase, kind=f"first-{seller}")
        found.append({"listing_id": listing, "purchase_id": purchase, "sale": sale, "is_seller": seller == org_id})
    return found


_BOTH_SIDES = {"market_messages", "market_cases", "market_sales", "payment_attempts"}
_SELLERS = {"market_versions", "market_credentials"}
_FIXED: dict[str, dict[str, Any]] = {
    "invoices": {"kind": "plan"},
    "payouts": {"status": "paid"},
    "payment_attempts": {"status": "succeeded"},
}


def _tied(rows: Rows, answer: Answer, names: dict[str, Any]) -> None:
    """Insert the row in such a way that it is the organization's own, as the answer's conditions say."""
    table = answer.table.__tablename__
    if table.startswith("ledger_") or (table not in _BOTH_SIDES and names["is_seller"] != (table in _SELLERS)):
        return  # the ledger has no column of words
    columns = set(answer.table.__table__.columns.keys())
    fixed = {name: names[name] for name in ("listing_id", "purchase_id") if name in columns} | _FIXED.get(table, {})
    if table == "market_messages":
        fixed["sender"] = "creator" if names["is_seller"] else "buyer"
    if table == "market_cases":
        is_report = "words" not in answer.stays
        fixed |= {"org_id": rows.other} if is_report else {"reporter_org_id": None}
    if table == "payment_attempts" and names["is_seller"]:
        fixed |= {"purpose": "sale", "subject_id": names["sale"], "org_id": rows.other}
    rows.fill(answer, **fixed)


def dump(service: Service) -> str:
    """Every row of every table, as text."""
    with service.db.read() as session:
        return "\n".join(
            f"{name}: {dict(row._mapping)!r}"
            for name, table in models.metadata.tables.items()
            for row in session.execute(select(table))
        )


def _lines_with(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if any(word.casefold() in line.casefold() for word in words)]


def test_no_column_of_any_table_keeps_what_an_erased_person_wrote(filled: tuple[Service, str, str]) -> None:
    service, user_id, org_id = filled
    marked = {line.partition(":")[0] for line in _lines_with(dump(service), MARK)}
    assert len(marked) > 25, "the rows that should carry the mark do not"
    with service.db.write() as session:
        privacy.usage_personal.forget_namespaces(session, org_id)
        personal.erase(session, privacy.ANSWERS, org_id=org_id)
        personal.erase(session, privacy.ANSWERS, user_id=user_id)
    assert _lines_with(dump(service), MARK) == []


def test_a_copy_shows_the_rows_of_every_table_and_no_secret(filled: tuple[Service, str, str]) -> None:
    service, user_id, org_id = filled
    with service.db.read() as session:
        whole = {
            **personal.copy_of(session, privacy.ANSWERS, org_id=org_id),
            **personal.copy_of(session, privacy.ANSWERS, user_id=user_id),
        }
        held = {
            answer.table.__tablename__
            for answer in privacy.ANSWERS
            for where, about in ((answer.person, user_id), (answer.org, org_id))
            if where is not None and session.scalar(select(answer.table).where(where(about)).limit(1)) is not None
        }
    assert set(whole) == held
    shown = {key for rows in whole.values() for row in rows for key in row}
    assert not shown & {*personal.SECRET, "wrapped_key", "sealed", "secret_sealed", "totp_sealed", "sealed_verifier"}


NAMES = ("lovelace", "augusta", "adalove")
PASSWORD = "an engine that weaves"


class Life:
    """A person who has used everything there is, over HTTP where a person would."""

    def __init__(self, service: Service, clock: FixedClock) -> None:
        self.service, self.clock = service, clock
        self.worker = Worker(service.db, clock, job_functions(service))
        self.http = TestClient(build_app(service=service), follow_redirects=False)
        self.user_id, self.org_id = self._sign_up()
        self.key = world.make_key(service, self.org_id, self.user_id)
        self.owner = world.principal_of(service, self.org_id, self.user_id)
        self.headers = dict(world.sign_in(service, self.user_id).headers)

    def _sign_up(self) -> tuple[str, str]:
        form = {
            "email": MARK,
            "username": "adalove",
            "first_name": "Augusta",
            "last_name": "Lovelace",
            "password": PASSWORD,
            "organization": "Lovelace Engines",
            "sector": "filestorage",
            "description": "Augusta's engines",
        }
        assert self.http.post("/api/account/register", json=form).status_code == 202
        assert self.http.post("/api/account/register", json=form).status_code == 202  # a second mail
        with self.service.db.write() as session:
            user = session.scalars(select(User).where(User.email == MARK)).one()
            user.verified_at = self.clock.now()
            org_id = session.scalars(select(Membership.org_id).where(Membership.user_id == user.id)).one()
            org = session.get_one(Org, org_id)
            org.plan, org.trial_ends_at = "business", None
        return user.id, org_id

    def send(self, method: str, path: str, *, expect: int = 200, key: bool = False, **sent: Any) -> Any:
        extra = sent.pop("headers", {})
        headers = {**(self.key.headers if key else self.headers), **extra}
        answer = self.http.request(method, path, headers=headers, **sent)
        assert answer.status_code == expect, (path, answer.status_code, answer.text[:500])
        return answer

    def lead(self) -> None:
        """Use the cache, listeners, assets, billing, both marketplaces and the affiliates; leave words everywhere."""
        service, words = self.service, {"value": {"note": "written by Augusta Lovelace"}}
        self.send("POST", "/api/cache/set", key=True, json={"key": "lovelace/notes", "tags": ["augusta"], **words})
        self.send("POST", "/api/cache/set", key=True, json={"key": "big", "value": "Augusta " * 5000})
        self.send("POST", "/api/cache/get", key=True, json={"key": "lovelace/notes"})
        self.send("POST", "/api/cache/invalidate", key=True, json={"pattern": "lovelace/old*"})
        self.send("POST", "/api/assets?key=augusta.txt", expect=201, key=True, content=b"Augusta's portrait" * 9000)
        listener = {"url": "https://8.8.8.8/lovelace", "check_interval": 3600, "namespace": "storage", "tags": ["ada"]}
        self.send("POST", "/api/listeners/register", expect=201, key=True, json=listener)
        prewarm = {"requests": [{"key": "augusta", "value": "Lovelace"}], "schedule": "nightly"}
        self.send("POST", "/api/cache/prewarm", expect=202, key=True, json=prewarm)
        self.send("PATCH", "/api/account/me", json={"avatar": "https://example.com/lovelace.png"})
        self.send("POST", f"/api/orgs/{self.org_id}/namespaces", expect=201, json={"name": "augusta"})
        self.send("POST", "/api/cache/get", key=True, json={"key": "x"}, headers={"x-namespace": "augusta"})
        self.send("POST", "/api/billing/card", json={"card": "card_ok"})
        self.send("POST", "/api/billing/checkout", json={"plan": "pro"}, headers={"idempotency-key": "lovelace-1"})
        bought = seeds.an_agent_purchase(service, self.org_id, self._stranger())
        self.send(
            "POST", f"/api/market/listings/{bought['listing_id']}/reviews", json={"rating": 4, "words": "says Augusta"}
        )
        thread = f"/api/market/purchases/{bought['purchase_id']}/messages"
        self.send("POST", thread, expect=201, json={"words": "Dear sir, yours, Augusta"})
        report = {"listing": bought["listing_id"], "words": "Lovelace objects"}
        self.send("POST", "/api/market/reports", expect=201, json=report)
        seeds.a_listing(service, self.org_id, self.user_id, kind="agent")
        self.listing = seeds.a_listing(service, self.org_id, self.user_id, publish=True)["listing_id"]
        self.send("PUT", "/api/billing/payout-method", json={"email": MARK})
        about = {"display_name": "Augusta Lovelace", "about": "Enchantress of numbers: Augusta"}
        self.send("PUT", "/api/market/creator", json=about)
        self.send("PATCH", f"/api/market/listings/{self.listing}", json={"name": "Lovelace model"})
        seeds.a_connection(service, self.org_id, self.user_id)
        code = seeds.a_link(service, self.org_id, self.user_id)["code"]
        self.http.get(f"/r/{code}", params={"utm_campaign": "lovelace"}, headers={"cookie": "affiliate_consent=yes"})
        self.send("POST", "/api/account/request-reset", expect=202, json={"email": MARK})
        self.worker.run_due(limit=20)
        self.send("POST", "/api/account/request-reset", expect=202, json={"email": MARK})  # waits in the queue

    def _stranger(self) -> str:
        self.stranger = world.make_user(self.service, "zoe")
        return self.stranger

    def erase(self, *, expect: int = 200, **body: Any) -> Any:
        answer = self.send("DELETE", "/api/account/me", expect=expect, json={"password": PASSWORD, **body})
        while expect == 200 and self.worker.run_due():
            pass
        return answer.json()


@pytest.fixture
def life(service: Service, clock: FixedClock) -> Life:
    lived = Life(service, clock)
    lived.lead()
    return lived


@pytest.fixture
def any_life(any_service: Service, clock: FixedClock) -> Life:
    """The same on both databases."""
    lived = Life(any_service, clock)
    lived.lead()
    return lived


def _on_disk(folder: Path) -> dict[str, bytes]:
    """Every file of the installation, as bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _rows_in(path: Path) -> str:
    with closing(sqlite3.connect(path)) as book:
        return "\n".join(book.iterdump())


def test_after_erasing_nothing_on_disk_in_the_database_or_in_the_logs_names_the_person(
    any_service: Service, clock: FixedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    service = any_service
    service.settings.log_level = "debug"
    configure_logs(service.settings)
    try:
        life = Life(service, clock)
        life.lead()
        assert len({line.partition(":")[0] for line in _lines_with(dump(service), *NAMES)}) > 12
        life.erase()
        clock.advance(minutes=16)
        while life.worker.run_due():
            pass
        logged = capsys.readouterr().err
    finally:
        structlog.reset_defaults()
    assert "request" in logged
    assert _lines_with(logged, *NAMES) == []
    assert _lines_with(dump(service), *NAMES) == []
    service.engine.close()
    found = _on_disk(service.settings.data_dir)
    for name in [name for name in found if name.startswith("cache.db")]:
        del found[name]
    named = [file for file, body in found.items() if any(word.encode() in body.lower() for word in NAMES)]
    assert named == []
    assert _lines_with(_rows_in(service.settings.data_dir / "cache.db"), *NAMES) == []


def test_the_books_are_proven_after_erasing_and_every_counter_explained(any_life: Life) -> None:
    any_life.erase()
    assert reconcile_money(any_life.service.db, CHECKS).problems == ()
    assert reconcile_usage(any_life.service) == []


def test_a_copy_holds_everything_the_person_left(any_life: Life) -> None:
    copy = any_life.send("GET", "/api/account/export").json()
    text = json.dumps(copy)
    for left in (
        "says Augusta",
        "yours, Augusta",
        "Lovelace objects",
        "Enchantress of numbers",
        "Lovelace model",
        "https://8.8.8.8/lovelace",
        "lovelace/notes",
        "augusta.txt",
        "Augusta's engines",
        "https://example.com/lovelace.png",
        "market.purchase",
        "4242",
        "/verify?token=",
    ):
        assert left in text, left
    assert not re.search(r"argon2|ac_[0-9a-f]{64}|wrapped_key|sk-seed|as-seed", text)


def test_the_archive_holds_the_values_and_files_themselves(life: Life) -> None:
    answer = life.send("GET", "/api/account/export/archive")
    with ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        copy = json.loads(archive.read("account.json"))
        (org,) = (org for org in copy["organizations"] if org["id"] == life.org_id)
        names = {entry["key"]: f"entries/storage/{entry['name']}.json" for entry in org["entries"]}
        assert json.loads(archive.read(names["lovelace/notes"])) == {"note": "written by Augusta Lovelace"}
        assert json.loads(archive.read(names["big"])) == "Augusta " * 5000
        (asset,) = org["records"]["assets"]
        assert archive.read(f"assets/{asset['id']}") == b"Augusta's portrait" * 9000


def test_what_others_bought_goes_on_and_names_nobody(life: Life) -> None:
    service = life.service
    zoe = world.make_org(service, life.stranger, name="Zoes")
    service.money.customers.attach_card(zoe, "zoe@example.com", card="card_ok", key="zoe")
    buyer = seeds.owner(zoe, life.stranger)
    model = purchases.buy(service, buyer, life.listing)
    life.erase(give_up_balance=True)
    with service.db.read() as session:
        row = session.get_one(Purchase, model.id)
        assert row.access_until == life.clock.now()
        assert session.get_one(Listing, life.listing).name == "erased"
        with pytest.raises(CredentialsUnavailable):
            open_for(service, session, session.get_one(Listing, life.listing))
    assert isinstance(service.mail, LocalOutbox)
    told = [mail["to"] for name in service.mail.names() if (mail := service.mail.read(name)) is not None]
    assert "zoe@example.com" in told


def test_an_organization_that_is_owed_money_is_told_how_much_before_it_closes(life: Life) -> None:
    service = life.service
    zoe = world.make_org(service, life.stranger, name="Zoes")
    service.money.customers.attach_card(zoe, "zoe@example.com", card="card_ok", key="zoe")
    purchases.buy(service, seeds.owner(zoe, life.stranger), life.listing)
    refused = life.erase(expect=409)
    assert (refused["error"], refused["owed_micros"]) == ("balance_open", 4_400_000)
    assert life.send("GET", "/api/account/me").json()["email"] == MARK
    life.erase(give_up_balance=True)
    assert reconcile_money(service.db, CHECKS).problems == ()


def test_a_creator_closes_after_the_paid_time_of_the_buyers_is_over(life: Life) -> None:
    service = life.service
    with service.db.write() as session:
        session.get_one(Listing, life.listing).pricing = "subscription"
    zoe = world.make_org(service, life.stranger, name="Zoes")
    service.money.customers.attach_card(zoe, "zoe@example.com", card="card_ok", key="zoe")
    purchases.buy(service, seeds.owner(zoe, life.stranger), life.listing)
    refused = life.erase(expect=409, give_up_balance=True)
    assert refused["error"] == "buyers_have_access"
    assert datetime.fromisoformat(refused["until"]) > life.clock.now()
    life.send("POST", f"/api/market/listings/{life.listing}/withdraw")
    life.clock.advance(days=32)
    assert purchases.renew_due(service) == 0
    life.headers = dict(world.sign_in(service, life.user_id).headers)
    life.erase(give_up_balance=True)


def test_a_payout_under_way_is_waited_for(life: Life) -> None:
    with life.service.db.write() as session:
        session.add(Payout(**_a_payout(life)))
    assert life.erase(expect=409)["error"] == "payout_pending"


def _a_payout(life: Life) -> dict[str, Any]:
    return {
        "id": new_id("out"),
        "org_id": life.org_id,
        "payee": "creator",
        "amount": 10_000,
        "status": "pending",
        "gateway": "local",
        "requested_at": life.clock.now(),
    }


def test_where_others_stay_the_organization_goes_on_without_the_person(any_life: Life) -> None:
    service = any_life.service
    bob = world.make_user(service, "bob")
    world.add_member(service, any_life.org_id, bob, "member")
    assert any_life.erase(expect=409)["error"] == "last_admin"
    with service.db.write() as session:
        session.get_one(Membership, (any_life.org_id, bob)).role = "admin"
    assert any_life.erase(expect=409)["error"] == "payout_address"
    service.money.customers.payee(any_life.org_id, "bob@example.com")
    any_life.erase()
    with service.db.read() as session:
        assert session.get_one(Org, any_life.org_id).name == "Lovelace Engines"
        assert session.get_one(BillingAccount, any_life.org_id).email == "bob@example.com"
        left = _lines_with(dump(service), MARK, "adalove", "says augusta", "yours, augusta")
    assert left == []
    here = dict(world.sign_in(service, bob).headers)
    kept = any_life.http.post("/api/cache/get", json={"key": "lovelace/notes"}, headers=dict(any_life.key.headers))
    assert kept.json()["hit"]
    assert any_life.http.get("/api/account/me", headers=here).status_code == 200
    assert any_life.http.get("/api/account/me", headers=any_life.headers).status_code == 401


def test_an_erased_address_may_sign_up_anew(life: Life) -> None:
    life.erase()
    form = {"email": MARK, "password": PASSWORD, "organization": "New Engines", "username": "adalove"}
    assert life.http.post("/api/account/register", json=form).status_code == 202
    with life.service.db.read() as session:
        assert session.scalars(select(User).where(User.email == MARK)).one().username == "adalove"


def test_what_a_call_under_way_wrote_after_the_wipe_is_removed_by_its_repetition(life: Life) -> None:
    life.erase()
    place = Place(life.org_id, "storage", life.service.plans.by_name["free"], {}, life.clock.now())
    calls.put(life.service, place, "late", "Augusta Lovelace")
    life.clock.advance(minutes=16)
    while life.worker.run_due():
        pass
    prefix = life.service.engine.space(life.org_id, "").tenant_prefix
    assert list(life.service.engine.objects.scan(prefix)) == []
    assert reconcile_usage(life.service) == []


class RefusingTransport:
    """A mail server that refuses the recipient, as smtplib tells it."""

    def deliver(self, message: EmailMessage) -> None:
        raise smtplib.SMTPRecipientsRefused({message["to"]: (550, b"no such user")})


def test_a_refused_mail_tells_the_log_no_address(
    service: Service, clock: FixedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs(service.settings)
    try:
        with service.db.write() as session:
            context = {"user": session.get_one(User, world.make_user(service, "ada"))}
            queue_mail(session, clock, service.vault, to=MARK, template="password_changed", context=context)
        sending = SendMail(RefusingTransport(), service.vault, sender="us@example.org")
        Worker(service.db, clock, {SEND_MAIL: sending}).run_due()
        logged = capsys.readouterr().err
    finally:
        structlog.reset_defaults()
    assert "SMTPRecipientsRefused" in logged
    assert MARK not in logged
    forget_recipient(service.db, service.vault, MARK)
    assert _lines_with(dump(service), MARK) == []

"""The embedded gateway: deterministic play money in its own small SQLite file, with cards that fail on purpose.

It keeps every promise of the port (idempotency keys, failures as results, signed events) so that the code above it
is the code that runs against a real gateway. It is a separate book with its own connection, as a real gateway is,
and is never a way to move real money: the service shows that it is in use.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from agentcache_service.db import make_private

from .gateway import (
    Card,
    CardSetup,
    Charge,
    EventKind,
    GatewayConflict,
    GatewayError,
    GatewayEvent,
    Refund,
    Transfer,
    event_object,
)
from .webhook_signature import check, sign

CARDS: Mapping[str, tuple[str, str, str | None]] = {
    "card_ok": ("visa", "4242", None),
    "card_mastercard": ("mastercard", "4444", None),
    "card_declined": ("visa", "0002", "card_declined"),
    "card_insufficient_funds": ("visa", "9995", "insufficient_funds"),
    "card_expired": ("visa", "0069", "expired_card"),
    "card_fails_later": ("visa", "0341", "card_declined"),
    "card_disputed": ("visa", "0259", None),
}
"""Test cards by token: brand, last four digits, and the code they fail with (`card_fails_later` works exactly once)."""

FAILING_PAYEE = "fails"
_KINDS = frozenset(get_args(EventKind))

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (id TEXT PRIMARY KEY, kind TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, asked TEXT NOT NULL, answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
"""

Body = dict[str, Any]


class LocalGateway:
    """Play money that behaves. `path` is its SQLite file, `secret` signs its webhooks, `now` tells the time."""

    name = "local"

    def __init__(self, path: Path, *, secret: str, now: Callable[[], datetime]) -> None:
        self._path = path
        self._secret = secret
        self._now = now
        make_private(path)
        with self._book() as book:
            book.executescript(_SCHEMA)

    def create_customer(self, *, reference: str, email: str, idempotency_key: str) -> str:
        """A customer without a card."""
        asked = {"reference": reference, "email": email}
        return str(self._once("cus", idempotency_key, asked, lambda _book, body: body | {"card": None})["id"])

    def card_setup(self, customer: str, *, return_url: str) -> CardSetup:
        """No page of its own: our form offers the test cards."""
        return CardSetup(None)

    def attach_card(self, customer: str, token: str, *, idempotency_key: str) -> Card:
        """Make one of the test cards the customer's default."""
        if token not in CARDS:
            raise GatewayError(f"unknown test card; choose one of {', '.join(CARDS)}")

        def attach(book: sqlite3.Connection, body: Body) -> Body:
            owner = _load(book, customer)
            _store(book, "cus", owner | {"card": token, "charged": 0})
            return body

        made = self._once("pm", idempotency_key, {"customer": customer, "token": token}, attach)
        brand, last4, _failure = CARDS[token]
        return Card(made["id"], brand, last4)

    def charge(
        self, customer: str, amount: int, *, idempotency_key: str, description: str, metadata: Mapping[str, str]
    ) -> Charge:
        """Charge the default card; what happens depends on the card alone."""
        _positive(amount)
        asked = {"customer": customer, "amount": amount, "metadata": dict(metadata)}

        def take(book: sqlite3.Connection, body: Body) -> Body:
            owner = _load(book, customer)
            failure = _failure_of(owner)
            status = "failed" if failure else "succeeded"
            _store(book, "cus", owner | {"charged": owner.get("charged", 0) + (status == "succeeded")})
            made = body | {"status": status, "failure": failure, "refunded": 0, "description": description}
            self._announce(book, f"charge.{status}", made)
            if owner["card"] == "card_disputed" and status == "succeeded":
                self._announce(book, "dispute.opened", made)
            return made

        made = self._once("ch", idempotency_key, asked, take)
        return Charge(made["id"], made["status"], made["amount"], made["failure"])

    def refund(self, charge: str, amount: int, *, idempotency_key: str) -> Refund:
        """Return part or all of a charge."""
        _positive(amount)

        def give_back(book: sqlite3.Connection, body: Body) -> Body:
            taken = _load(book, charge)
            if taken["status"] != "succeeded" or taken["refunded"] + amount > taken["amount"]:
                raise GatewayError(f"cannot return {amount} cents of {charge}: not that much is left of it")
            taken["refunded"] += amount
            _store(book, "ch", taken)
            self._announce(book, "charge.refunded", taken)
            return body

        made = self._once("re", idempotency_key, {"charge": charge, "amount": amount}, give_back)
        return Refund(made["id"], charge, made["amount"])

    def create_payee(self, *, reference: str, email: str, idempotency_key: str) -> str:
        """Somebody to pay; an e-mail address whose local part is `fails` makes every payout to them fail."""
        asked = {"reference": reference, "email": email}
        return str(self._once("acct", idempotency_key, asked, lambda _book, body: body)["id"])

    def pay_out(self, payee: str, amount: int, *, idempotency_key: str) -> Transfer:
        """Pay at once, or fail for a failing payee."""
        _positive(amount)

        def send(book: sqlite3.Connection, body: Body) -> Body:
            to = _load(book, payee)
            failure = "account_closed" if to["email"].partition("@")[0] == FAILING_PAYEE else None
            made = body | {"status": "failed" if failure else "paid", "failure": failure}
            self._announce(book, f"payout.{made['status']}", made)
            return made

        made = self._once("po", idempotency_key, {"payee": payee, "amount": amount}, send)
        return Transfer(made["id"], made["status"], made["amount"], made["failure"])

    def rename(self, customer: str, *, email: str) -> None:
        """Change the stored address."""
        with self._book() as book:
            _store(book, "cus", _load(book, customer) | {"email": email})
            self._forget_calls(book, customer)

    def forget(self, *, customer: str | None, payee: str | None) -> None:
        """Delete the objects, and the remembered calls that hold their addresses."""
        with self._book() as book:
            for name in filter(None, (customer, payee)):
                book.execute("DELETE FROM objects WHERE id = ?", (name,))
                self._forget_calls(book, name)

    @staticmethod
    def _forget_calls(book: sqlite3.Connection, name: str) -> None:
        """Forget what was asked and answered about a customer or payee; charges and payouts hold no addresses."""
        book.execute(
            "DELETE FROM calls WHERE json_extract(asked, '$.kind') IN ('cus', 'pm', 'acct') "
            "AND ? IN (json_extract(asked, '$.customer'), json_extract(answer, '$.id'))",
            (name,),
        )

    def decide_dispute(self, charge: str, *, won: bool) -> None:
        """Announce how a bank decided; for tests and demonstrations."""
        with self._book() as book:
            self._announce(book, "dispute.won" if won else "dispute.lost", _load(book, charge))

    def events(self, after: int = 0) -> list[tuple[int, bytes, str]]:
        """Webhooks not yet fetched: (position, body, signature), oldest first; delivery is the caller's."""
        with self._book() as book:
            rows = book.execute("SELECT position, body FROM events WHERE position > ? ORDER BY position", (after,))
            found = [(int(position), str(body).encode()) for position, body in rows]
        return [(position, body, sign(body, self._secret, at=self._now())) for position, body in found]

    def acknowledge(self, position: int) -> None:
        """Forget events up to a position: they were delivered."""
        with self._book() as book:
            book.execute("DELETE FROM events WHERE position <= ?", (position,))

    def parse_event(self, body: bytes, signature: str, *, now: datetime) -> GatewayEvent:
        """Check and read one of this gateway's webhooks."""
        check(body, signature, self._secret, now=now)
        payload = json.loads(body)
        about = event_object(payload)
        kind: EventKind = payload["type"] if payload["type"] in _KINDS else "ignored"
        created = datetime.fromtimestamp(payload["created"], UTC)
        return GatewayEvent(payload["id"], kind, about["id"], created, dict(about.get("metadata") or {}))

    @contextmanager
    def _book(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA secure_delete=ON")  # forgetting must reach the file's free space
            yield connection
        finally:
            connection.close()

    def _once(self, kind: str, key: str, asked: Body, make: Callable[[sqlite3.Connection, Body], Body]) -> Body:
        """Do a call under its idempotency key, or hand out what the key did before."""
        fingerprint = json.dumps({"kind": kind, **asked}, sort_keys=True)
        with self._book() as book:
            book.execute("BEGIN IMMEDIATE")
            try:
                row = book.execute("SELECT asked, answer FROM calls WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    if row[0] != fingerprint:
                        raise GatewayConflict("this idempotency key was used for another call")
                    book.execute("ROLLBACK")
                    return dict(json.loads(row[1]))
                name = f"{kind}_local_{hashlib.sha256(f'{kind}:{key}'.encode()).hexdigest()[:20]}"
                made = make(book, asked | {"id": name})
                _store(book, kind, made)
                book.execute("INSERT INTO calls VALUES (?, ?, ?)", (key, fingerprint, json.dumps(made)))
                book.execute("COMMIT")
            except BaseException:
                if book.in_transaction:
                    book.execute("ROLLBACK")
                raise
        return made

    def _announce(self, book: sqlite3.Connection, kind: str, about: Body) -> None:
        name = hashlib.sha256(f"{kind}:{about['id']}:{about.get('refunded', 0)}".encode()).hexdigest()[:20]
        payload = {
            "id": f"evt_local_{name}",
            "type": kind,
            "created": int(self._now().timestamp()),
            "data": {"object": about},
        }
        book.execute("INSERT INTO events (body) VALUES (?)", (json.dumps(payload, sort_keys=True),))


def _failure_of(customer: Body) -> str | None:
    card = customer.get("card")
    if card is None:
        return "no_card"
    if card == "card_fails_later" and not customer.get("charged"):
        return None
    return CARDS[card][2]


def _positive(amount: int) -> None:
    if amount <= 0:
        raise GatewayError(f"an amount of {amount} cents cannot be moved")


def _load(book: sqlite3.Connection, name: str) -> Body:
    row = book.execute("SELECT body FROM objects WHERE id = ?", (name,)).fetchone()
    if row is None:
        raise GatewayError(f"the gateway knows no {name}")
    return dict(json.loads(row[0]))


def _store(book: sqlite3.Connection, kind: str, body: Body) -> None:
    book.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", (body["id"], kind, json.dumps(body)))

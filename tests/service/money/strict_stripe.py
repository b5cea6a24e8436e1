"""A small strict counterpart of Stripe's API, written from its public reference.

It knows only the calls the gateway makes, refuses unknown paths and fields, and honours idempotency keys: the same
key with the same body answers again, with another body answers 400 `idempotency_error`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any, ClassVar
from urllib.parse import parse_qsl

Json = dict[str, Any]

ALLOWED = {
    "customers": {"email", "metadata[reference]"},
    "customer": {"invoice_settings[default_payment_method]", "email"},
    "attach": {"customer"},
    "payment_intents": {"customer", "amount", "currency", "payment_method", "confirm", "off_session"},
    "refunds": {"payment_intent", "amount"},
    "accounts": {"type", "email", "metadata[reference]", "capabilities[transfers][requested]"},
    "transfers": {"amount", "currency", "destination"},
    "sessions": {"mode", "customer", "success_url", "cancel_url", "currency"},
}


class Refused(Exception):
    """An error answer in Stripe's shape."""

    def __init__(self, status: int, kind: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": kind, "message": message, **extra}}


class StrictStripe(BaseHTTPRequestHandler):
    """Request handler over state shared by one test run."""

    protocol_version = "HTTP/1.1"
    lock: ClassVar[threading.Lock] = threading.Lock()
    objects: ClassVar[dict[str, Json]] = {}
    keys: ClassVar[dict[str, tuple[str, int, Json]]] = {}
    serials: ClassVar[Iterator[int]] = count()

    def log_message(self, *args: object) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        """Retrieve one object."""
        try:
            self._authorised()
            self._answer(200, self._object(self.path.rsplit("/", 1)[1]))
        except Refused as refused:
            self._answer(refused.status, refused.body)

    def do_DELETE(self) -> None:
        """Delete a customer or an account."""
        try:
            self._authorised()
            kind, name = self.path.removeprefix("/v1/").split("/")
            if kind not in {"customers", "accounts"}:
                raise Refused(404, "invalid_request_error", f"Unrecognized request URL ({self.path})")
            self._object(name)
            del self.objects[name]
            self._answer(200, {"id": name, "object": kind.removesuffix("s"), "deleted": True})
        except Refused as refused:
            self._answer(refused.status, refused.body)

    def do_POST(self) -> None:
        """Create or change, once per idempotency key."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        key = self.headers.get("idempotency-key")
        asked = f"{self.path}?{raw}"
        try:
            self._authorised()
            with self.lock:
                if key and key in self.keys:
                    before, status, body = self.keys[key]
                    if before != asked:
                        raise Refused(400, "idempotency_error", "Keys for idempotent requests can only be used again")
                    return self._answer(status, body)
                try:
                    status, body = 200, self._post(dict(parse_qsl(raw)))
                except Refused as refused:
                    if refused.status != 402:
                        raise
                    status, body = refused.status, refused.body
                if key:
                    self.keys[key] = (asked, status, body)
            return self._answer(status, body)
        except Refused as refused:
            return self._answer(refused.status, refused.body)

    def _post(self, form: dict[str, str]) -> Json:
        match self.path.removeprefix("/v1/").split("/"):
            case ["customers"]:
                self._only("customers", form)
                settings = {"default_payment_method": None}
                return self._new("cus", "customer", email=form["email"], invoice_settings=settings)
            case ["customers", name]:
                self._only("customer", form)
                found = self._object(name)
                found["email"] = form.get("email", found["email"])
                settings = found["invoice_settings"]
                chosen = form.get("invoice_settings[default_payment_method]", settings["default_payment_method"])
                settings["default_payment_method"] = chosen
                return found
            case ["payment_methods", token, "attach"]:
                return self._attach(token, form)
            case ["payment_intents"]:
                return self._charge(form)
            case ["refunds"]:
                return self._refund(form)
            case ["accounts"]:
                self._only("accounts", form)
                return self._new("acct", "account", email=form["email"], type=form["type"])
            case ["transfers"]:
                self._only("transfers", form)
                self._object(form["destination"])
                return self._new("tr", "transfer", amount=int(form["amount"]), destination=form["destination"])
            case ["checkout", "sessions"]:
                self._only("sessions", form)
                self._object(form["customer"])
                return self._new(
                    "cs", "checkout.session", url="https://checkout.stripe.com/c/pay/cs_test", mode="setup"
                )
            case _:
                raise Refused(404, "invalid_request_error", f"Unrecognized request URL ({self.path})")

    def _attach(self, token: str, form: dict[str, str]) -> Json:
        self._only("attach", form)
        cards = {"pm_card_visa": "4242", "pm_card_chargeDeclined": "0002"}
        if token not in cards:
            raise Refused(404, "invalid_request_error", "No such PaymentMethod", code="resource_missing")
        card = {"brand": "visa", "last4": cards[token]}
        return self._new("pm", "payment_method", card=card, customer=form["customer"])

    def _charge(self, form: dict[str, str]) -> Json:
        self._only("payment_intents", form, also="metadata[")
        method = self._object(form["payment_method"])
        if method["customer"] != form["customer"]:
            raise Refused(400, "invalid_request_error", "The payment method belongs to another customer")
        amount = int(form["amount"])
        intent = self._new("pi", "payment_intent", amount=amount, status="succeeded", refunded=0)
        if method["card"]["last4"] == "0002":
            intent["status"] = "requires_payment_method"
            raise Refused(402, "card_error", "Your card was declined.", code="card_declined", payment_intent=intent)
        return intent

    def _refund(self, form: dict[str, str]) -> Json:
        self._only("refunds", form)
        intent = self._object(form["payment_intent"])
        amount = int(form["amount"])
        if intent["refunded"] + amount > intent["amount"]:
            raise Refused(400, "invalid_request_error", "Refund amount is greater than unrefunded amount on charge")
        intent["refunded"] += amount
        return self._new("re", "refund", amount=amount, payment_intent=intent["id"], status="succeeded")

    def _new(self, prefix: str, kind: str, **fields: Any) -> Json:
        name = f"{prefix}_strict_{next(self.serials)}"
        self.objects[name] = {"id": name, "object": kind, **fields}
        return self.objects[name]

    def _object(self, name: str) -> Json:
        if name not in self.objects:
            raise Refused(404, "invalid_request_error", f"No such object: {name}", code="resource_missing")
        return self.objects[name]

    def _only(self, call: str, form: dict[str, str], also: str = "\0") -> None:
        unknown = [name for name in form if name not in ALLOWED[call] and not name.startswith(also)]
        if unknown:
            raise Refused(400, "invalid_request_error", f"Received unknown parameters: {unknown}")

    def _authorised(self) -> None:
        if not self.headers.get("authorization", "").startswith("Bearer sk_test_"):
            raise Refused(401, "invalid_request_error", "You did not provide an API key.")

    def _answer(self, status: int, body: Json) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

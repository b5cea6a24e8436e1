"""Signatures of payment webhooks: `t=<unix time>,v1=<hex HMAC-SHA256 of "time.body">`, the scheme Stripe documents."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from .gateway import SignatureRefused

TOLERANCE_S = 300


def sign(body: bytes, secret: str, *, at: datetime) -> str:
    """The header value for a body at a time."""
    moment = int(at.timestamp())
    return f"t={moment},v1={_digest(body, secret, str(moment))}"


def check(body: bytes, header: str, secret: str, *, now: datetime, tolerance_s: int = TOLERANCE_S) -> None:
    """Raise `SignatureRefused` unless one of the header's signatures is ours and its time is near `now`."""
    parts = [part.split("=", 1) for part in header.split(",") if "=" in part]
    moments = [value for name, value in parts if name.strip() == "t"]
    offered = [value for name, value in parts if name.strip() == "v1"]
    if len(moments) != 1 or not moments[0].isdecimal() or not offered:
        raise SignatureRefused("the webhook carries no readable signature")
    wanted = _digest(body, secret, moments[0])
    if not any(hmac.compare_digest(wanted.encode(), value.encode()) for value in offered):
        raise SignatureRefused("the webhook's signature does not match its body")
    if abs(now.timestamp() - int(moments[0])) > tolerance_s:
        raise SignatureRefused("the webhook's signature is too old or from the future")


def _digest(body: bytes, secret: str, moment: str) -> str:
    return hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()

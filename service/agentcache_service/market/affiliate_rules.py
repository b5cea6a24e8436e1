"""Rules of affiliate earnings as pure functions: attribution, commission, hold, clawback.

A commission is pending until its hold is over, then approved, then paid. A refund before it was paid makes it void;
a refund afterwards adds a line with a negative amount, because a paid row is never edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from agentcache_service.money.postings import split

from .partner_catalog import AffiliateTerms, CommissionRule

State = Literal["pending", "approved", "paid", "void"]


@dataclass(frozen=True, slots=True)
class Touch:
    """One earlier click of a visitor."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Reversal:
    """What a refund does to a commission: `void` it, or add `negative` (micro-USD, below zero) as a new line."""

    void: bool
    negative: int = 0


def credited(clicks: Sequence[Touch], terms: AffiliateTerms, now: datetime) -> Touch | None:
    """The click that gets the credit for a sign-up now: the first or the last inside the partner's window."""
    since = now - timedelta(days=terms.window_days)
    inside = sorted((click for click in clicks if since <= click.at <= now), key=lambda click: (click.at, click.id))
    if not inside:
        return None
    return inside[0] if terms.attribution == "first" else inside[-1]


def commission_of(rule: CommissionRule, *, base: int, calls: int, earlier: int, months: int) -> int:
    """What a partner owes for one event, in micro-USD.

    `base` is what the customer paid, `calls` the cached calls reported, `earlier` the commissions the referral has
    brought before, `months` whole months since the sign-up.
    """
    match rule.kind:
        case "percentage":
            return split(base, rule.bps)[0] if earlier == 0 else 0
        case "recurring":
            return split(base, rule.bps)[0] if months < rule.months else 0
        case "per_call":
            return rule.per_call * calls
        case "none":
            return 0


def whole_months(start: datetime, end: datetime) -> int:
    """Whole calendar months between two moments; 0 on the day itself."""
    months = (end.year - start.year) * 12 + end.month - start.month
    return max(0, months - (1 if (end.day, end.time()) < (start.day, start.time()) else 0))


def reversal(state: State, amount: int, *, refunded: int, base: int) -> Reversal:
    """The effect of a refund of `refunded` out of `base` on a commission of `amount`."""
    if state in {"pending", "void"} and refunded >= base:
        return Reversal(void=True)
    return Reversal(void=False, negative=-(amount * min(refunded, base) // base if base else amount))


def tracked(landing: str, terms: AffiliateTerms, *, code: str, click: str, campaign: str = "") -> str:
    """The partner's address with UTM parameters and our click id; `ValueError` when it leaves the allowed hosts."""
    parts = urlsplit(landing)
    if parts.hostname not in terms.hosts or parts.scheme not in {"http", "https"} or parts.username is not None:
        raise ValueError("a referral link may only lead to the partner's own hosts")
    ours = {
        "utm_source": "agentcache",
        "utm_medium": "affiliate",
        "utm_campaign": campaign or "integrations",
        "utm_content": code,
        "ac_click": click,
    }
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ours] + list(ours.items())
    return urlunsplit((parts.scheme, parts.netloc, parts.path or "/", urlencode(query), ""))

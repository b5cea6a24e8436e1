"""Rules of listings and purchases as pure functions: which state may follow which, and what a listing must have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Kind = Literal["model", "agent"]
Status = Literal["draft", "active", "inactive", "suspended"]
Pricing = Literal["one_time", "subscription", "usage_based"]
PurchaseStatus = Literal["pending", "completed", "failed", "refunded"]
Step = Literal["publish", "delist", "suspend", "reinstate"]

_LISTING: Mapping[tuple[Status, Step], Status] = {
    ("draft", "publish"): "active",
    ("inactive", "publish"): "active",
    ("active", "delist"): "inactive",
    ("draft", "suspend"): "suspended",
    ("active", "suspend"): "suspended",
    ("inactive", "suspend"): "suspended",
    ("suspended", "reinstate"): "active",
}

_PURCHASE: Mapping[tuple[PurchaseStatus, PurchaseStatus], bool] = {
    ("pending", "completed"): True,
    ("pending", "failed"): True,
    ("completed", "refunded"): True,
}

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]{1,20})?\Z")
MAX_PRICE = 10_000_000_000
MAX_USAGE_PRICE = 100_000_000
PERMISSION = re.compile(r"(?:\*|(?:GET|POST|PUT|PATCH|DELETE) )?/?[A-Za-z0-9._~/-]*\*?\Z")


class StepRefused(ValueError):
    """A step that the present state does not allow."""


def listing_after(status: Status, step: Step) -> Status:
    """The state after a step; `StepRefused` when the step is not open from here."""
    after = _LISTING.get((status, step))
    if after is None:
        raise StepRefused(f"A listing that is {status} cannot be changed by {step!r}.")
    return after


def purchase_after(status: PurchaseStatus, wanted: PurchaseStatus) -> PurchaseStatus:
    """The wanted state, if it may follow; a repetition of the present state is allowed and changes nothing."""
    if status == wanted or _PURCHASE.get((status, wanted)):
        return wanted
    raise StepRefused(f"A purchase that is {status} cannot become {wanted}.")


def check_pricing(kind: Kind, pricing: Pricing, *, price: int, per_call: int, per_1k_tokens: int) -> str | None:
    """What is wrong with a listing's price, or None. Prices in micro-USD; charges are whole cents."""
    if pricing == "usage_based":
        if kind == "agent":
            return "An agent is sold once or by subscription; usage pricing is for models."
        if price:
            return "Usage pricing has no fixed price: set price to 0."
        if not 0 < per_call + per_1k_tokens <= MAX_USAGE_PRICE or per_call < 0 or per_1k_tokens < 0:
            return "Usage pricing needs a price per call or per 1,000 tokens."
        return None
    if per_call or per_1k_tokens:
        return "Only usage pricing has prices per call or per token."
    if not 0 <= price <= MAX_PRICE or price % 10_000:
        return "The price must be a whole number of cents between 0 and $10,000."
    if 0 < price < 500_000:
        return "The smallest price is $0.50; use 0 for a free listing."
    if pricing == "subscription" and price == 0:
        return "A subscription needs a price."
    return None


def is_version(text: str) -> bool:
    """True for versions such as 1.2.3 or 1.2.3-beta.1."""
    return _VERSION.match(text) is not None


def version_order(text: str) -> tuple[int, int, int, bool, str]:
    """A sort key: 1.10.0 after 1.9.0, 1.0.0 after 1.0.0-beta."""
    found = _VERSION.match(text)
    if found is None:
        return (-1, -1, -1, False, text)
    rest = text.partition("-")[2]
    return (int(found[1]), int(found[2]), int(found[3]), rest == "", rest)


def allows(permissions: list[str], method: str, path: str) -> bool:
    """True when one of the permissions covers a call.

    A permission is `*`, a path (`chat/completions`) or a prefix (`models/*`), also after a method (`POST chat/*`).
    """
    wanted = path.strip("/")
    for permission in permissions:
        verb, _, rest = permission.partition(" ") if " " in permission else ("", "", permission)
        if verb and verb != method:
            continue
        pattern = rest.strip("/")
        if pattern == "*" or pattern == wanted or (pattern.endswith("*") and wanted.startswith(pattern[:-1])):
            return True
    return False

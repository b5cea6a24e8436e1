"""What the pages call things: actions of the audit log, browsers, people behind ids."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ACTIONS: Mapping[str, str] = {
    "account.erase": "Erased an account",
    "account.login": "Signed in",
    "account.password": "Changed the password",
    "account.profile": "Changed the profile",
    "account.register": "Signed up",
    "account.reset": "Reset the password",
    "account.verify": "Confirmed the address",
    "affiliate.opt_in": "Began to earn from referrals",
    "affiliate.opt_out": "Stopped earning from referrals",
    "billing.payout_method": "Set where payouts go",
    "billing.plan": "Changed the plan",
    "integration.connect": "Connected a partner",
    "integration.disconnect": "Disconnected a partner",
    "key.create": "Made an API key",
    "key.revoke": "Revoked an API key",
    "key.rotate": "Rotated an API key",
    "listener.create": "Began to watch an address",
    "listener.remove": "Stopped watching an address",
    "market.creator": "Changed the creator profile",
    "market.credentials.erase": "Erased a model's credentials",
    "market.credentials.store": "Stored a model's credentials",
    "market.listing.create": "Made a listing",
    "market.listing.delist": "Took a listing off sale",
    "market.listing.publish": "Published a listing",
    "market.listing.withdraw": "Withdrew a listing",
    "market.purchase": "Bought a listing",
    "market.purchase.cancel": "Cancelled a subscription",
    "moderation.appeal": "Appealed a decision",
    "namespace.create": "Made a namespace",
    "namespace.edit": "Changed a namespace",
    "namespace.remove": "Removed a namespace",
    "org.create": "Made the organization",
    "org.edit": "Changed the organization",
    "refund": "Returned a payment",
    "second_factor.given": "Gave the second factor",
    "second_factor.off": "Removed the second factor",
    "second_factor.on": "Set up a second factor",
}
_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def action(name: str) -> str:
    """An action of the audit log as a sentence's beginning; one nobody has named is spelt from its own name."""
    return _ACTIONS.get(name) or name.replace(".", " ").replace("_", " ").capitalize()


def browser(agent: str) -> str:
    """A browser's User-Agent header in a few words: "Firefox on Linux"."""
    if not agent:
        return "Unknown browser"
    name = next((words for sign, words in _BROWSERS if f"{sign}/" in agent), None)
    system = next((words for sign, words in _SYSTEMS if sign in agent), None)
    if name is None:
        return re.split(r"[/ ]", agent)[0][:40] or "Unknown browser"
    return f"{name} on {system}" if system else name

"""The catalogue of partners: data files read and checked once, searched, grouped and shown."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

Category = Literal["compute", "storage", "monitoring", "deployment"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
Attribution = Literal["first", "last"]
CommissionKind = Literal["percentage", "recurring", "per_call", "none"]
ConnectMethod = Literal["oauth", "key", "recipe"]

_SLUG = re.compile(r"[a-z][a-z0-9-]{1,30}\Z")


class CatalogError(ValueError):
    """A partner's file says something that cannot be; the message names file and field."""


@dataclass(frozen=True, slots=True)
class CommissionRule:
    """What a partner pays: basis points of what a customer paid (once or for some months), or an amount per call."""

    kind: CommissionKind
    bps: int = 0
    months: int = 0
    per_call: int = 0

    @property
    def words(self) -> str:
        """The rule as one would say it."""
        match self.kind:
            case "percentage":
                return f"{self.bps / 100:g} % of the first payment"
            case "recurring":
                return f"{self.bps / 100:g} % of every payment for {self.months} months"
            case "per_call":
                return f"${Decimal(self.per_call) / 1_000_000:f} per cached call"
            case "none":
                return "no commission"


@dataclass(frozen=True, slots=True)
class AffiliateTerms:
    """Where referral links may lead and how referrals count."""

    hosts: frozenset[str]
    landing: str
    window_days: int
    attribution: Attribution
    hold_days: int


@dataclass(frozen=True, slots=True)
class Connect:
    """How a customer connects: by OAuth (addresses and scopes), by key (field names) or by following a recipe."""

    method: ConnectMethod
    issuer: str = ""
    authorize: str = ""
    token: str = ""
    revoke: str = ""
    scopes: tuple[str, ...] = ()
    returns_issuer: bool = False
    fields: tuple[str, ...] = ()
    hint: str = ""
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Partner:
    """One partner, as its file says."""

    slug: str
    name: str
    category: Category
    benefit: str
    price: str
    deal: str
    featured: int
    home: str
    docs: str
    commission: CommissionRule
    affiliate: AffiliateTerms
    connect: Connect
    api_base: str
    api_check: str
    savings: str
    second_price: int
    million_tokens_price: int
    actions: tuple[str, ...]
    dialect: str
    forward_path: str
    forward_batch: int

    def matches(self, words: str) -> bool:
        """True when every word occurs in what the card shows."""
        shown = f"{self.name} {self.category} {self.benefit} {self.price} {self.deal}".casefold()
        return all(word in shown for word in words.casefold().split())


@dataclass(frozen=True, slots=True)
class Bundle:
    """Partners that are often connected together."""

    slug: str
    title: str
    benefit: str
    partners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every partner by slug, and the bundles."""

    by_slug: Mapping[str, Partner]
    bundles: tuple[Bundle, ...]

    def search(self, words: str = "", *, category: str | None = None) -> list[Partner]:
        """Partners that match, featured ones first, then by name."""
        found = [
            partner
            for partner in self.by_slug.values()
            if partner.matches(words) and (category is None or partner.category == category)
        ]
        return sorted(found, key=lambda partner: (partner.featured or 99, partner.name))

    @property
    def featured(self) -> list[Partner]:
        """The top three, in the order the files give."""
        chosen = [partner for partner in self.by_slug.values() if partner.featured]
        return sorted(chosen, key=lambda partner: partner.featured)[:3]


def load_catalog(overrides: Path | None = None) -> Catalog:
    """Read the packaged files; a file of the same name in `overrides` replaces one, tables merged key by key."""
    room = resources.files("agentcache_service.market")
    raw = dict(_files(room / "partners"))
    if overrides is not None:
        for slug, table in _files(overrides):
            raw[slug] = _merged(raw.get(slug, {}), table)
    partners = {slug: _partner(slug, table) for slug, table in raw.items()}
    bundles = tomllib.loads((room / "bundles.toml").read_text("utf-8"))["bundle"]
    for item in bundles:
        unknown = set(item["partners"]) - set(partners)
        if unknown:
            raise CatalogError(f"bundles.toml: {item['slug']} names unknown partners {sorted(unknown)}")
    return Catalog(partners, tuple(Bundle(**{**item, "partners": tuple(item["partners"])}) for item in bundles))


def _files(folder: Traversable | Path) -> Sequence[tuple[str, Mapping[str, Any]]]:
    found = []
    for path in folder.iterdir():
        if path.name.endswith(".toml"):
            slug = path.name.removesuffix(".toml")
            if not _SLUG.match(slug):
                raise CatalogError(f"{path.name}: a partner's slug is lower-case letters, digits and dashes")
            found.append((slug, tomllib.loads(path.read_text("utf-8"))))
    return sorted(found)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _partner(slug: str, table: Mapping[str, Any]) -> Partner:
    try:
        connect, api, jobs = table["connect"], table["api"], table.get("jobs", {})
        partner = Partner(
            slug=slug,
            name=table["name"],
            category=table["category"],
            benefit=table["benefit"],
            price=table["price"],
            deal=table["deal"],
            featured=table.get("featured", 0),
            home=table["home"],
            docs=table["docs"],
            commission=_commission(slug, table["commission"]),
            affiliate=_affiliate(slug, table["affiliate"]),
            connect=_connect(connect),
            api_base=api["base"],
            api_check=api["check"],
            savings=api["savings"],
            second_price=_micros(table, "per_second_usd"),
            million_tokens_price=_micros(table, "per_million_tokens_usd"),
            actions=tuple(jobs.get("actions", ())),
            dialect=jobs.get("dialect", ""),
            forward_path=table.get("forward", {}).get("path", ""),
            forward_batch=table.get("forward", {}).get("batch", 0),
        )
    except KeyError as missing:
        raise CatalogError(f"{slug}.toml: {missing} is missing") from None
    if partner.category not in CATEGORIES:
        raise CatalogError(f"{slug}.toml: category must be one of {', '.join(CATEGORIES)}")
    if partner.connect.method == "oauth" and not (connect.get("authorize") and connect.get("token")):
        raise CatalogError(f"{slug}.toml: connect by OAuth needs authorize and token addresses")
    return partner


def _micros(table: Mapping[str, Any], name: str) -> int:
    return int(Decimal(str(table.get("prices", {}).get(name, 0))) * 1_000_000)


def _connect(table: Mapping[str, Any]) -> Connect:
    chosen: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    if chosen["method"] not in get_args(ConnectMethod):
        raise CatalogError(f"connect.method must be one of {', '.join(get_args(ConnectMethod))}")
    return Connect(**chosen)


def _commission(slug: str, table: Mapping[str, Any]) -> CommissionRule:
    kind = cast("CommissionKind", table["type"])
    if kind not in get_args(CommissionKind):
        raise CatalogError(f"{slug}.toml: commission.type must be one of {', '.join(get_args(CommissionKind))}")
    bps = int(Decimal(str(table.get("percent", 0))) * 100)
    per_call = int(Decimal(str(table.get("amount_usd", 0))) * 1_000_000)
    if not 0 <= bps <= 10_000 or per_call < 0:
        raise CatalogError(f"{slug}.toml: a commission lies between 0 and 100 %")
    return CommissionRule(kind, bps, table.get("months", 0), per_call)


def _affiliate(slug: str, table: Mapping[str, Any]) -> AffiliateTerms:
    hosts = frozenset(table["hosts"])
    landing = urlsplit(table["landing"])
    if landing.hostname not in hosts or landing.scheme not in {"http", "https"}:
        raise CatalogError(f"{slug}.toml: affiliate.landing must lead to one of affiliate.hosts")
    if table["attribution"] not in get_args(Attribution):
        raise CatalogError(f"{slug}.toml: affiliate.attribution is first or last")
    return AffiliateTerms(hosts, table["landing"], table["window_days"], table["attribution"], table["hold_days"])

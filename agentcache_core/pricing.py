"""What a model call cost, from the usage its response reports and a dated book of list prices.

Money is in millionths of a US dollar (a price in dollars per million tokens is micro-dollars per token), computed
exactly and rounded once, half to even. Tokens the provider read from its own prompt cache are priced at its discount,
so that an avoided call is never counted as more than the provider billed for it.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from importlib.resources import files
from pathlib import Path
from typing import Any

from agentcache_core.errors import ConfigurationError
from agentcache_core.model import Cost

ENVIRONMENT = "AGENTCACHE_PRICING"
FORMULA = (
    "usd = (input_tokens - cached_input_tokens) x input + cached_input_tokens x cached_input + output_tokens x output, "
    "list prices per token of the recorded call, prompt-cache writes at their own price"
)


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs, in US dollars per million tokens."""

    input: Decimal
    output: Decimal
    cached_input: Decimal
    cache_write: Decimal


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call used, in tokens. `input` is everything sent, `cached` the part of it read from the provider's
    prompt cache, `written` and `written_long` the parts written to it (for minutes, for an hour)."""

    input: int = 0
    cached: int = 0
    written: int = 0
    written_long: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices by provider and model, as they stood on the day `as_of`."""

    as_of: str
    prices: Mapping[tuple[str, str], Price]

    @classmethod
    def load(cls, path: str | Path | None = None) -> PriceBook:
        """The book that comes with the package, overridden by the file at `path` (or named in AGENTCACHE_PRICING).

        Raises `ConfigurationError` naming the file and the entry that is wrong.
        """
        built_in = files("agentcache_core").joinpath("pricing.toml").read_text(encoding="utf-8")
        book = _parse(built_in, "pricing.toml")
        override = path if path is not None else os.environ.get(ENVIRONMENT)
        if not override:
            return book
        try:
            own = _parse(Path(override).read_text(encoding="utf-8"), str(override))
        except OSError as error:
            raise ConfigurationError(f"cannot read the price book {override}: {error.strerror or error}") from error
        return cls(own.as_of or book.as_of, {**book.prices, **own.prices})

    def price(self, provider: str, model: str) -> Price | None:
        """The price of a model, None where it is not listed. A dated name is the undated one's."""
        for name in (model, _undated(model)):
            found = self.prices.get((provider, name))
            if found is not None:
                return found
        return None

    def cost(self, provider: str, model: str, usage: Any, *, seconds: float = 0.0) -> Cost:
        """What a call cost that reported `usage` (a mapping or an SDK object) and took `seconds`.

        A model that is not listed costs no money; its tokens are counted all the same.
        """
        used = usage_of(usage)
        price = self.price(provider, model)
        micros = 0 if price is None else _micros(price, used)
        return Cost(micros, used.input, used.cached, used.output, seconds)


def cost_of(provider: str, model: str, usage: Any, *, seconds: float = 0.0) -> Cost:
    """What a call cost by the book that is in force: the package's, overridden by AGENTCACHE_PRICING."""
    return _book_in_force(os.environ.get(ENVIRONMENT, "")).cost(provider, model, usage, seconds=seconds)


def book_in_force() -> PriceBook:
    """The book that `cost_of` uses."""
    return _book_in_force(os.environ.get(ENVIRONMENT, ""))


@functools.lru_cache(maxsize=4)
def _book_in_force(override: str) -> PriceBook:
    return PriceBook.load(override or None)


def usage_of(usage: Any) -> Usage:
    """The tokens in a usage report of OpenAI (chat, responses, embeddings) or Anthropic; zeros for anything else.

    OpenAI counts cached tokens among its input tokens, Anthropic beside them: told apart by the fields only one has.
    """
    read = _count(usage, "cache_read_input_tokens")
    written = _count(usage, "cache_creation_input_tokens")
    if _has(usage, "cache_read_input_tokens") or _has(usage, "cache_creation_input_tokens"):
        long = min(written, _count(usage, "cache_creation", "ephemeral_1h_input_tokens"))
        total = _count(usage, "input_tokens") + read + written
        return Usage(total, read, written - long, long, _count(usage, "output_tokens"))
    sent = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    cached = _count(usage, "prompt_tokens_details", "cached_tokens")
    cached = cached or _count(usage, "input_tokens_details", "cached_tokens")
    output = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    return Usage(sent, min(cached, sent), 0, 0, output)


def _micros(price: Price, used: Usage) -> int:
    fresh = used.input - used.cached - used.written - used.written_long
    exact = (
        fresh * price.input
        + used.cached * price.cached_input
        + used.written * price.cache_write
        + used.written_long * 2 * price.input
        + used.output * price.output
    )
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


def _field(report: Any, name: str) -> Any:
    return report.get(name) if isinstance(report, Mapping) else getattr(report, name, None)


def _has(report: Any, name: str) -> bool:
    return _field(report, name) is not None


def _count(report: Any, *path: str) -> int:
    for name in path:
        report = _field(report, name)
    return report if type(report) is int and report >= 0 else 0


_DATE = re.compile(r"(-latest|-\d{4}-\d{2}-\d{2}|-\d{8}|@\d{8}|-\d{4})$")


def _undated(model: str) -> str:
    return _DATE.sub("", model)


def _parse(text: str, where: str) -> PriceBook:
    try:
        tables = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the price book {where} is not valid TOML: {error}") from error
    as_of = str(tables.pop("as_of", ""))
    prices: dict[tuple[str, str], Price] = {}
    for provider, models in tables.items():
        if not isinstance(models, Mapping):
            raise ConfigurationError(f"{where}: {provider} must be a table of models, got {models!r}")
        for model, row in models.items():
            prices[provider, model] = _price(row, f"{where}: [{provider}] {model}")
    return PriceBook(as_of, prices)


def _price(row: Any, place: str) -> Price:
    known = {"input", "output", "cached_input", "cache_write"}
    if not isinstance(row, Mapping) or not {"input", "output"} <= set(row) <= known:
        raise ConfigurationError(f"{place} needs input and output, and may have cached_input and cache_write")
    amounts: dict[str, Decimal] = {}
    for name, value in row.items():
        try:
            amounts[name] = Decimal(value)
        except (InvalidOperation, TypeError, ValueError) as error:
            raise ConfigurationError(f"{place}: {name} must be a number of dollars, got {value!r}") from error
        if not (amounts[name].is_finite() and amounts[name] >= 0):
            raise ConfigurationError(f"{place}: {name} must be at least 0, got {value!r}")
    return Price(
        amounts["input"],
        amounts["output"],
        amounts.get("cached_input", amounts["input"]),
        amounts.get("cache_write", amounts["input"]),
    )

"""What a call cost: every provider's usage report, exact money, dated and overridable prices."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core.errors import ConfigurationError
from agentcache_core.model import Cost
from agentcache_core.pricing import PriceBook, cost_of, usage_of


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


def test_an_openai_chat_call_is_priced_with_its_cached_part_at_the_discount(book: PriceBook) -> None:
    usage = {"prompt_tokens": 2000, "completion_tokens": 300, "prompt_tokens_details": {"cached_tokens": 1024}}
    expected = (2000 - 1024) * Decimal("1.25") + 1024 * Decimal("0.125") + 300 * 10
    assert book.cost("openai", "gpt-5", usage) == Cost(int(expected), 2000, 1024, 300)


def test_an_openai_responses_call_is_priced_alike(book: PriceBook) -> None:
    usage = {"input_tokens": 2000, "output_tokens": 300, "input_tokens_details": {"cached_tokens": 1024}}
    assert book.cost("openai", "gpt-5", usage).usd_micros == 4348


def test_an_embedding_call_has_no_output(book: PriceBook) -> None:
    cost = book.cost("openai", "text-embedding-3-small", {"prompt_tokens": 1_000_000, "total_tokens": 1_000_000})
    assert cost == Cost(20_000, 1_000_000)


def test_an_anthropic_call_counts_its_cache_tokens_beside_the_input(book: PriceBook) -> None:
    usage = {
        "input_tokens": 100,
        "cache_read_input_tokens": 5000,
        "cache_creation_input_tokens": 1000,
        "output_tokens": 200,
    }
    expected = 100 * 3 + 5000 * Decimal("0.3") + 1000 * Decimal("3.75") + 200 * 15
    assert book.cost("anthropic", "claude-sonnet-4-5", usage) == Cost(int(expected), 6100, 5000, 200)


def test_an_hour_in_anthropics_prompt_cache_costs_twice_the_input(book: PriceBook) -> None:
    usage = {
        "input_tokens": 0,
        "cache_creation_input_tokens": 1000,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000},
        "output_tokens": 0,
    }
    assert book.cost("anthropic", "claude-sonnet-4-5", usage).usd_micros == 6000


def test_an_sdk_object_is_read_like_its_json(book: PriceBook) -> None:
    usage = SimpleNamespace(
        prompt_tokens=10, completion_tokens=2, prompt_tokens_details=SimpleNamespace(cached_tokens=None)
    )
    as_json = {"prompt_tokens": 10, "completion_tokens": 2}
    assert book.cost("openai", "gpt-5", usage) == book.cost("openai", "gpt-5", as_json)


def test_an_unknown_model_costs_nothing_and_its_tokens_still_count(book: PriceBook) -> None:
    assert book.price("openai", "gpt-of-tomorrow") is None
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    assert book.cost("openai", "gpt-of-tomorrow", usage, seconds=1.5) == Cost(0, 10, 0, 2, 1.5)


def test_a_model_of_another_provider_is_not_guessed(book: PriceBook) -> None:
    assert book.price("somebody", "gpt-5") is None


@pytest.mark.parametrize("dated", ["gpt-5-2025-08-07", "gpt-5-latest", "gpt-5"])
def test_a_dated_name_has_the_price_of_its_model(book: PriceBook, dated: str) -> None:
    assert book.price("openai", dated) == book.price("openai", "gpt-5")


def test_a_smaller_model_is_never_taken_for_a_larger_one(book: PriceBook) -> None:
    assert book.price("openai", "gpt-5-mini") != book.price("openai", "gpt-5")
    assert book.price("openai", "gpt-5-micro") is None


def test_every_listed_model_has_a_sound_price(book: PriceBook) -> None:
    assert book.as_of
    for price in book.prices.values():
        assert 0 <= price.cached_input <= price.input <= price.cache_write * 2


@pytest.mark.parametrize("nonsense", [None, [], "many", {"prompt_tokens": -1}, {"prompt_tokens": True}, 7])
def test_a_nonsensical_usage_report_counts_nothing_and_raises_nothing(nonsense: object) -> None:
    assert cost_of("openai", "gpt-5", nonsense) == Cost()


def test_an_own_book_replaces_what_it_lists_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "prices.toml"
    own.write_text('as_of = "2027-01-01"\n[openai]\n"gpt-5" = { input = 1, output = 2 }\n')
    monkeypatch.setenv("AGENTCACHE_PRICING", str(own))
    assert cost_of("openai", "gpt-5", {"prompt_tokens": 10, "completion_tokens": 10}).usd_micros == 30
    assert cost_of("openai", "gpt-5-mini", {"prompt_tokens": 4, "completion_tokens": 0}).usd_micros == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[openai]\nx = { input = 1 }", "needs input and output"),
        ("[openai]\nx = { input = 1, output = -1 }", "at least 0"),
        ("[openai]\nx = { input = 1, output = 'much' }", "a number of dollars"),
        ("openai = 3", "a table of models"),
        ("[openai", "not valid TOML"),
    ],
)
def test_a_malformed_book_says_what_is_wrong_with_it(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=named):
        PriceBook.load(path)


def test_a_missing_book_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        PriceBook.load(tmp_path / "nowhere.toml")


counts = st.integers(0, 10**9)


@given(sent=counts, cached=counts, output=counts)
def test_cached_tokens_never_exceed_the_input_and_money_is_never_negative(sent: int, cached: int, output: int) -> None:
    usage = {
        "prompt_tokens": sent,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    used = usage_of(usage)
    assert used.cached <= used.input
    discounted = PriceBook.load().cost("openai", "gpt-5", usage).usd_micros
    undiscounted = PriceBook.load().cost("openai", "gpt-5", {**usage, "prompt_tokens_details": {}}).usd_micros
    assert 0 <= discounted <= undiscounted

"""Placement: hot above 0.8, cold after 30 days below 0.1, or by price; every move says what it saves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core.errors import ConfigurationError
from agentcache_core.policy.placement import (
    DAY,
    HALF_LIFE,
    LIST_PRICES,
    MONTH,
    Access,
    CostModel,
    Item,
    Place,
    Prices,
    Rules,
    plan,
    wanted,
)

NOW = 1_800_000_000.0
REDIS, S3 = Place("redis", LIST_PRICES["redis"]), Place("s3", LIST_PRICES["s3"])
PLACES = (REDIS, S3)


def item(hits: float, computed: float, *, idle_days: float, held: tuple[int, ...], size: int = 1_000_000) -> Item:
    read = NOW - idle_days * DAY
    return Item(b"n", size, held, Access(hits, computed, read, NOW), created_at=read)


@pytest.mark.parametrize(
    ("hits", "computed", "idle", "held", "expected"),
    [
        (81, 19, 0, (1,), 0),  # above 0.8: hot
        (80, 20, 0, (1,), None),  # exactly 0.8 is not above
        (81, 19, 0, (0, 1), None),  # is hot already
        (9, 91, 30, (0, 1), 1),  # below 0.1 and 30 days: cold
        (9, 91, 29.9, (0, 1), None),  # not long enough
        (10, 90, 40, (0, 1), None),  # exactly 0.1 is not below
        (9, 91, 40, (1,), None),  # is cold already
        (50, 50, 40, (0, 1), None),  # in between: where it is
        (0, 1, 40, (0,), 1),  # only in the hot tier, never read again
    ],
)
def test_the_rules_at_their_thresholds(
    hits: float, computed: float, idle: float, held: tuple[int, ...], expected: int | None
) -> None:
    answer = wanted(item(hits, computed, idle_days=idle, held=held), PLACES, Rules(), NOW)
    assert (answer and answer[0]) == expected


def test_an_entry_stored_today_and_not_yet_read_is_not_cold() -> None:
    new = Item(b"n", 1, (0, 1), Access(0, 1, 0.0, NOW), created_at=NOW - DAY)
    assert wanted(new, PLACES, Rules(), NOW) is None
    old = Item(b"n", 1, (0, 1), Access(0, 1, 0.0, NOW), created_at=NOW - 31 * DAY)
    assert wanted(old, PLACES, Rules(), NOW) == (1, "never read, hit rate 0.00 below 0.1")


def test_the_thresholds_can_be_set() -> None:
    strict = Rules(hot=0.5, cold_after=DAY, cold=0.4)
    assert wanted(item(6, 4, idle_days=0, held=(1,)), PLACES, strict, NOW) is not None
    assert wanted(item(3, 7, idle_days=2, held=(0, 1)), PLACES, strict, NOW) is not None
    for wrong in ({"hot": 0.05}, {"cold": -1}, {"hot": 1.1}, {"cold_after": -1}):
        with pytest.raises(ConfigurationError):
            Rules(**wrong)
    with pytest.raises(ConfigurationError):
        Prices(gb_month=-1)


def test_a_hot_entry_goes_to_the_hottest_tier_that_takes_its_size() -> None:
    places = (Place("memory", max_value=10), Place("redis", max_value=2_000_000), S3)
    assert plan([item(9, 1, idle_days=0, held=(2,))], places, Rules(), now=NOW).moves[0].target == 1
    assert plan([item(9, 1, idle_days=0, held=(2,), size=10)], places, Rules(), now=NOW).moves[0].target == 0
    assert plan([item(9, 1, idle_days=0, held=(2,), size=10**9)], places, Rules(), now=NOW).moves == ()


def test_a_demotion_saves_the_storage_of_the_hot_copy() -> None:
    (move,) = plan([item(0, 1, idle_days=60, held=(0, 1), size=10**9)], PLACES, Rules(), now=NOW).moves
    assert (move.verb, move.source, move.target) == ("demote", 0, 1)
    assert move.saves == pytest.approx(8.0)


def test_a_promotion_says_what_it_costs() -> None:
    (move,) = plan([item(9, 1, idle_days=0, held=(1,), size=10**9)], PLACES, Rules(), now=NOW).moves
    assert move.verb == "promote"
    assert move.saves == pytest.approx(-8.0, abs=0.01)


def test_the_cost_model_keeps_what_is_read_much_hot_and_what_is_read_seldom_cold() -> None:
    places = (Place("redis", Prices(gb_month=8)), Place("s3", Prices(gb_month=0.023, gb_out=0.09)))
    busy = item(10_000, 1, idle_days=0, held=(1,), size=10**6)
    idle = item(1, 1, idle_days=20, held=(0, 1), size=10**6)
    moves = plan([busy, idle], places, CostModel(), now=NOW).moves
    assert [(move.verb, move.saves > 0) for move in moves] == [("promote", True), ("demote", True)]


items = st.builds(
    Item,
    name=st.binary(min_size=1, max_size=4),
    size=st.integers(0, 10**10),
    held=st.sampled_from([(0, 1, 2), (0, 2), (1, 2), (2,), (1,), (0,)]),
    access=st.builds(Access, st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, NOW), st.floats(NOW - 100 * DAY, NOW)),
    created_at=st.floats(0, NOW),
)
prices = st.builds(Prices, *[st.floats(0, 100)] * 4)
places3 = st.tuples(prices, prices, prices).map(
    lambda three: tuple(Place(name, price) for name, price in zip(("hot", "warm", "cold"), three, strict=True))
)


@given(st.lists(items, max_size=10), places3, st.sampled_from([Rules(), CostModel()]))
def test_moves_go_only_between_tiers_that_exist_and_from_where_the_entry_is(
    given_items: list[Item], places: tuple[Place, ...], policy: Rules | CostModel
) -> None:
    each = [plan([one], places, policy, now=NOW) for one in given_items]
    for one, its in zip(given_items, each, strict=True):
        for move in its.moves:
            assert move.source in one.held
            assert move.source != move.target
            assert (move.target < move.source) == (move.verb == "promote")
    whole = plan(given_items, places, policy, now=NOW)
    assert whole.saves == pytest.approx(sum(its.saves for its in each))
    assert whole.items == len(given_items)


@given(items.filter(lambda one: one.held in [(2,), (0, 2), (1, 2)]), places3)
def test_what_the_cost_model_moves_saves_money(one: Item, places: tuple[Place, ...]) -> None:
    assert plan([one], places, CostModel(), now=NOW).saves >= 0


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 400))
def test_use_fades_by_half_in_thirty_days_and_keeps_its_rate(hits: float, computed: float, days: float) -> None:
    access = Access(hits, computed, NOW, NOW)
    later = access.faded(NOW + days * DAY)
    assert later.hits == pytest.approx(hits * 0.5 ** (days * DAY / HALF_LIFE))
    if later.hits > 1e-3:
        assert later.hit_rate == pytest.approx(access.hit_rate, rel=1e-6)


def test_a_steady_rate_of_reads_is_estimated_as_it_is() -> None:
    access = Access(at=NOW - 600 * DAY)
    for day in range(600):
        access = access.merged(Access(3, 0, NOW, NOW - (599 - day) * DAY), NOW - (599 - day) * DAY)
    assert access.reads_per_month(NOW) == pytest.approx(3 * MONTH / DAY, rel=0.05)

"""When a schedule is due, also on the two days of a year when the clocks change."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcache_core.clock import ManualClock
from agentcache_core.errors import ConfigurationError
from agentcache_core.schedule import Schedule

BERLIN = ZoneInfo("Europe/Berlin")


def due(expression: str, start: str, count: int, *, timezone: str = "Europe/Berlin") -> list[str]:
    """The next `count` due times after `start`, local, as a program that sleeps until each of them sees them."""
    zone = ZoneInfo(timezone)
    schedule = Schedule(expression, timezone=timezone)
    clock = ManualClock(datetime.fromisoformat(start).replace(tzinfo=zone).timestamp())
    seen = []
    for _ in range(count):
        clock.advance(schedule.next_after(clock.now()) - clock.now())
        seen.append(datetime.fromtimestamp(clock.now(), zone).strftime("%m-%d %H:%M%z"))
    return seen


def test_an_ordinary_day() -> None:
    assert due("0 6 * * 1-5", "2026-11-20T12:00", 2) == ["11-23 06:00+0100", "11-24 06:00+0100"]


def test_a_time_that_does_not_exist_is_due_when_the_clocks_change() -> None:
    assert due("30 2 * * *", "2026-03-28T12:00", 2) == ["03-29 03:00+0200", "03-30 02:30+0200"]


def test_a_time_that_exists_twice_is_due_the_first_time_only() -> None:
    assert due("30 2 * * *", "2026-10-24T12:00", 2) == ["10-25 02:30+0200", "10-26 02:30+0100"]


def test_open_hours_follow_elapsed_time_forward() -> None:
    assert due("*/30 * * * *", "2026-03-29T01:00", 3) == ["03-29 01:30+0100", "03-29 03:00+0200", "03-29 03:30+0200"]


def test_open_hours_follow_elapsed_time_back() -> None:
    assert due("0 * * * *", "2026-10-25T01:30", 4) == [
        "10-25 02:00+0200",
        "10-25 02:00+0100",
        "10-25 03:00+0100",
        "10-25 04:00+0100",
    ]


def test_a_fixed_hour_that_two_days_share_is_a_day_apart_even_when_the_day_has_23_hours() -> None:
    schedule = Schedule("0 6 * * *", timezone="Europe/Berlin")
    first = schedule.next_after(datetime(2026, 3, 28, 1, tzinfo=BERLIN).timestamp())
    assert schedule.next_after(first) - first == 23 * 3600


def test_southern_clocks_and_half_hours_change_too() -> None:
    assert due("15 2 * * *", "2026-10-03T12:00", 1, timezone="Australia/Lord_Howe") == ["10-04 02:30+1100"]


@given(
    now=st.integers(1_767_225_600, 1_830_000_000),
    expression=st.sampled_from(
        ["*/7 * * * *", "0 * * * *", "30 2 * * *", "5 */3 * * *", "0 3 * * 0", "59 1,2,3 * * *"]
    ),
    timezone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
)
def test_the_next_time_is_later_and_nothing_is_due_before_it(now: int, expression: str, timezone: str) -> None:
    schedule = Schedule(expression, timezone=timezone)
    coming = schedule.next_after(now)
    assert coming > now
    assert schedule.next_after(coming - 1) == coming
    assert schedule.next_after((now + coming) / 2 if coming - now > 2 else now) == coming


@pytest.mark.parametrize(
    ("expression", "timezone", "named"),
    [
        ("0 6 * *", "UTC", "five fields"),
        ("every day", "UTC", "five fields"),
        ("61 * * * *", "UTC", "five fields"),
        ("0 6 * * *", "Mars/Olympus", "not a time zone"),
    ],
)
def test_a_wrong_schedule_is_named(expression: str, timezone: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        Schedule(expression, timezone=timezone)


def test_a_schedule_that_never_comes_says_so() -> None:
    with pytest.raises(ConfigurationError, match="never due"):
        Schedule("0 0 30 2 *").next_after(0.0)

"""When something is due: a cron expression in a time zone, as instants.

The expression is matched against wall-clock time by the library `croniter` (extra `schedule`); what wall-clock time
means across a change of the clocks is decided here, as Vixie cron does. A fixed time that does not exist on a day
(clocks go forward) is due at the moment of the change; one that exists twice (clocks go back) is due the first time
only. A schedule whose hours are open (`*`, `*/2`) follows elapsed time: it is due in both of the repeated hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agentcache_core.clock import Clock
from agentcache_core.errors import ConfigurationError

_LARGEST_CHANGE = timedelta(hours=3)
_MAX_MATCHES = 10_000


class Schedule:
    """A cron expression (five fields) in a time zone (an IANA name). Raises `ConfigurationError` for either being
    wrong, and when `croniter` is not installed."""

    def __init__(self, expression: str, *, timezone: str = "UTC") -> None:
        try:
            from croniter import croniter  # type: ignore[import-untyped]  # the library ships no types
        except ImportError as error:
            raise ConfigurationError("schedules need the extra: pip install 'agentcache[schedule]'") from error
        if len(expression.split()) != 5 or not croniter.is_valid(expression):
            raise ConfigurationError(
                f"{expression!r} is not a cron expression of five fields (minute hour day month weekday), "
                "such as '0 6 * * 1-5'"
            )
        try:
            self._zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigurationError(f"{timezone!r} is not a time zone; use a name such as 'Europe/Berlin'") from error
        self.expression = expression
        self.timezone = timezone
        self._croniter: Any = croniter
        self._open_hours = expression.split()[1].startswith("*")

    def next_after(self, now: float) -> float:
        """The first instant after `now` at which the schedule is due; both in wall-clock seconds since the epoch.

        Raises `ConfigurationError` for an expression that never comes, such as 30 February.
        """
        local = datetime.fromtimestamp(now, self._zone).replace(tzinfo=None)
        best: float | None = None
        for wall in self._matches(local - _LARGEST_CHANGE):
            for instant in self._instants(wall):
                if instant > now and (best is None or instant < best):
                    best = instant
            if best is not None and wall > datetime.fromtimestamp(best, self._zone).replace(tzinfo=None):
                return best
        if best is None:
            raise ConfigurationError(f"the schedule {self.expression!r} is never due")
        return best

    def _matches(self, after: datetime) -> Iterator[datetime]:
        """The wall-clock times that match, in order."""
        found = self._croniter(self.expression, after)
        for _ in range(_MAX_MATCHES):
            try:
                yield found.get_next(datetime)
            except Exception as error:
                if "failed to find" not in str(error):
                    raise
                return

    def _instants(self, wall: datetime) -> list[float]:
        """When a wall-clock time is due: once, or for open hours as often as it comes."""
        first = wall.replace(tzinfo=self._zone, fold=0)
        second = wall.replace(tzinfo=self._zone, fold=1)
        if first.utcoffset() == second.utcoffset():
            return [first.timestamp()]
        exists = datetime.fromtimestamp(first.timestamp(), self._zone).replace(tzinfo=None) == wall
        if exists:
            return [first.timestamp(), second.timestamp()] if self._open_hours else [first.timestamp()]
        return [] if self._open_hours else [self._change_between(second.timestamp(), first.timestamp())]

    def _change_between(self, low: float, high: float) -> float:
        """The instant between two at which the clocks change, to the second, by halving."""
        after = datetime.fromtimestamp(high, self._zone).utcoffset()
        while high - low > 1:
            middle = (low + high) // 2
            if datetime.fromtimestamp(middle, self._zone).utcoffset() == after:
                high = middle
            else:
                low = middle
        return high


def run_on(
    schedule: Schedule,
    job: Callable[[], object],
    *,
    clock: Clock,
    wait: Callable[[float], object],
    times: int | None = None,
) -> None:
    """Run `job` whenever `schedule` is due, `times` times or for ever.

    `wait(seconds)` waits; it may come back early. A run that takes longer than the time between two due times is not
    made up for: the next is the first that is due after it ended.
    """
    count = 0
    while times is None or count < times:
        due = schedule.next_after(clock.now())
        while (left := due - clock.now()) > 0:
            wait(min(left, 60.0))
        job()
        count += 1

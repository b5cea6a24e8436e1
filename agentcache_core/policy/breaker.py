"""When to stop asking a store that fails, and when to try it again: a circuit breaker as a pure state.

Source: M. Nygard, "Release It!", 2007, the circuit breaker pattern.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FAILURES = 3
FIRST_REST, LONGEST_REST = 1.0, 15.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """Closed while `failures` stays below `FAILURES`; then open until `retry_at` (monotonic seconds), when one probe
    may pass. Each failed probe doubles the rest, from `FIRST_REST` up to `LONGEST_REST` seconds."""

    failures: int = 0
    rest: float = 0.0
    retry_at: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.failures >= FAILURES

    def allows(self, now: float) -> bool:
        """Whether a call may go through now."""
        return not self.is_open or now >= self.retry_at

    def probing(self, now: float) -> Breaker:
        """The state while one probe is under way: nobody else may pass before it could have ended."""
        return replace(self, retry_at=now + max(self.rest, FIRST_REST)) if self.is_open else self

    def failed(self, now: float) -> Breaker:
        failures = self.failures + 1
        if failures < FAILURES:
            return Breaker(failures)
        rest = FIRST_REST if not self.rest else min(self.rest * 2, LONGEST_REST)
        return Breaker(failures, rest, now + rest)


CLOSED = Breaker()

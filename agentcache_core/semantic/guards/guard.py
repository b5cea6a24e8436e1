"""What a guard is: a named, pure rule that may veto serving a stored answer, and never can approve one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .pair import Pair


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one guard said about one pair: ``vetoed`` and, if so, the ``reason`` in words."""

    vetoed: bool
    reason: str = ""

    def __str__(self) -> str:
        return f"veto: {self.reason}" if self.vetoed else "ok"


OK = Verdict(False)


@dataclass(frozen=True, slots=True)
class Guard:
    """A veto rule: ``check`` takes a pair and returns the reason for a veto, or ``None``.

    ``check`` must be pure (no clock, no I/O, no randomness) and treat both sides alike. It is called once per
    candidate. A guard that
    raises vetoes: what could not be checked is not served.
    """

    name: str
    check: Callable[[Pair], str | None]


def judge(pair: Pair, guards: Sequence[Guard], *, stop_at_veto: bool = False) -> Mapping[str, Verdict]:
    """The verdict of every guard by name, in order; with ``stop_at_veto`` the guards after the first veto are not
    asked."""
    verdicts: dict[str, Verdict] = {}
    for guard in guards:
        try:
            reason = guard.check(pair)
        except Exception as error:  # noqa: BLE001 - a guard of the user's may raise anything; what cannot be checked is vetoed
            reason = f"the guard failed: {type(error).__name__}: {error}"
        verdicts[guard.name] = OK if reason is None else Verdict(True, reason)
        if reason is not None and stop_at_veto:
            break
    return verdicts


def first_veto(verdicts: Mapping[str, Verdict]) -> tuple[str, str] | None:
    """(guard, reason) of the first veto, or ``None``."""
    for name, verdict in verdicts.items():
        if verdict.vetoed:
            return name, verdict.reason
    return None

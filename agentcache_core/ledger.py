"""What hits avoided, by model and by tag, and how long things took: counts that add up over time and processes.

Money is in integer micro-dollars and time in integer microseconds, so that sums are exact in any order. In its plain
form a ledger is nested mappings with integers at the leaves; `added` and `subtracted` work on those.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias

from agentcache_core.model import Cost

Counts: TypeAlias = "dict[str, int | Counts]"

MAX_NAMES: Final = 1000
OTHER: Final = "(other)"
"""Where what exceeds `MAX_NAMES` models or tags is counted, so that a ledger stays small."""


class Tally:
    """A running sum of what avoided computations cost."""

    __slots__ = ("cached_input_tokens", "hits", "input_tokens", "output_tokens", "time_us", "usd_micros")

    def __init__(self) -> None:
        self.hits = 0
        self.usd_micros = 0
        self.input_tokens = 0
        self.cached_input_tokens = 0
        self.output_tokens = 0
        self.time_us = 0

    def add(self, cost: Cost) -> None:
        """Count one avoided computation."""
        self.hits += 1
        self.usd_micros += cost.usd_micros
        self.input_tokens += cost.input_tokens
        self.cached_input_tokens += cost.cached_input_tokens
        self.output_tokens += cost.output_tokens
        self.time_us += int(cost.seconds * 1e6 + 0.5)

    def plain(self) -> Counts:
        return {name: getattr(self, name) for name in self.__slots__}


def cost_in(plain: Mapping[str, Any]) -> Cost:
    """The sum a tally in its plain form stands for, as a `Cost`."""
    return Cost(
        plain.get("usd_micros", 0),
        plain.get("input_tokens", 0),
        plain.get("cached_input_tokens", 0),
        plain.get("output_tokens", 0),
        plain.get("time_us", 0) / 1e6,
    )


class Priced(Protocol):
    """An entry, as far as its cost goes: the cost, tags with their epochs, and `meta` naming model and provider."""

    @property
    def cost(self) -> Cost: ...
    @property
    def tags(self) -> tuple[tuple[str, bytes], ...]: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...


class Avoided:
    """What the hits of one namespace avoided: in all, by model (`provider/model`) and by tag."""

    __slots__ = ("by_model", "by_tag", "total")

    def __init__(self) -> None:
        self.total = Tally()
        self.by_model: dict[str, Tally] = {}
        self.by_tag: dict[str, Tally] = {}

    def credit(self, entry: Priced) -> None:
        """Count one hit on an entry that says what it cost."""
        cost = entry.cost
        if not (cost.seconds or cost.usd_micros or cost.input_tokens or cost.output_tokens):
            return
        self.total.add(cost)
        model = entry.meta.get("model")
        if model is not None:
            provider = entry.meta.get("provider")
            _named(self.by_model, f"{provider}/{model}" if provider else str(model)).add(cost)
        for tag, _ in entry.tags:
            _named(self.by_tag, tag).add(cost)

    def plain(self) -> Counts:
        return {
            "total": self.total.plain(),
            "by_model": {name: tally.plain() for name, tally in list(self.by_model.items())},
            "by_tag": {name: tally.plain() for name, tally in list(self.by_tag.items())},
        }


def _named(tallies: dict[str, Tally], name: str) -> Tally:
    tally = tallies.get(name)
    if tally is None:
        tally = tallies.setdefault(name if len(tallies) < MAX_NAMES else OTHER, Tally())
    return tally


_BOUNDS: Final = tuple(2 ** (step / 4) for step in range(120))


class Latency:
    """A histogram of durations, in buckets that grow by a quarter of a doubling from one microsecond up."""

    __slots__ = ("buckets",)

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        bucket = bisect_left(_BOUNDS, seconds * 1e6)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def plain(self) -> Counts:
        return {str(bucket): count for bucket, count in list(self.buckets.items())}


def percentile(plain: Mapping[str, Any], share: float) -> float | None:
    """The duration in seconds that `share` (0 to 1) of those in a plain histogram did not exceed, rounded up to the
    bound of its bucket (at most 19 % more than it was); None when there are none."""
    counted = sorted((int(bucket), count) for bucket, count in plain.items())
    needed = share * sum(count for _, count in counted)
    if not needed:
        return None
    for bucket, count in counted:
        needed -= count
        if needed <= 0:
            return float(_BOUNDS[min(bucket, len(_BOUNDS) - 1)] / 1e6)
    return None


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> Counts:
    """The sum of two ledgers in plain form, leaf by leaf."""
    total: Counts = dict(one)
    for name, value in other.items():
        if isinstance(value, Mapping):
            before = total.get(name)
            total[name] = added(before if isinstance(before, Mapping) else {}, value)
        else:
            known = total.get(name, 0)
            total[name] = (known if isinstance(known, int) else 0) + int(value)
    return total


def subtracted(one: Mapping[str, Any], other: Mapping[str, Any]) -> Counts:
    """What `one` has over `other`, leaf by leaf; zeros and empty branches are left out."""
    rest: Counts = {}
    for name, value in one.items():
        before = other.get(name)
        if isinstance(value, Mapping):
            branch = subtracted(value, before if isinstance(before, Mapping) else {})
            if branch:
                rest[name] = branch
        elif value != (before or 0):
            rest[name] = int(value) - (before if isinstance(before, int) else 0)
    return rest


def bounded(counts: Counts) -> Counts:
    """The same ledger with at most `MAX_NAMES` models and tags, the least of them added up under one name."""
    avoided = counts.get("avoided")
    if not isinstance(avoided, dict):
        return counts
    for kind in ("by_model", "by_tag"):
        named = avoided.get(kind)
        if isinstance(named, dict) and len(named) > MAX_NAMES:
            ranked = sorted(named, key=lambda name: _hits(named[name]), reverse=True)
            kept: Counts = {name: named[name] for name in ranked[: MAX_NAMES - 1] if name != OTHER}
            rest: Counts = {}
            for name in ranked:
                if name not in kept:
                    rest = added(rest, {OTHER: named[name]})
            kept.update(rest)
            avoided[kind] = kept
    return counts


def _hits(tally: Any) -> int:
    return int(tally.get("hits", 0)) if isinstance(tally, Mapping) else 0

"""Where an entry should live among tiers: pure rules, a cost model, and the plan of moves with what each saves.

The rules: hot above a hit rate of 0.8, cold after 30 days without a read at a hit rate below 0.1, and otherwise left
where it is. The cost model instead compares what a month in each tier would cost, at the entry's own rate of reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from agentcache_core.errors import ConfigurationError

DAY: Final = 86_400.0
MONTH: Final = 30 * DAY
GB: Final = 1e9
HALF_LIFE: Final = MONTH


@dataclass(frozen=True, slots=True)
class Access:
    """How an entry has been used: answers served, answers computed, and when it was last read (wall-clock seconds).

    Both counts fade with a half-life of 30 days; `at` is when they were last brought up to date.
    """

    hits: float = 0.0
    computed: float = 0.0
    last_read: float = 0.0
    at: float = 0.0

    @property
    def hit_rate(self) -> float:
        """The share of askings that the cache answered, 0 to 1; 0 when nobody asked."""
        asked = self.hits + self.computed
        return self.hits / asked if asked else 0.0

    def faded(self, now: float) -> Access:
        """The same use, as it counts at `now`."""
        factor = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE)
        return Access(self.hits * factor, self.computed * factor, self.last_read, now)

    def merged(self, other: Access, now: float) -> Access:
        """The use that two observers saw, each a part of it."""
        mine, theirs = self.faded(now), other.faded(now)
        return Access(
            mine.hits + theirs.hits, mine.computed + theirs.computed, max(mine.last_read, theirs.last_read), now
        )

    def reads_per_month(self, now: float) -> float:
        """The rate of reads that the faded count stands for (a steady rate r settles at r * half-life / ln 2)."""
        return self.faded(now).hits * 0.6931471805599453 * MONTH / HALF_LIFE


@dataclass(frozen=True, slots=True)
class Prices:
    """What a tier costs, in US dollars: a gigabyte for a month, a thousand reads and writes, a gigabyte read out."""

    gb_month: float = 0.0
    thousand_reads: float = 0.0
    thousand_writes: float = 0.0
    gb_out: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gb_month", "thousand_reads", "thousand_writes", "gb_out"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"Prices.{name} must be at least 0 US dollars, got {getattr(self, name)!r}")

    def month(self, size: int, reads: float) -> float:
        """What keeping `size` bytes for a month costs when they are read `reads` times."""
        return size / GB * (self.gb_month + reads * self.gb_out) + reads * self.thousand_reads / 1000


LIST_PRICES: Final = {
    "memory": Prices(gb_month=3.0),
    "redis": Prices(gb_month=8.0),
    "sqlite": Prices(gb_month=0.10),
    "file": Prices(gb_month=0.10),
    "s3": Prices(gb_month=0.023, thousand_reads=0.0004, thousand_writes=0.005),
}
"""Round list prices of 2026 by URL scheme, for a plan without prices of one's own. Not a quotation."""


@dataclass(frozen=True, slots=True)
class Place:
    """One tier as placement sees it, hottest first: its prices and the sizes in bytes it takes."""

    name: str
    prices: Prices = Prices()
    min_value: int = 0
    max_value: int | None = None

    def takes(self, size: int) -> bool:
        return size >= self.min_value and (self.max_value is None or size <= self.max_value)

    def copying(self, size: int, target: Place) -> float:
        """What reading `size` bytes here once and writing them to `target` costs."""
        reading = self.prices.thousand_reads / 1000 + size / GB * self.prices.gb_out
        return reading + target.prices.thousand_writes / 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds: hot above `hot` hit rate; cold after `cold_after` seconds without a read, below `cold`."""

    hot: float = 0.8
    cold_after: float = 30 * DAY
    cold: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.cold <= self.hot <= 1:
            raise ConfigurationError(f"0 <= cold <= hot <= 1 must hold, got cold={self.cold!r} and hot={self.hot!r}")
        if not self.cold_after >= 0:
            raise ConfigurationError(f"cold_after must be at least 0 seconds, got {self.cold_after!r}")


@dataclass(frozen=True, slots=True)
class CostModel:
    """Choose the cheapest tier by price; a move must earn its own cost within `horizon` seconds."""

    horizon: float = MONTH


Policy = Rules | CostModel


@dataclass(frozen=True, slots=True)
class Item:
    """An entry that may move. `held` are the indexes of the tiers that have it, hottest first; never empty."""

    name: bytes
    size: int
    held: tuple[int, ...]
    access: Access
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a plan: copy into a hotter tier, or remove from it what a colder one keeps.

    `saves` is in US dollars a month, by the prices given: negative where a copy is paid for to be faster.
    """

    name: bytes
    size: int
    verb: Literal["promote", "demote"]
    source: int
    target: int
    reason: str
    saves: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Every move, and what they save together in US dollars a month."""

    moves: tuple[Move, ...] = ()
    items: int = 0

    @property
    def saves(self) -> float:
        return sum(move.saves for move in self.moves)

    @property
    def bytes_moved(self) -> int:
        return sum(move.size for move in self.moves)


def wanted(item: Item, places: Sequence[Place], policy: Policy, now: float) -> tuple[int, str] | None:
    """The hottest tier that should hold an entry, and why; None = where it is. The coldest always keeps it."""
    fitting = [index for index, place in enumerate(places) if place.takes(item.size) or index == len(places) - 1]
    hottest, access = item.held[0], item.access
    if isinstance(policy, CostModel):
        return _cheapest(item, places, fitting, policy, now)
    if access.hit_rate > policy.hot and access.last_read and fitting[0] < hottest:
        return fitting[0], f"hit rate {access.hit_rate:.2f} above {policy.hot:g}"
    idle = now - max(access.last_read, item.created_at)
    if idle >= policy.cold_after and access.hit_rate < policy.cold and hottest < len(places) - 1:
        since = f"{idle / DAY:.0f} days without a read" if access.last_read else "never read"
        return len(places) - 1, f"{since}, hit rate {access.hit_rate:.2f} below {policy.cold:g}"
    return None


def _cheapest(
    item: Item, places: Sequence[Place], fitting: Sequence[int], model: CostModel, now: float
) -> tuple[int, str] | None:
    reads = item.access.reads_per_month(now)
    hottest = item.held[0]

    def month(hot: int) -> float:
        """A copy in `hot` takes the reads; the coldest keeps the entry in any case."""
        kept = places[-1].prices.month(item.size, 0.0) if hot != len(places) - 1 else 0.0
        return kept + places[hot].prices.month(item.size, reads)

    best = min(fitting, key=month)
    gain = (month(hottest) - month(best)) * model.horizon / MONTH
    once = 0.0 if best in item.held else places[hottest].copying(item.size, places[best])
    if best == hottest or gain <= once:
        return None
    return best, f"{reads:.1f} reads a month cost least in {places[best].name}"


def plan(items: Iterable[Item], places: Sequence[Place], policy: Policy, *, now: float) -> Plan:
    """The moves that bring every entry where it should be. Pure: nothing is read or written."""
    moves: list[Move] = []
    count = 0
    for item in items:
        count += 1
        choice = wanted(item, places, policy, now)
        if choice is not None:
            moves.extend(_moves(item, places, choice[0], choice[1], now))
    return Plan(tuple(moves), count)


def _moves(item: Item, places: Sequence[Place], target: int, reason: str, now: float) -> list[Move]:
    reads = item.access.reads_per_month(now)
    hottest = item.held[0]
    if target < hottest:
        saves = places[hottest].prices.month(item.size, reads) - places[target].prices.month(item.size, reads)
        saves -= places[hottest].prices.month(item.size, 0.0)  # the colder copy stays
        return [Move(item.name, item.size, "promote", hottest, target, reason, saves)]
    moves = []
    for index in item.held:
        if index < target:
            saves = places[index].prices.month(item.size, 0.0)
            if index == hottest:
                saves += places[index].prices.month(item.size, reads) - places[index].prices.month(item.size, 0.0)
                saves -= places[target].prices.month(item.size, reads) - places[target].prices.month(item.size, 0.0)
            moves.append(Move(item.name, item.size, "demote", index, target, reason, saves))
    return moves

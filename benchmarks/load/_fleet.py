"""A simulated vendor and its desktops: what is published when, and who asks for which file when.

Nothing here knows the cache. The numbers are assumptions, written down before the first run; those that rest on
published measurements name them. Sizes are a sixteenth of real ones, which changes no rate.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

PRODUCTS = 40
EDITIONS = 3
"""Every release comes in editions: regions, resellers, hardware revisions."""

FILES = 12
"""Files of an edition: firmware image, drivers for several systems, tools, notes, signatures."""

ALIKE = 0.40
"""Files that an edition shares with the first one, byte for byte."""

COMMON_FILES = 3
"""Of these twelve, those that many products ship alike: chipset drivers, runtimes, licence texts."""

COMMON = 60
"""How many such common files there are."""

UNCHANGED = 0.35
"""Files that a new version takes over unchanged under a new path. With the two above about half of the catalogue's
bytes are duplicates: what such customers say of their own files."""

OLD_VERSIONS = 3
RELEASES_PER_DAY = PRODUCTS / 60
"""Every product has a new version about every two months."""

POPULARITY = 0.8
"""Zipf exponent of the products. Breslau et al. 1999, "Web Caching and Zipf-like Distributions", found 0.64 to 0.83."""

DESKTOPS = 420
PRODUCTS_PER_DESKTOP = 2
JOINED_FIRST_DAY = 0.08
ROLL_OUT_DAYS = 18.0
"""The customer's own roll-out: a few desktops at first, all of them before the month is over."""

UPDATE_DELAY_DAYS = 4.0
"""A desktop fetches a new release some days after it is out (exponential)."""

LOST_COPY_PER_DAY = 0.004
"""A desktop keeps what it fetched and never asks again, unless it is reinstalled or its own cache was emptied."""

ONE_OFF = 0.10
"""Of all reads, those of files that hardly anybody wants again: archivists, support, crawlers; any path, evenly.
Maggs and Sitaraman 2015 ("Algorithmic Nuggets in Content Delivery") found 3/4 of a CDN's objects read once."""

DAY = 86_400.0


def path_of(product: int, edition: int, *, version: int, number: int) -> str:
    """Where a file lies."""
    return f"products/{product}/edition{edition}/v{version}/part{number}.bin"


@dataclass(slots=True)
class Catalogue:
    """Files by path: what each holds. Equal content has equal numbers, however often and under which name it lies."""

    rng: random.Random
    content: dict[str, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)

    def publish(self, product: int) -> None:
        """The next version of a product, in every edition."""
        version = self.versions.get(product, 0) + 1
        self.versions[product] = version
        for edition in range(EDITIONS):
            for number in range(FILES):
                path = path_of(product, edition, version=version, number=number)
                self.content[path] = self._content_of(product, edition, version, number)

    def _content_of(self, product: int, edition: int, version: int, number: int) -> int:
        if edition and self.rng.random() < ALIKE:
            return self.content[path_of(product, 0, version=version, number=number)]
        before = self.content.get(path_of(product, edition, version=version - 1, number=number))
        if before is not None and self.rng.random() < UNCHANGED:
            return before
        if number < COMMON_FILES:
            return self._sized(self.rng.randrange(COMMON))
        return self._sized(COMMON + len(self.sizes) + len(self.content))

    def _sized(self, number: int) -> int:
        """A content with its size: log-normal, median 27 KB, at most 1 MB."""
        if number not in self.sizes:
            self.sizes[number] = int(min(1_000_000, random.Random(number).lognormvariate(10.2, 1.1)))
        return number

    def latest(self, product: int, edition: int) -> list[str]:
        """The paths of a product's newest version in one edition."""
        version = self.versions[product]
        return [path_of(product, edition, version=version, number=number) for number in range(FILES)]

    def body(self, path: str) -> bytes:
        """The bytes of a file."""
        content = self.content[path]
        return random.Random(content).randbytes(self.sizes[content])


@dataclass(order=True, slots=True)
class _Event:
    at: float
    serial: int
    what: str = field(compare=False)
    about: int = field(compare=False)


class Fleet:
    """The desktops of a customer over a month: an iterator of (seconds since the start, path)."""

    def __init__(self, *, seed: int = 7, desktops: int = DESKTOPS, days: int = 30) -> None:
        self._rng = random.Random(seed)
        self._days = days
        self._desktops = desktops
        self.catalogue = Catalogue(self._rng)
        for _ in range(OLD_VERSIONS):
            for product in range(PRODUCTS):
                self.catalogue.publish(product)
        weights = [1 / (rank + 1) ** POPULARITY for rank in range(PRODUCTS)]
        self._owned = [
            {product: self._rng.randrange(EDITIONS) for product in self._choose(weights)} for _ in range(desktops)
        ]
        self._has: list[set[str]] = [set() for _ in range(desktops)]
        self._queue: list[_Event] = []
        self._serial = 0

    def _choose(self, weights: list[float]) -> list[int]:
        return self._rng.choices(range(PRODUCTS), weights, k=PRODUCTS_PER_DESKTOP)

    def reads(self) -> Iterator[tuple[float, str]]:
        """Every read of the month in the order of time."""
        self._plan_month()
        while self._queue:
            event = heapq.heappop(self._queue)
            if event.at >= self._days * DAY:
                return
            if event.what == "release":
                self.catalogue.publish(event.about)
                for desktop in (number for number, owned in enumerate(self._owned) if event.about in owned):
                    self._plan(event.at + self._rng.expovariate(1 / (UPDATE_DELAY_DAYS * DAY)), "update", desktop)
                continue
            if event.what == "lost":
                self._has[event.about].clear()
            yield from self._fetch(event.at, event.about)

    def _plan(self, at: float, what: str, about: int) -> None:
        self._serial += 1
        heapq.heappush(self._queue, _Event(at, self._serial, what, about))

    def _plan_month(self) -> None:
        self._joined = [0.0] * self._desktops
        for desktop in range(self._desktops):
            early = desktop < self._desktops * JOINED_FIRST_DAY
            self._joined[desktop] = self._office_hour(0 if early else self._rng.uniform(0.5, ROLL_OUT_DAYS))
            self._plan(self._joined[desktop], "join", desktop)
            at = self._joined[desktop]
            while (at := at + self._rng.expovariate(LOST_COPY_PER_DAY / DAY)) < self._days * DAY:
                self._plan(at, "lost", desktop)
        at = 0.0
        while (at := at + self._rng.expovariate(RELEASES_PER_DAY / DAY)) < self._days * DAY:
            self._plan(at, "release", self._rng.randrange(PRODUCTS))

    def _office_hour(self, day: float) -> float:
        return (int(day) + self._rng.uniform(8, 18) / 24) * DAY

    def _fetch(self, at: float, desktop: int) -> Iterator[tuple[float, str]]:
        """What a desktop asks for now: files of its products' newest versions that it does not hold."""
        if at < self._joined[desktop]:
            return
        for product, edition in sorted(self._owned[desktop].items()):
            for path in self.catalogue.latest(product, edition):
                if path in self._has[desktop]:
                    continue
                self._has[desktop].add(path)
                yield at, path
                if self._rng.random() < ONE_OFF / (1 - ONE_OFF):
                    yield at, self._rng.choice(list(self.catalogue.content))

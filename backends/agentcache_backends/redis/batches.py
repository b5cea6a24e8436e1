"""The verbs of many names on a cluster: which parts they fall into, and their answers in the order asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from agentcache_backends.redis.asks import Asks
from agentcache_backends.redis.cluster import Part, part_of
from agentcache_backends.redis.layout import Keys, tagged
from agentcache_backends.redis.slots import SLOTS, Node, Standing, bits, changed, on_their_way, slot_of
from agentcache_core.backend import Put, Stat, Version
from agentcache_core.errors import BackendUnavailable

_ROUNDS: Final = 8


class Gets:
    """Many gets: one MGET a slot, each name by itself where a slot is on its way."""

    def __init__(self, asks: Asks, keys: Keys, names: Sequence[bytes]) -> None:
        self._count = len(names)
        places: dict[int, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(slot_of(keys.value + tagged(name)), []).append(place)
        self._places = list(places.values())
        self.parts = [_gets(asks, [names[place] for place in each]) for each in self._places]

    def values(self) -> list[bytes | None]:
        """The values as Redis has them, in the order asked."""
        found: list[bytes | None] = [None] * self._count
        for places, part in zip(self._places, self.parts, strict=True):
            values = (value for answer in part.answers() for value in answer)
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found


def _gets(asks: Asks, names: Sequence[bytes]) -> Part[list[bytes | None]]:
    if len(names) == 1:
        return part_of(asks.raw_many(names))
    return part_of(asks.raw_many(names), pieces=lambda: [part_of(asks.raw_many([name])) for name in names])


def puts(asks: Asks, batch: Sequence[Put]) -> list[Part[Version | None]]:
    """A part for each put."""
    return [part_of(asks.put(put)) for put in batch]


def deletes(asks: Asks, names: Sequence[bytes]) -> list[Part[bool]]:
    """A part for each name to delete."""
    return [part_of(asks.delete(name, None)) for name in names]


def touches(asks: Asks, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[Part[bool]]:
    """A part for each name to keep alive."""
    return [part_of(asks.touch(name, until)) for name, until in zip(names, expires_at, strict=True)]


def looks(asks: Asks, keys: Sequence[bytes]) -> list[Part[list[Stat]]]:
    """A part for each value key that is to be told about."""
    return [part_of(asks.stats([key])) for key in keys]


class Walk:
    """A walk over the names with a prefix, node by node, in rounds until no name can have been overlooked.

    A key that goes from a node not asked yet to one that was asked already is met on neither. A round is sure of the
    slots that stayed where they are; two rounds are sure of those that were on their way from one node to another all
    the time, since then the one was asked before the other. In a resharding, where a slot moves once, that takes two or
    three rounds.
    """

    def __init__(self, keys: Keys, prefix: bytes, shown: str) -> None:
        head, slash, _ = prefix.partition(b"/")
        self.slot = slot_of(keys.value + tagged(prefix)) if head and slash else None
        """The one slot of all these names, if they have one."""
        self._shown = shown
        self._doubt = bits(0, SLOTS - 1) if self.slot is None else bits(self.slot)
        self._seen: set[bytes] = set()
        self._before: Mapping[Node, Standing] | None = None
        self._rounds = 0

    def new(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of some keys that were not met before; SCAN may answer a key twice."""
        new = [key for key in dict.fromkeys(keys) if key not in self._seen]
        self._seen.update(new)
        return new

    def done(self, before: Mapping[Node, Standing], after: Mapping[Node, Standing]) -> bool:
        """Whether this was the last round, from what the nodes said of themselves before and after it. Raises
        `BackendUnavailable` when some slots do not come to rest."""
        unsure = changed(before, after) | on_their_way(before)
        if self._before is not None:
            unsure &= changed(self._before, after)
        self._before = before
        self._doubt &= unsure
        self._rounds += 1
        if self._doubt and self._rounds == _ROUNDS:
            raise BackendUnavailable(f"Redis at {self._shown}: its slots kept moving while names were listed")
        return not self._doubt

"""The verbs of many names on a cluster: which parts they fall into, and their answers in the order asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentcache_backends.redis.asks import Asks
from agentcache_backends.redis.cluster import Part, part_of
from agentcache_backends.redis.layout import Keys, tagged
from agentcache_backends.redis.slots import Node, Standing, slot_of
from agentcache_core.backend import Put, Stat, Stored, Version
from agentcache_core.model import MISSING, Missing

PASSES: Final = 3


class Gets:
    """Many gets: one MGET a slot, each name by itself where a slot is on its way."""

    def __init__(self, asks: Asks, keys: Keys, names: Sequence[bytes]) -> None:
        self._count = len(names)
        places: dict[int, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(slot_of(keys.value + tagged(name)), []).append(place)
        self._places = list(places.values())
        self.parts = [_gets(asks, [names[place] for place in each]) for each in self._places]

    def answers(self) -> list[Stored | Missing]:
        """What was found, in the order asked."""
        found: list[Stored | Missing] = [MISSING] * self._count
        for places, part in zip(self._places, self.parts, strict=True):
            stored = (each for answer in part.answers() for each in answer)
            for place, each in zip(places, stored, strict=True):
                found[place] = each
        return found


def _gets(asks: Asks, names: Sequence[bytes]) -> Part[list[Stored | Missing]]:
    if len(names) == 1:
        return part_of(asks.get_many(names))
    return part_of(asks.get_many(names), pieces=lambda: [part_of(asks.get_many([name])) for name in names])


def puts(asks: Asks, batch: Sequence[Put]) -> list[Part[Version | None]]:
    """A part for each put."""
    return [part_of(asks.put(put)) for put in batch]


def deletes(asks: Asks, names: Sequence[bytes]) -> list[Part[bool]]:
    """A part for each name to delete."""
    return [part_of(asks.delete(name, None)) for name in names]


def looks(asks: Asks, keys: Sequence[bytes]) -> list[Part[list[Stat]]]:
    """A part for each value key that is to be told about."""
    return [part_of(asks.stats([key])) for key in keys]


def slot_of_prefix(keys: Keys, prefix: bytes) -> int | None:
    """The one slot that all names with a prefix lie in; None when they may lie in any."""
    head, slash, _ = prefix.partition(b"/")
    return slot_of(keys.value + tagged(prefix)) if head and slash else None


def settled(before: dict[Node, Standing], after: dict[Node, Standing]) -> bool:
    """Whether nothing moved between two looks at the nodes, so that a walk over them in between has met every name.

    Names on the way from a node that is yet to be asked to one that was asked are met by neither; a second walk
    meets them, since they come to rest.
    """
    return before == after and not any(standing.moving for standing in before.values())

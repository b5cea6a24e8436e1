"""Which node of a cluster holds which key, as the cluster itself tells it. Nothing here does input or output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from agentcache_core.errors import BackendUnavailable

SLOTS: Final = REDIS_CLUSTER_HASH_SLOTS
slot_of = key_slot  # the slot of a key: CRC-16 of its hash tag, or of the whole key where there is none


class Node(NamedTuple):
    """Where a node of a cluster listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Topology:
    """Who is the primary of each slot. It is never changed, only replaced, so that threads may share it."""

    __slots__ = ("owners", "primaries")

    def __init__(self, owners: list[Node | None], primaries: tuple[Node, ...]) -> None:
        self.owners, self.primaries = owners, primaries

    @property
    def complete(self) -> bool:
        """Whether every slot has a primary."""
        return None not in self.owners

    def moved(self, slot: int, node: Node) -> Topology:
        """The same with one slot on another node, as a node has told."""
        owners = self.owners.copy()
        owners[slot] = node
        return Topology(owners, self.primaries if node in self.primaries else (*self.primaries, node))


NOWHERE: Final = Topology([None] * SLOTS, ())


def topology_of(reply: Any, asked: Node) -> Topology:
    """The topology in the reply to `CLUSTER SLOTS`. A node that does not know its own name is the one that was asked.
    Raises `ValueError` for what is no such reply."""
    owners: list[Node | None] = [None] * SLOTS
    primaries: dict[Node, None] = {}
    try:
        for first, last, primary, *_ in reply:
            if not 0 <= first <= last < SLOTS:
                raise ValueError("slots outside the range of slots")
            host = (primary[0] or b"").decode()
            node = Node(host if host not in ("", "?") else asked.host, int(primary[1]))
            primaries[node] = None
            owners[first : last + 1] = [node] * (last - first + 1)
    except (TypeError, IndexError, AttributeError) as error:
        raise ValueError("not a reply to CLUSTER SLOTS") from error
    return Topology(owners, tuple(primaries))


class Redirect(NamedTuple):
    """A node's word that another one is to be asked: from now on (MOVED), or this once (ASK)."""

    kind: Literal["MOVED", "ASK"]
    slot: int
    node: Node


def redirect_of(text: str, asked: Node) -> Redirect | None:
    """The redirection in the text of an error, such as `MOVED 3999 127.0.0.1:6381`."""
    words = text.split()
    if len(words) < 3 or words[0] not in ("MOVED", "ASK") or not words[1].isdecimal():
        return None
    host, _, port = words[2].rpartition(":")
    if not port.isdecimal() or int(words[1]) >= SLOTS:
        return None
    return Redirect("MOVED" if words[0] == "MOVED" else "ASK", int(words[1]), Node(host or asked.host, int(port)))


class Standing(NamedTuple):
    """What a node says of itself: whether it is a primary, which slots it owns and which are on their way to or from
    it (one bit a slot), and the nodes to which some are. Those may own no slots yet, so that nobody calls them
    primaries."""

    primary: bool
    owned: int
    moving: int
    targets: tuple[Node, ...] = ()


_NOTHING: Final = Standing(True, 0, 0)


def standing_of(reply: Any) -> Standing:
    """A node's own line in its reply to `CLUSTER NODES`: id, address, flags, primary, ping, pong, epoch, link, and its
    slots, of which `[93-<-id]` and `[93->-id]` are on their way. Raises `BackendUnavailable` for any other reply."""
    lines = reply.decode(errors="replace").splitlines() if isinstance(reply, bytes) else []
    nodes = {fields[0]: fields for fields in map(str.split, lines) if len(fields) >= 8}
    own = next((fields for fields in nodes.values() if "myself" in fields[2]), None)
    if own is None:
        raise BackendUnavailable("what answered CLUSTER NODES is no node of a cluster")
    owned = moving = 0
    targets: dict[Node, None] = {}
    for field in own[8:]:
        if not field.startswith("["):
            first, _, last = field.partition("-")
            owned |= bits(int(first), int(last or first))
            continue
        slot, _, whom = field[1:-1].partition("-")
        moving |= bits(int(slot))
        if whom.startswith(">-") and whom[2:] in nodes:
            targets[_address(nodes[whom[2:]][1])] = None
    return Standing("master" in own[2].split(","), owned, moving, tuple(targets))


def _address(field: str) -> Node:
    """`10.0.0.7:7000@17000,name`, of which the last two are not there for every version."""
    host, _, port = field.partition("@")[0].rpartition(":")
    return Node(host, int(port) if port.isdecimal() else 0)


def bits(first: int, last: int = -1) -> int:
    """A set of slots as a number: the bits from `first` to `last` (left out: that one)."""
    return ((1 << (max(first, last) - first + 1)) - 1) << first


def changed(before: Mapping[Node, Standing], after: Mapping[Node, Standing]) -> int:
    """The slots that changed their owner between two looks at the nodes, or began or ceased to be on their way."""
    slots = 0
    for node in before.keys() | after.keys():
        was, now = before.get(node, _NOTHING), after.get(node, _NOTHING)
        slots |= (was.owned ^ now.owned) | (was.moving ^ now.moving)
    return slots


def on_their_way(standings: Mapping[Node, Standing]) -> int:
    """The slots that are being moved."""
    slots = 0
    for standing in standings.values():
        slots |= standing.moving
    return slots

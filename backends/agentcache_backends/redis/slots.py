"""Which node of a cluster holds which key, as the cluster itself tells it. Nothing here does input or output."""

from __future__ import annotations

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
    """What a node says of itself: whether it is a primary, which slots it has, whether one is on its way."""

    primary: bool
    slots: str
    moving: bool


def standing_of(reply: Any) -> Standing:
    """A node's own line in its reply to `CLUSTER NODES`: id, address, flags, primary, ping, pong, epoch, link, and its
    slots, of which `[93-<-id]` and `[93->-id]` are on their way. Raises `BackendUnavailable` for any other reply."""
    if isinstance(reply, bytes):
        for line in reply.decode(errors="replace").splitlines():
            fields = line.split()
            if len(fields) >= 8 and "myself" in fields[2]:
                slots = " ".join(fields[8:])
                return Standing("master" in fields[2].split(","), slots, "[" in slots)
    raise BackendUnavailable("what answered CLUSTER NODES is no node of a cluster")

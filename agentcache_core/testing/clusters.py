"""A real Redis cluster for tests and measurements, on free ports of 127.0.0.1, made as an operator would make it."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Self

from agentcache_core.testing.servers import RedisServer, ServerFailed

SLOTS = 16_384
_BUS = 10_000  # a node talks to the others on its port plus this
_PATIENCE = 60.0


class ClusterNode(RedisServer):
    """One node of a cluster, with an empty memory and a configuration of its own in its folder."""

    def __init__(self, *options: str, program: str = "", node_timeout: float = 2.0) -> None:
        super().__init__(*options, program=program)
        self._node_timeout = int(node_timeout * 1000)

    def command(self) -> Sequence[str]:
        cluster = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
        timeout = ("--cluster-node-timeout", str(self._node_timeout))
        return (*super().command(), *cluster, *timeout, "--cluster-announce-ip", "127.0.0.1")

    def free_port(self) -> int:
        return free_pair()

    @property
    def id(self) -> str:
        """The name it has in the cluster."""
        return _bulk(self.ask("CLUSTER", "MYID"))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def meeting_port(self) -> int:
        """The port by which other nodes know it."""
        return self.port

    def is_primary(self) -> bool:
        return "master" in self.ask("ROLE")

    def epochs(self) -> dict[str, int]:
        """The epoch that it knows of every node, by the node's name; of a replica, its primary's."""
        nodes = [line.split() for line in _bulk(self.ask("CLUSTER", "NODES")).splitlines()]
        return {fields[0]: int(fields[6]) for fields in nodes}

    def slots(self) -> list[int]:
        """The slots it says are its own."""
        for line in _bulk(self.ask("CLUSTER", "NODES")).splitlines():
            fields = line.split()
            if "myself" in fields[2]:
                return [slot for field in fields[8:] if not field.startswith("[") for slot in _range(field)]
        raise ServerFailed(f"{self.address} does not know itself")


class RedisCluster:
    """A cluster of `primaries` nodes that share the slots evenly, each with `replicas` copies; a context manager.

    `nodes` holds the primaries first. `node_timeout` is how long, in seconds, a silent node is trusted; a replica takes
    over soon after. Raises `ServerFailed` when a node cannot be started or they do not find together.
    """

    def __init__(
        self, primaries: int = 3, replicas: int = 0, *options: str, program: str = "", node_timeout: float = 2.0
    ) -> None:
        made = primaries * (1 + replicas)
        self.nodes = [ClusterNode(*options, program=program, node_timeout=node_timeout) for _ in range(made)]
        self._primaries = primaries

    @property
    def url(self) -> str:
        """Its URL, naming two of its nodes."""
        return f"redis+cluster://{','.join(node.address for node in self.nodes[:2])}/"

    def start(self) -> Self:
        """Start the nodes and make them one cluster. Answers when every node serves every slot."""
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            stack.pop_all()
        return self

    def _join(self) -> None:
        first, primaries = self.nodes[0], self.nodes[: self._primaries]
        bounds = [SLOTS * number // self._primaries for number in range(self._primaries + 1)]
        for number, node in enumerate(self.nodes):
            _ok(node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1)))
        for node, low, high in zip(primaries, bounds[:-1], bounds[1:], strict=True):
            _ok(node.ask("CLUSTER", "ADDSLOTS", *map(str, range(low, high))))
        for node in self.nodes[1:]:
            _ok(first.ask("CLUSTER", "MEET", "127.0.0.1", str(node.meeting_port)))
        self.until(lambda: all(self._known(node) == len(self.nodes) for node in self.nodes), "to meet")
        for number, node in enumerate(self.nodes[self._primaries :]):
            _ok(node.ask("CLUSTER", "REPLICATE", primaries[number % self._primaries].id))
        self.until(self.is_whole, "to agree on the slots")
        self.until(self.is_linked, "to copy their primaries")

    def _known(self, node: ClusterNode) -> int:
        return len(_bulk(node.ask("CLUSTER", "NODES")).splitlines())

    def is_whole(self) -> bool:
        """Whether every node that runs knows all nodes, and an owner of each slot."""
        return all(self._sees_all(node) for node in self.nodes if node.running)

    def is_linked(self) -> bool:
        """Whether every replica that runs follows its primary."""
        return all(node.is_primary() or _linked(node) for node in self.nodes if node.running)

    def is_agreed(self) -> bool:
        """Whether all primaries that run have epochs of their own, and every node that runs knows them."""
        running = [node for node in self.nodes if node.running]
        ids = {node.id for node in running if node.is_primary()}
        told = [{name: epoch for name, epoch in node.epochs().items() if name in ids} for node in running]
        return len(set(told[0].values())) == len(ids) and all(view == told[0] for view in told)

    def _sees_all(self, node: ClusterNode) -> bool:
        told, links = _bulk(node.ask("CLUSTER", "INFO")), _bulk(node.ask("CLUSTER", "NODES"))
        wanted = ("cluster_state:ok", f"cluster_slots_ok:{SLOTS}", f"cluster_known_nodes:{len(self.nodes)}")
        return all(word in told for word in wanted) and "handshake" not in links

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait until something holds of the cluster. Raises `ServerFailed` after a minute."""
        until = time.monotonic() + _PATIENCE
        while not holds():
            if time.monotonic() > until:
                logs = "\n".join(f"{node.address}:\n{node.log()[-1500:]}" for node in self.nodes)
                raise ServerFailed(f"the nodes of a cluster had no time {what}; they wrote:\n{logs}")
            time.sleep(0.02)

    def owner(self, slot: int) -> ClusterNode:
        """The running primary that says a slot is its own."""
        for node in self.nodes:
            if node.running and node.is_primary() and slot in node.slots():
                return node
        raise ServerFailed(f"no node says that slot {slot} is its own")

    def hand_over(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """Say that a slot is another primary's now, as the last step of moving it.

        The target takes it under an epoch above all that it knows. If the source had a later one, of a slot it took a
        moment ago, the next greeting of the source would win the slot back and cost it its keys: so that all know all
        epochs is waited for.
        """
        self.until(self.is_agreed, "to learn each other's epochs")
        for node in (target, source, *(node for node in self.nodes if node.running and node.is_primary())):
            _ok(node.ask("CLUSTER", "SETSLOT", str(slot), "NODE", target.id))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_pair() -> int:
    """A port of 127.0.0.1 that nobody listens on, nor on the one that a node's bus takes beside it. Both lie below
    the ports that systems give to those who ask for any."""
    for _ in range(200):
        port = random.randrange(11_000, 21_000)  # noqa: S311 - no secret
        try:
            with socket.socket() as one, socket.socket() as other:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + _BUS))
        except OSError:
            continue
        return port
    raise ServerFailed("found no two free ports for a node of a cluster")


def _linked(replica: ClusterNode) -> bool:
    return "connected" in replica.ask("ROLE")


def _range(field: str) -> Iterator[int]:
    low, _, high = field.partition("-")
    return iter(range(int(low), int(high or low) + 1))


def _ok(reply: str) -> None:
    if not reply.startswith("+OK"):
        raise ServerFailed(f"a node of a cluster answered {reply!r}")


def _bulk(reply: str) -> str:
    if not reply.startswith("$"):
        raise ServerFailed(f"a node of a cluster answered {reply!r}")
    return reply.partition("\r\n")[2].removesuffix("\r\n")

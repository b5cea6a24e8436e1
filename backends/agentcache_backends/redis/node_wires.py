"""The blocking connections of one thread to the nodes of a cluster: one a node, opened when first needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import redis.exceptions as theirs
from hiredis import ProtocolError

from agentcache_backends.redis.cluster import Errand, Outcome, Trouble
from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.slots import NOWHERE, Node, Topology
from agentcache_backends.redis.trouble import NOT_REDIS
from agentcache_backends.redis.wire import _NOTHING, Wire

_SHORTEST: Final = 0.001
_TROUBLES: Final = (theirs.RedisError, OSError)


class NodeWire(Wire):
    """A connection to one node that can be written to now and read from later, so that several work at once."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._timeout, self._connect_timeout = settings.timeout, settings.connect_timeout

    def send(self, packed: bytes, until: float | None, *, careful: bool) -> None:
        """Send some packed commands; the replies are to be read with `receive`. `careful` looks first whether the
        other side has hung up. Trouble is raised as by `Wire` and closes it."""
        if careful and self.is_open and self._is_dead():
            self.close()
        if not self.is_open:
            connection = self._connection
            connection.socket_timeout = _within(self._timeout, until)
            connection.socket_connect_timeout = _within(self._connect_timeout, until)
            try:
                self._open()
            finally:  # `quick` opens it with the usual timeouts
                connection.socket_timeout, connection.socket_connect_timeout = self._timeout, self._connect_timeout
        try:
            self._socket.settimeout(_within(self._timeout, until))
            self._socket.sendall(packed)
        except BaseException:
            self.close()
            raise

    def receive(self, count: int, until: float | None) -> list[Any]:
        """The next replies, answered errors among them. Trouble is raised as by `Wire` and closes it."""
        replies: list[Any] = []
        reader = self._reader
        try:
            while len(replies) < count:
                while (reply := reader.gets(False)) is _NOTHING:
                    self._socket.settimeout(_within(self._timeout, until))
                    size = self._socket.recv_into(self._buffer)
                    if not size:
                        raise theirs.ConnectionError("Redis closed the connection")
                    reader.feed(self._buffer, 0, size)
                replies.append(reply)
            self._socket.settimeout(self._timeout)
        except ProtocolError as error:
            self.close()
            raise theirs.ConnectionError(NOT_REDIS) from error
        except BaseException:
            self.close()
            raise
        return replies

    @property
    def is_open(self) -> bool:
        return self._socket is not None


def _within(timeout: float, until: float | None) -> float:
    return timeout if until is None else max(_SHORTEST, min(timeout, until - time.monotonic()))


class NodeWires:
    """One thread's connections, and the `Ways` of the blocking face: nothing awaited in it ever suspends."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wires: dict[Node, NodeWire] = {}
        self._topology: Topology = NOWHERE

    def quick(self, node: Node, packed: bytes) -> Any:
        """The reply to one packed command, as `Wire.quick`. Raises `KeyError` when that node was not met before."""
        return self._wires[node].quick(packed)

    async def exchange(self, errands: Sequence[Errand], until: float | None) -> list[Outcome]:
        """All is sent before anything is read, so that the nodes work at the same time."""
        try:
            begun = [self._sent(errand, until) for errand in errands]
            return [self._read(errand, start, until) for errand, start in zip(errands, begun, strict=True)]
        except BaseException:
            self.close()  # a reply may still be under way, and would be taken for the next one's
            raise

    def _sent(self, errand: Errand, until: float | None) -> bool | Trouble:
        """Whether the connection was open before; or what went wrong."""
        wire = self._wires.get(errand.node)
        if wire is None:
            wire = self._wires[errand.node] = NodeWire(self._settings.at(errand.node))
        was_open = wire.is_open
        try:
            wire.send(errand.packed, until, careful=not errand.again)
        except _TROUBLES as error:
            return Trouble(error, sent=was_open, was_open=was_open)
        return was_open

    def _read(self, errand: Errand, begun: bool | Trouble, until: float | None) -> Outcome:
        if isinstance(begun, Trouble):
            return begun
        try:
            return self._wires[errand.node].receive(errand.replies, until)
        except _TROUBLES as error:
            return Trouble(error, sent=True, was_open=begun)

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - the blocking face drives this by hand

    def follow(self, topology: Topology) -> None:
        """Close the connections to nodes that are no longer part of the cluster."""
        if topology is not self._topology:
            self._topology = topology
            for node in [node for node in self._wires if node not in topology.primaries]:
                self._wires.pop(node).close()

    def close(self) -> None:
        for wire in list(self._wires.values()):
            wire.close()


class SharedNodeWires(NodeWires):
    """Connections that several threads take turns on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._turn = threading.RLock()
        self._patience = settings.timeout + settings.connect_timeout

    def quick(self, node: Node, packed: bytes) -> Any:
        if not self._turn.acquire(timeout=self._patience):
            raise theirs.TimeoutError("the shared connections were busy")
        try:
            return super().quick(node, packed)
        finally:
            self._turn.release()

    async def exchange(self, errands: Sequence[Errand], until: float | None) -> list[Outcome]:
        patience = self._patience if until is None else max(_SHORTEST, until - time.monotonic())
        if not self._turn.acquire(timeout=patience):
            raise theirs.TimeoutError("the shared connections were busy")
        try:
            return await super().exchange(errands, until)
        finally:
            self._turn.release()

    def follow(self, topology: Topology) -> None:
        if topology is not self._topology and self._turn.acquire(blocking=False):
            try:
                super().follow(topology)
            finally:
                self._turn.release()

"""The blocking backend for a cluster of Redis or Valkey: one connection held per thread and node."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

import redis.exceptions as theirs
from hiredis import pack_command

from agentcache_backends.redis import batches
from agentcache_backends.redis.asks import Ask
from agentcache_backends.redis.cluster import Cluster, Part, part_of
from agentcache_backends.redis.layout import tagged, unpacked
from agentcache_backends.redis.node_wires import NodeWires, SharedNodeWires
from agentcache_backends.redis.settings import Settings
from agentcache_backends.redis.slots import Node, slot_of
from agentcache_backends.redis.store import RedisBackend
from agentcache_backends.redis.trouble import ours
from agentcache_core.backend import Put, Stat, Stored, Version
from agentcache_core.clock import SYSTEM_CLOCK, Clock
from agentcache_core.errors import BackendClosed, BackendError
from agentcache_core.model import Missing
from agentcache_core.runtime import drive

T = TypeVar("T")
_NOT_QUICK: Final = object()


class RedisClusterBackend(RedisBackend):
    """A shared backend in a cluster of Redis (6.2 or newer) or Valkey. Opening it does not connect.

    Only primaries are asked, also for reading. Each thread holds a connection to each node it has met, up to
    `max_connections` threads; further threads share one set. A call takes at most `connect_timeout` plus `timeout`,
    also while slots move or a replica takes over: then it is led to the new place, or raises `BackendUnavailable`.
    """

    _own_kind = NodeWires
    _shared_kind = SharedNodeWires
    within: Any = None  # its calls go to several connections: the engine watches one that must be quicker than usual

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(settings, clock=clock)
        self._cluster = Cluster(settings)

    def _perform(self, ask: Ask[T]) -> T:
        part = part_of(ask)
        self._carry([part])
        return cast("T", part.answer)

    def _carry(self, parts: Sequence[Part[Any]]) -> None:
        """Bring the parts their answers."""
        wires: NodeWires = self._wire()
        self._led(self._cluster.perform(parts, wires))
        wires.follow(self._cluster.topology)

    def _led(self, way: Coroutine[Any, Any, T]) -> T:
        """Go a way through the cluster; what goes wrong on it becomes ours."""
        try:
            return drive(way)
        except BackendError as error:
            if self._closed:
                raise BackendClosed(f"the Redis backend {self._settings.shown} was closed") from error
            raise
        except (theirs.RedisError, OSError) as error:
            raise ours(error, self._settings.shown) from error

    def get(self, name: bytes) -> Stored | Missing:
        key = self._keys.value + tagged(name)
        raw = self._quick(key, (b"GET", key))
        return self._perform(self._asks.get(name)) if raw is _NOT_QUICK else unpacked(raw, self._now())

    def _raw_many(self, names: Sequence[bytes]) -> list[bytes | None]:
        head = names[0][: names[0].find(b"/") + 1]
        if len(head) > 1 and all(name.startswith(head) for name in names):  # as an entry and its generation do
            keys = [self._keys.value + tagged(name) for name in names]
            raws: Any = self._quick(keys[0], (b"MGET", *keys))
            if raws is not _NOT_QUICK:
                return cast("list[bytes | None]", raws)
        gets = batches.Gets(self._asks, self._keys, names)
        self._carry(gets.parts)
        return gets.values()

    def _quick(self, key: bytes, command: tuple[Any, ...]) -> Any:
        """The reply to a read of the slot that a key lies in, on the shortest way; or that it takes the longer one,
        because the node was not met yet, has closed the connection, or leads on to another."""
        cluster = self._cluster
        if cluster.doubtful:
            return _NOT_QUICK
        node: Any = cluster.topology.owners[slot_of(key)]
        try:
            return self._local.wire.quick(node, pack_command(command))
        except (theirs.TimeoutError, TimeoutError) as error:
            raise cluster.silent(error, node) from error
        except (AttributeError, KeyError, theirs.RedisError, OSError):
            return _NOT_QUICK

    def put_many(self, puts: Sequence[Put]) -> list[Version | None]:
        parts = batches.puts(self._asks, puts)
        self._carry(parts)
        return [part.answer for part in parts]

    def delete_many(self, names: Sequence[bytes]) -> list[bool]:
        parts = batches.deletes(self._asks, names)
        self._carry(parts)
        return [part.answer is True for part in parts]

    def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> list[bool]:
        parts = batches.touches(self._asks, names, expires_at)
        self._carry(parts)
        return [part.answer is True for part in parts]

    def scan(self, prefix: bytes, *, after: bytes = b"") -> Iterator[Stat]:
        walk, done = batches.Walk(self._keys, prefix, self._settings.shown), False
        while not done:
            before = self._led(self._cluster.standings(walk.slot, self._wire()))
            for node in before:
                for keys in self._pages(node, prefix):
                    looks = batches.looks(self._asks, walk.new(keys))
                    self._carry(looks)
                    yield from (stat for look in looks for stat in look.answer or () if stat.name > after)
            done = walk.done(before, self._led(self._cluster.standings(walk.slot, self._wire())))

    def _pages(self, node: Node, prefix: bytes) -> Iterator[list[bytes]]:
        cursor = b"0"
        while True:
            page = Part(self._asks.page(prefix, cursor), -1, node)
            self._carry([page])
            cursor, keys = cast("tuple[bytes, list[bytes]]", page.answer)
            yield keys
            if cursor == b"0":
                return

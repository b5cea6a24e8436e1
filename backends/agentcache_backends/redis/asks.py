"""Every verb as one round trip to Redis, without doing any input or output: what to send, and what the replies mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from os import urandom
from struct import Struct
from typing import Any, Final, Generic, NamedTuple, TypeVar
from zlib import crc32

from hiredis import pack_command

from agentcache_backends.redis import scripts
from agentcache_backends.redis.layout import (
    DOUBLE,
    HEADER,
    HEADER_SIZE,
    MAGIC,
    Keys,
    milliseconds,
    packed,
    tagged,
    unpacked,
    unpacked_all,
)
from agentcache_core.backend import Event, Grant, Put, Stat, Stored, Version
from agentcache_core.model import MISSING, Missing

T = TypeVar("T")
_POSITION: Final = Struct(">IQQ4s")
_SCAN_COUNT: Final = 512
_FENCE_REMEMBERED: Final = 86_400_000


class Ask(NamedTuple, Generic[T]):
    """One round trip: the packed commands, how many replies they bring, what the replies mean. `again` says that
    sending it twice does no harm, so that it may be repeated on a new connection when the old one had died; `key` is
    the first key it is about, by which a cluster finds the node; `each` are the commands one by one."""

    packed: bytes
    replies: int
    parse: Callable[[list[Any]], T]
    again: bool = False
    key: bytes = b""
    each: Sequence[bytes] = ()


Command = tuple[Any, ...]  # bytes, str and int, as `pack_command` takes them


def ask(commands: Iterable[Command], parse: Callable[[list[Any]], T], *, again: bool = False) -> Ask[T]:
    """An ask of some commands."""
    listed = list(commands)
    each = [pack_command(command) for command in listed]
    first = listed[0]
    return Ask(b"".join(each), len(each), parse, again, first[3] if first[0] == b"EVAL" else first[1], each)


class Asks:
    """The verbs of the seam for one set of keys and one clock."""

    def __init__(self, keys: Keys, now: Callable[[], float], log_length: int) -> None:
        self._keys, self._now, self._log_length = keys, now, log_length

    def get(self, name: bytes) -> Ask[Stored | Missing]:
        return ask([(b"GET", self._value(name))], lambda replies: unpacked(replies[0], self._now()), again=True)

    def get_many(self, names: Sequence[bytes]) -> Ask[list[Stored | Missing]]:
        command = (b"MGET", *map(self._value, names))
        return ask([command], lambda replies: unpacked_all(replies[0], self._now()), again=True)

    def raw_many(self, names: Sequence[bytes]) -> Ask[list[bytes | None]]:
        """The values of some names as Redis has them."""
        return ask([(b"MGET", *map(self._value, names))], lambda replies: list(replies[0]), again=True)

    def put(self, put: Put) -> Ask[Version | None]:
        command, version = self._put(put)
        unconditional = command[0] != b"EVAL"
        return ask([command], lambda replies: version if unconditional or replies[0] else None, again=unconditional)

    def put_many(self, puts: Sequence[Put]) -> Ask[list[Version | None]]:
        each = [self._put(put) for put in puts]

        def parse(replies: list[Any]) -> list[Version | None]:
            told = zip(each, replies, strict=True)
            return [version if command[0] != b"EVAL" or reply else None for (command, version), reply in told]

        return ask((command for command, _ in each), parse, again=all(command[0] != b"EVAL" for command, _ in each))

    def _put(self, put: Put) -> tuple[Command, Version]:
        now, key = self._now(), self._value(put.name)
        version, value = packed(put.data, put.expires_at, now)
        lives = b"" if put.expires_at is None else b"%d" % milliseconds(put.expires_at, now)
        if put.if_absent or put.if_version is not None:
            wanted = b"" if put.if_version is None else put.if_version or b"none"
            return (b"EVAL", scripts.PUT_IF, 1, key, DOUBLE.pack(now), wanted, lives, value), version
        if put.expires_at is None:
            return (b"SET", key, value), version
        if int(lives) <= 0:
            return (b"UNLINK", key), version
        return (b"SET", key, value, b"PX", lives), version

    def delete(self, name: bytes, if_version: Version | None) -> Ask[bool]:
        return ask([self._delete(name, if_version)], lambda replies: replies[0] == 1)

    def delete_many(self, names: Sequence[bytes]) -> Ask[list[bool]]:
        return ask((self._delete(name, None) for name in names), lambda replies: [reply == 1 for reply in replies])

    def _delete(self, name: bytes, if_version: Version | None) -> Command:
        wanted = b"" if if_version is None else if_version or b"none"
        return (b"EVAL", scripts.DELETE, 1, self._value(name), DOUBLE.pack(self._now()), wanted)

    def touch(self, name: bytes, expires_at: float | None) -> Ask[bool]:
        return ask([self._touch(name, expires_at)], lambda replies: replies[0] == 1)

    def touch_many(self, names: Sequence[bytes], expires_at: Sequence[float | None]) -> Ask[list[bool]]:
        each = (self._touch(name, until) for name, until in zip(names, expires_at, strict=True))
        return ask(each, lambda replies: [reply == 1 for reply in replies])

    def _touch(self, name: bytes, expires_at: float | None) -> Command:
        arguments = (DOUBLE.pack(self._now()), DOUBLE.pack(expires_at or 0.0), urandom(8))
        return (b"EVAL", scripts.TOUCH, 1, self._value(name), *arguments)

    def get_range(self, name: bytes, offset: int, size: int) -> Ask[bytes | Missing]:
        arguments = (DOUBLE.pack(self._now()), offset, offset + size - 1)
        command = (b"EVAL", scripts.RANGE, 1, self._value(name), *arguments)
        return ask([command], lambda replies: MISSING if replies[0] is None else replies[0], again=True)

    def page(self, prefix: bytes, cursor: bytes) -> Ask[tuple[bytes, list[bytes]]]:
        """Some of the value keys with a prefix, and the cursor that leads on."""
        command = (b"SCAN", cursor, b"MATCH", self._keys.pattern(prefix), b"COUNT", _SCAN_COUNT)
        return ask([command], lambda replies: (replies[0][0], replies[0][1]), again=True)

    def stats(self, keys: Sequence[bytes]) -> Ask[list[Stat]]:
        """What there is to tell of some value keys; those that are gone or not ours are left out."""
        commands = [command for key in keys for command in ((b"GETRANGE", key, 0, HEADER_SIZE - 1), (b"STRLEN", key))]

        def parse(replies: list[Any]) -> list[Stat]:
            now, found = self._now(), []
            for key, header, length in zip(keys, replies[::2], replies[1::2], strict=True):
                if len(header) != HEADER_SIZE or header[:1] != MAGIC:
                    continue
                _, expires_at, version, modified_at = HEADER.unpack(header)
                if expires_at == 0.0 or expires_at > now:
                    name = self._keys.name_of(key)
                    found.append(Stat(name, max(0, length - HEADER_SIZE), modified_at, expires_at or None, version))
            return found

        return ask(commands, parse, again=True)

    def append(self, topic: bytes, event: bytes) -> Ask[bytes]:
        # The field's name is random and part of the position: a stream that was flushed and begun anew may repeat
        # the entry's own name within its millisecond.
        mark = urandom(4)
        command = (b"XADD", self._stream(topic), b"MAXLEN", b"~", self._log_length, b"*", mark, event)
        return ask([command], lambda replies: _position(topic, replies[0], mark))

    def read(self, topic: bytes, after: bytes) -> Ask[list[Event] | None]:
        start = _entry(topic, after) if after else b"-"

        def parse(replies: list[Any]) -> list[Event] | None:
            events = [Event(_position(topic, entry, fields[0]), fields[1]) for entry, fields in replies[0]]
            if not after:
                return events
            # The event at the asked position must still be held: else some after it may be gone as well.
            return events[1:] if events and events[0].position == after else None

        return ask([(b"XRANGE", self._stream(topic), start or b"+", b"+")], parse, again=True)

    def tail(self, topic: bytes) -> Ask[bytes]:
        command = (b"XREVRANGE", self._stream(topic), b"+", b"-", b"COUNT", 1)

        def parse(replies: list[Any]) -> bytes:
            return _position(topic, replies[0][0][0], replies[0][0][1][0]) if replies[0] else b""

        return ask([command], parse, again=True)

    def acquire(self, lease: bytes, seconds: float) -> Ask[Grant | None]:
        token = urandom(8).hex().encode()
        command = (b"EVAL", scripts.ACQUIRE, 2, *self._lease(lease), token, *_lives(seconds))
        return ask([command], lambda replies: Grant(token, int(replies[0])) if replies[0] else None)

    def renew(self, lease: bytes, grant: Grant, seconds: float) -> Ask[bool]:
        command = (b"EVAL", scripts.RENEW, 2, *self._lease(lease), grant.token, *_lives(seconds))
        return ask([command], lambda replies: replies[0] == 1, again=True)

    def release(self, lease: bytes, grant: Grant) -> Ask[bool]:
        return ask([(b"EVAL", scripts.RELEASE, 1, self._lease(lease)[0], grant.token)], lambda replies: replies[0] == 1)

    def put_fenced(
        self, lease: bytes, grant: Grant, name: bytes, data: bytes, expires_at: float | None
    ) -> Ask[Version | None]:
        now = self._now()
        version, value = packed(data, expires_at, now)
        lives = b"" if expires_at is None else b"%d" % milliseconds(expires_at, now)
        held = b"%d:%s" % (grant.fence, grant.token)
        keys = (self._lease(lease)[1], self._value(name))
        command = (b"EVAL", scripts.PUT_FENCED, 2, *keys, held, lives, value)
        return ask([command], lambda replies: version if replies[0] == 1 else None, again=True)

    def add(self, name: bytes, amount: int) -> Ask[int]:
        command = (b"INCRBY", self._keys.counter + tagged(name), amount)
        return ask([command], lambda replies: int(replies[0]))

    def _value(self, name: bytes) -> bytes:
        return self._keys.value + tagged(name)

    def _stream(self, topic: bytes) -> bytes:
        return self._keys.stream + tagged(topic)

    def _lease(self, lease: bytes) -> tuple[bytes, bytes]:
        tag = tagged(lease)
        return self._keys.lease + tag, self._keys.fence + tag


def _lives(seconds: float) -> tuple[int, int]:
    lives = max(1, math.ceil(seconds * 1000))
    return lives, lives + _FENCE_REMEMBERED


def _position(topic: bytes, entry: bytes, mark: bytes) -> bytes:
    """Where an entry of a stream stands: which topic, then its time and number, in an order that bytes sort by, then
    its mark."""
    milliseconds_, _, number = entry.partition(b"-")
    return _POSITION.pack(crc32(topic), int(milliseconds_), int(number), mark)


def _entry(topic: bytes, position: bytes) -> bytes:
    """The stream's own name of a position; empty when it is none of this topic."""
    if len(position) != _POSITION.size:
        return b""
    whose, milliseconds_, number, _ = _POSITION.unpack(position)
    return b"%d-%d" % (milliseconds_, number) if whose == crc32(topic) else b""

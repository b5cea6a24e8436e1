"""How names and values lie in Redis: keys with a hash tag, values with a small header. See docs/backends.md."""

from __future__ import annotations

from os import urandom
from struct import Struct
from typing import Final

from agentcache_core.backend import Stored
from agentcache_core.model import MISSING, Missing

MAGIC: Final = b"\xa1"
HEADER: Final = Struct(">cd8sd")  # magic, expires_at (0: never), version, modified_at
HEADER_SIZE: Final = HEADER.size
DOUBLE: Final = Struct(">d")
_NEVER: Final = DOUBLE.pack(0.0)
_PLAIN: Final = MAGIC + _NEVER  # how a value of ours begins that never expires, as nearly all do
_new = tuple.__new__  # a Stored made from its parts, at a third of the cost of calling it


class Keys:
    """The map between names and Redis keys.

    `VALUE`, `LEASE`, `FENCE`, `COUNTER` and `STREAM` keys never meet. The part of a name before its first slash is
    the hash tag, so that on a cluster everything of one such part lies in one slot.
    """

    def __init__(self, prefix: bytes) -> None:
        self.value, self.lease, self.fence = prefix + b"v{", prefix + b"l{", prefix + b"f{"
        self.counter, self.stream = prefix + b"c{", prefix + b"s{"

    def pattern(self, name_prefix: bytes) -> bytes:
        """The MATCH pattern of the value keys whose names start with `name_prefix`."""
        start = self.value + (tagged(name_prefix) if b"/" in name_prefix else name_prefix)
        return b"".join(b"\\" + bytes([c]) if c in b"*?[]\\^-" else bytes([c]) for c in start) + b"*"

    def name_of(self, key: bytes) -> bytes:
        """The name of a value key."""
        tail = key[len(self.value) :]
        slash = tail.find(b"/")
        return tail[:-1] if slash < 0 else tail[: slash - 1] + tail[slash:]


def tagged(name: bytes) -> bytes:
    """A name with its hash tag closed: `a/b` is `a}/b`, `a` is `a}`; the family's prefix opens it."""
    return name.replace(b"/", b"}/", 1) if b"/" in name else name + b"}"


def packed(data: bytes, expires_at: float | None, now: float) -> tuple[bytes, bytes]:
    """A new version, and the value as Redis keeps it."""
    version = urandom(8)
    return version, HEADER.pack(MAGIC, expires_at or 0.0, version, now) + data


def unpacked(raw: bytes | None, now: float) -> Stored | Missing:
    """What a value says; MISSING when nothing, nothing of ours, or something expired is there."""
    if raw is None or len(raw) < HEADER_SIZE or not raw.startswith(MAGIC):
        return MISSING
    if not raw.startswith(_PLAIN) and DOUBLE.unpack(raw[1:9])[0] <= now:
        return MISSING
    return _new(Stored, (raw[25:], raw[9:17]))


def unpacked_all(raws: list[bytes | None], now: float) -> list[Stored | Missing]:
    """What many values say. Those that never expire are taken apart right here."""
    return [
        _new(Stored, (raw[25:], raw[9:17]))
        if raw is not None and raw.startswith(_PLAIN) and len(raw) >= HEADER_SIZE
        else unpacked(raw, now)
        for raw in raws
    ]


VIEWED: Final = 16_384
"""Values of this many bytes and more are worth a view: below it, copying them is cheaper than making one."""


def viewed_all(raws: list[bytes | None], now: float) -> list[Stored | Missing]:
    """What many values say, the large ones as views of what Redis sent."""
    return [unpacked(raw, now) if raw is None or len(raw) < VIEWED else _viewed(raw, now) for raw in raws]


def _viewed(raw: bytes, now: float) -> Stored | Missing:
    if raw[:1] != MAGIC or (not raw.startswith(_PLAIN) and DOUBLE.unpack(raw[1:9])[0] <= now):
        return MISSING
    return _new(Stored, (memoryview(raw)[HEADER_SIZE:], raw[9:17]))


def milliseconds(expires_at: float, now: float) -> int:
    """The time to live for Redis, rounded up; at most 0 when it is over already."""
    return -int(-(expires_at - now) * 1000 // 1)

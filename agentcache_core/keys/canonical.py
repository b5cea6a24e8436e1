"""The canonical form: one sequence of MessagePack bytes for everything that two requests may share.

Two values have the same canonical bytes exactly when they count as the same in a key. JSON values are plain MessagePack
(shortest integers, 64-bit floats, mapping keys in the order of their UTF-8 bytes); everything JSON does not know is
*lowered*, one level at a time, to JSON values marked with a MessagePack extension, so that nothing lowered can collide
with anything written plainly. `docs/keys.md` is the specification and `tests/core/golden/keys.json` holds vectors.

There are two writers. `pack` lets ormsgpack write everything in one call and screens the result for the few bytes that
would not be canonical; `pack_carefully` walks the value in Python, knows the path of what it meets, and decides
whatever `pack` cannot. They never disagree: `pack` either gives the same bytes or asks `pack_carefully`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import ormsgpack
from blake3 import blake3

from agentcache_core.errors import KeyingError
from agentcache_core.keys.lowering import (
    LITERAL_BYTES_MAX,
    MARK_DIGEST,
    MARK_MAP,
    MARK_SET,
    MARK_TEXT,
    MARK_TUPLE,
    Typing,
    lower,
)

MAX_DEPTH: Final = 255
"""Levels of nesting a request may have; what ormsgpack itself accepts, so that both writers agree."""

_OPTIONS: Final = (
    ormsgpack.OPT_SORT_KEYS
    | ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_EXACT_OPTIONS: Final = _OPTIONS | ormsgpack.OPT_PASSTHROUGH_TUPLE
_NAN: Final = b"\xcb\x7f\xf8\0\0\0\0\0\0"
_SCREEN_STEPS: Final = 24


def _lower_wire(obj: object) -> Any:
    return _lower(obj, Typing.WIRE)


def _lower_plain(obj: object) -> Any:
    return _lower(obj, Typing.PLAIN)


def _lower_exact(obj: object) -> Any:
    return _lower(obj, Typing.EXACT)


def _lower(obj: Any, typing: Typing, path: str = "") -> Any:
    if type(obj) is tuple:
        return [MARK_TUPLE, *obj]
    if not isinstance(obj, AbstractSet):
        return lower(obj, typing)
    packed = [(pack([element], typing, lambda _: f"{path} (an element)"), element) for element in obj]
    packed.sort(key=lambda pair: pair[0])
    return [MARK_SET, *(element for _, element in packed)]


_WIRE: Final = Typing.WIRE  # a module's constant: to look a member up in its Enum costs as much as a dict


def pack(items: list[Any], typing: Typing, name_of: Callable[[int], str]) -> bytes:
    """The canonical bytes of `items`, one after the other, without a count, so that a longer list extends a shorter.

    `name_of(i)` is the path of item `i`, asked for only when something has no canonical form (`KeyingError`).
    """
    packed = pack_quickly(items, typing)
    return pack_carefully(items, typing, name_of) if packed is None else packed


def pack_quickly(items: list[Any], typing: Typing) -> bytes | None:
    """The canonical bytes of `items` in one call of ormsgpack, or None where only `pack_carefully` can tell."""
    try:
        if typing is _WIRE:
            packed = ormsgpack.packb(items, _lower_wire, _OPTIONS)
        elif typing is Typing.PLAIN:
            packed = ormsgpack.packb(items, _lower_plain, _OPTIONS)
        else:
            packed = ormsgpack.packb(items, _lower_exact, _EXACT_OPTIONS)
    except (ormsgpack.MsgpackEncodeError, RecursionError):
        return None
    # A NaN has many bit patterns and must have one form. memchr for one byte is far cheaper than a search for two.
    at = packed.find(b"\xcb")
    if (at >= 0 and _holds_special_float(packed, at)) or (
        len(packed) > LITERAL_BYTES_MAX and _holds_long_bytes(packed)
    ):
        return None
    count = len(items)
    return packed[1:] if count < 16 else packed[3:] if count < 65536 else packed[5:]


def _holds_special_float(packed: bytes, at: int) -> bool:
    """Whether there may be a NaN or an infinity: 0xcb followed by 0x7f or 0xff, which UTF-8 text never holds."""
    last = len(packed) - 9
    steps = _SCREEN_STEPS
    while 0 <= at <= last:
        if packed[at + 1] | 0x80 == 0xFF and packed[at + 2] >= 0xF0:
            return True
        steps -= 1
        if not steps:
            return b"\xcb\x7f" in packed or b"\xcb\xff" in packed
        at = packed.find(b"\xcb", at + 1)
    return False


def _holds_long_bytes(packed: bytes) -> bool:
    """Whether there may be a byte string above `LITERAL_BYTES_MAX`: 0xc6 and a length below 2^31."""
    at = packed.find(b"\xc6")
    for _ in range(_SCREEN_STEPS):
        if at < 0 or at + 1 >= len(packed):
            return False
        if packed[at + 1] < 0x80:
            return True
        at = packed.find(b"\xc6", at + 1)
    return len(packed) > 0xFFFFFF or b"\xc6\x00" in packed


def pack_carefully(items: Sequence[Any], typing: Typing, name_of: Callable[[int], str]) -> bytes:
    """What `pack` gives, written by a walk in Python that can name the path of what has no canonical form."""
    out = bytearray()
    walk = _Walk(typing, out)
    for index, item in enumerate(items):
        try:
            walk.write(item, name_of(index), 2)
        except RecursionError:
            raise KeyingError("nested too deeply for the interpreter's stack", path=name_of(index)) from None
    return bytes(out)


class _Walk:
    """One careful walk: where it writes, how it counts types, and the containers it is inside of."""

    __slots__ = ("_inside", "_out", "_typing")

    def __init__(self, typing: Typing, out: bytearray) -> None:
        self._typing = typing
        self._out = out
        self._inside: set[int] = set()

    def write(self, obj: Any, path: str, depth: int) -> None:
        kind = type(obj)
        if obj is None or kind is bool or kind is ormsgpack.Ext:
            self._out += ormsgpack.packb(obj)
        elif kind is float:
            self._out += ormsgpack.packb(obj) if obj == obj else _NAN
        elif kind is str:
            self._out += _text(obj)
        elif kind is int and -(2**63) <= obj < 2**64:
            self._out += ormsgpack.packb(obj)
        elif kind is bytes or kind is bytearray or kind is memoryview:
            self._out += _content(obj)
        else:
            self._nested(obj, path, depth)

    def _nested(self, obj: Any, path: str, depth: int) -> None:
        if id(obj) in self._inside:
            raise KeyingError("refers to itself, so it has no canonical form", path=path)
        if depth > MAX_DEPTH:
            raise KeyingError(f"nested deeper than {MAX_DEPTH} levels", path=path)
        self._inside.add(id(obj))
        kind = type(obj)
        if kind is dict:
            self._mapping(obj, path, depth)
        elif kind is list or (kind is tuple and self._typing is not Typing.EXACT):
            self._array(obj, path, depth)
        else:
            try:
                lowered = _lower(obj, self._typing, path)
            except KeyingError as error:
                if error.path:
                    raise
                raise KeyingError(str(error), path=path) from error.__cause__
            self.write(lowered, path, depth)
        self._inside.discard(id(obj))

    def _array(self, items: Sequence[Any], path: str, depth: int) -> None:
        self._out += _header(len(items), 0x90, 0xDC)
        marked = bool(items) and type(items[0]) is ormsgpack.Ext
        fields_of_object = marked and len(items) == 2 and type(items[1]) is dict
        for index, item in enumerate(items):
            self.write(item, path if fields_of_object else f"{path}[{index - marked}]", depth + 1)

    def _mapping(self, mapping: dict[Any, Any], path: str, depth: int) -> None:
        if self._typing is Typing.EXACT and not all(isinstance(key, str) for key in mapping):
            self._array(self._pairs(mapping, path), path, depth)
            return
        named: dict[bytes, tuple[str, Any]] = {}
        for key, item in mapping.items():
            if not isinstance(key, str):
                raise KeyingError(
                    f"mapping keys must be str, got {type(key).__name__} {key!r:.60}; JSON would turn it into a string",
                    path=path,
                )
            text = str.__str__(key)
            encoded = _text(text)
            if encoded in named:
                raise KeyingError(f"two mapping keys read {text!r:.60} once they are plain strings", path=path)
            named[encoded] = (text, item)
        self._out += _header(len(named), 0x80, 0xDE)
        for encoded, (text, item) in sorted(named.items(), key=lambda pair: _sort_key(pair[1][0])):
            self._out += encoded
            self.write(item, f"{path}.{text}" if path else text, depth + 1)

    def _pairs(self, mapping: dict[Any, Any], path: str) -> list[Any]:
        """A mapping with keys other than strings, as its pairs in the order of the keys' canonical bytes."""
        packed = [(pack_carefully([key], self._typing, lambda _: f"{path} (a key)"), key) for key in mapping]
        packed.sort(key=lambda pair: pair[0])
        return [MARK_MAP, *([key, mapping[key]] for _, key in packed)]


def _sort_key(text: str) -> bytes:
    return _joined(text).encode("utf-8", "surrogatepass")


def _joined(text: str) -> str:
    """Surrogate pairs joined to the character they mean, as a JSON round trip joins them; lone ones stay."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _text(text: str) -> bytes:
    try:
        return ormsgpack.packb(text)
    except ormsgpack.MsgpackEncodeError:
        joined = _joined(text)
    try:
        return ormsgpack.packb(joined)
    except ormsgpack.MsgpackEncodeError:
        return ormsgpack.packb(ormsgpack.Ext(MARK_TEXT, joined.encode("utf-8", "surrogatepass")))


def _content(content: bytes | bytearray | memoryview) -> bytes:
    plain = content.tobytes() if type(content) is memoryview else bytes(content)
    if len(plain) <= LITERAL_BYTES_MAX:
        return ormsgpack.packb(plain)
    return ormsgpack.packb(ormsgpack.Ext(MARK_DIGEST, struct.pack(">Q", len(plain)) + blake3(plain).digest()))


def _header(count: int, short: int, long: int) -> bytes:
    if count < 16:
        return bytes((short | count,))
    return struct.pack(">BH", long, count) if count < 65536 else struct.pack(">BI", long + 1, count)

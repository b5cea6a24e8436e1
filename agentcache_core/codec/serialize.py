"""Values as bytes and back, equal in type and value: MessagePack for what JSON can say, marked lists for the rest.

A plain value (None, bool, int, float, str, bytes, list, dict) is one MessagePack document, written and read in a
single call. A value that also holds a tuple, a set or a registered type is written with those containers as lists
whose first element marks what they were, behind the byte 0xC1 (which MessagePack never uses), and is rebuilt after
reading. The layout is specified in `docs/format.md`. Nothing is ever pickled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import ormsgpack

from agentcache_core.codec import scalars
from agentcache_core.errors import CorruptFrame, UnstorableValue

MAX_DEPTH: Final = 250
"""How deep containers may nest in a stored value. The reader's own bound is 1,022, set by the MessagePack decoder."""

BULKY: Final = 256 * 1024
MOST_LOOKED_AT: Final = 4000

MARKED: Final = b"\xc1"
TUPLE, SET, FROZENSET, USER = 16, 17, 18, 19

_OPTIONS: Final = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
# Bytes that a packed value holds only if it may hide something that the packer let through: a non-finite float
# (0xcb 0x7f.. / 0xcb 0xff..), or a bytearray, memoryview or foreign extension object written as `bin` or `ext`.
# Text may hold them too; then the walk below merely runs for nothing.
_SUSPECTS: Final = (b"\xcb\x7f", b"\xcb\xff", *(bytes([code]) for code in (*range(0xC4, 0xCA), *range(0xD4, 0xD9))))
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset})
_ATOMS: Final = frozenset({type(None), bool, int, str, bytes})


@runtime_checkable
class Serializer(Protocol):
    """How values of one user type are stored: `dump` gives a storable value, `load` takes it back.

    `name` is written beside the value and must stay the same for as long as stored values are to be read. It applies
    to values whose type is exactly `type`, not to subclasses.
    """

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> type: ...
    def dump(self, value: Any) -> object: ...
    def load(self, stored: Any) -> Any: ...


class _Mark:
    """What a marker of a container reads as, until `_rebuild` turns its list into that container."""

    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code


_MARKS: Final = {code: _Mark(code) for code in (TUPLE, SET, FROZENSET, USER)}
_TUPLE_MARK: Final = ormsgpack.Ext(TUPLE, b"")
_USER_MARK: Final = ormsgpack.Ext(USER, b"")
_SET_MARKS: Final = {set: ormsgpack.Ext(SET, b""), frozenset: ormsgpack.Ext(FROZENSET, b"")}


def dumps(value: object, *, serializers: Sequence[Serializer] = ()) -> bytes:
    """The payload of `value`: bytes from which `loads` makes an equal value of the same types.

    Mapping order is kept, since it can be seen, so equal mappings in different orders give different payloads; the
    order of a set is not. Raises `UnstorableValue`, with the path to the offending place, for non-finite floats,
    lone surrogates, mapping keys that are not `str`, types and subclasses that are neither built in nor registered,
    cycles, and nesting beyond `MAX_DEPTH`.
    """
    writer = _Writer(serializers)
    try:
        payload = ormsgpack.packb(value, default=writer.write, option=_OPTIONS)
    except (TypeError, ValueError) as problem:
        writer.walk(value, "", MAX_DEPTH)
        raise UnstorableValue(str(problem)) from problem
    for suspect in _SUSPECTS:
        if suspect in payload:
            writer.walk(value, "", MAX_DEPTH)
            break
    return MARKED + payload if writer.marked else payload


def loads(payload: bytes, *, serializers: Sequence[Serializer] = ()) -> object:
    """The value that `dumps` made `payload` of, built anew at each call.

    Raises `CorruptFrame` when the bytes are not such a payload, when they nest deeper than the decoder allows, or
    when they hold a type for which no serializer is registered here.
    """
    try:
        if payload[:1] == MARKED:
            tree = ormsgpack.unpackb(memoryview(payload)[1:], ext_hook=_read_ext)
            return _rebuild(tree, {serializer.name: serializer for serializer in reversed(serializers)}, MAX_DEPTH + 10)
        return ormsgpack.unpackb(payload, ext_hook=scalars.read)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as problem:
        raise CorruptFrame(f"the payload is not a stored value: {problem}") from problem


def is_bulky(value: object) -> bool:
    """Whether packing a value takes long enough to be done on another thread: by the size of its texts and the number
    of its items, looking at no more than `MOST_LOOKED_AT` of them."""
    size, looked_at = 0, 0
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        looked_at += 1
        kind = item.__class__
        if kind is str or kind is bytes:
            size += len(item)
            if size > BULKY:
                return True
            continue
        if kind is dict:
            item = item.values()
        elif kind not in _CONTAINERS:
            continue
        if looked_at + len(waiting) + len(item) > MOST_LOOKED_AT:
            return True
        waiting.extend(item)
    return False


def is_immutable(value: object) -> bool:
    """Whether `value` is storable and can be handed out as the same object for ever: exact built-in types only."""
    kind = type(value)
    if kind is str:
        return _encodes(value)  # type: ignore[arg-type]  # kind is str
    if kind in (bytes, bool, int, type(None)):
        return True
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]  # kind is float
    if kind is tuple or kind is frozenset:
        return all(map(is_immutable, value))  # type: ignore[call-overload]  # kind is a container
    return scalars.is_scalar(value)


class _Writer:
    """The packer's hook for one value: notes whether a container had to be marked."""

    __slots__ = ("_made", "_serializers", "marked")

    def __init__(self, serializers: Sequence[Serializer]) -> None:
        self._serializers = serializers
        self._made: Mapping[type, Serializer] | None = None
        self.marked = False

    @property
    def _by_type(self) -> Mapping[type, Serializer]:
        """Made when first needed: a plain value needs none. Of two for one type the first counts."""
        if self._made is None:
            self._made = {serializer.type: serializer for serializer in reversed(self._serializers)}
        return self._made

    def write(self, value: Any) -> object:
        kind = type(value)
        if kind is tuple:
            self.marked = True
            return [_TUPLE_MARK, *value]
        serializer = self._by_type.get(kind)
        if serializer is not None:
            self.marked = True
            return [_USER_MARK, serializer.name, _dump(serializer, value, "")]
        if kind is set or kind is frozenset:
            self.marked = True
            pack: Callable[[object], bytes] = lambda item: ormsgpack.packb(item, self.write, _OPTIONS)  # noqa: E731
            return [_SET_MARKS[kind], *sorted(value, key=pack)]
        return scalars.write(value)

    def walk(self, value: Any, path: str, depth: int) -> None:
        """Raise `UnstorableValue` for the first place that cannot be stored; quiet when there is none."""
        kind = type(value)
        if kind is float:
            if not math.isfinite(value):
                raise UnstorableValue(f"{value!r} is not a finite number", path=path)
        elif kind is str:
            if not _encodes(value):
                raise UnstorableValue("the text holds a lone surrogate, which UTF-8 cannot say", path=path)
        elif kind in _ATOMS:
            return
        elif depth <= 0:
            raise UnstorableValue(f"nested deeper than {MAX_DEPTH}, or within itself", path=_shorten(path))
        elif kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    raise UnstorableValue(f"mapping key {key!r} is {_name(type(key))}, not str", path=path)
                self.walk(key, path, depth - 1)
                self.walk(item, f"{path}.{key}" if path else key, depth - 1)
        elif kind in (list, tuple, set, frozenset):
            for index, item in enumerate(value):
                self.walk(item, f"{path}[{index}]", depth - 1)
        elif kind in self._by_type:
            self.walk(_dump(self._by_type[kind], value, path), path, depth - 1)
        else:
            scalars.check(value, path)


def _read_ext(code: int, content: bytes) -> object:
    mark = _MARKS.get(code)
    return mark if mark is not None else scalars.read(code, content)


def _rebuild(node: Any, by_name: Mapping[str, Serializer], depth: int) -> Any:
    kind = type(node)
    if kind is list or kind is dict:
        if depth <= 0:
            raise ValueError("nested too deep")
        if kind is dict:
            return {key: _rebuild(item, by_name, depth - 1) for key, item in node.items()}
        if node and type(node[0]) is _Mark:
            items = [_rebuild(item, by_name, depth - 1) for item in node[1:]]
            return _restore(node[0].code, items, by_name)
        return [_rebuild(item, by_name, depth - 1) for item in node]
    if kind is _Mark:
        raise ValueError("a marker stands outside its list")
    return node


def _restore(code: int, items: list[Any], by_name: Mapping[str, Serializer]) -> Any:
    if code == TUPLE:
        return tuple(items)
    if code == SET:
        return set(items)
    if code == FROZENSET:
        return frozenset(items)
    name, stored = items
    serializer = by_name.get(name)
    if serializer is None:
        raise ValueError(f"it holds a {name!r}, for which no serializer is registered here")
    try:
        return serializer.load(stored)
    except Exception as problem:  # the user's code, on data that may be older than it
        raise ValueError(f"the serializer {name!r} cannot load it: {problem!r}") from problem


def _dump(serializer: Serializer, value: Any, path: str) -> object:
    try:
        return serializer.dump(value)
    except Exception as problem:
        raise UnstorableValue(f"the serializer {serializer.name!r} cannot dump it: {problem!r}", path=path) from problem


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shorten(path: str) -> str:
    return path if len(path) <= 80 else f"{path[:77]}..."

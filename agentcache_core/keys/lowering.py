"""Lowering: what JSON does not know, turned one level at a time into JSON values marked with an extension.

Each rule is a decision about what counts as the same; `docs/keys.md` lists them with their reasons.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import os
import stat
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

import ormsgpack
from blake3 import blake3

from agentcache_core.errors import KeyingError

LITERAL_BYTES_MAX: Final = 65_535
"""Bytes up to which content stands in the canonical form itself; longer content stands as its length and digest."""

MARK_INTEGER: Final = 1
MARK_TEXT: Final = 2
MARK_DIGEST: Final = 3
MARK_DATETIME: Final = 4
MARK_DATE: Final = 5
MARK_TIME: Final = 6
MARK_TIMEDELTA: Final = 7
MARK_UUID: Final = 8
MARK_DECIMAL: Final = 9
MARK_ENUM: Final = 10
MARK_OBJECT: Final = 11
MARK_ARRAY: Final = 12
MARK_ORDINAL: Final = 13
MARK_SET: Final = ormsgpack.Ext(14, b"")
MARK_MAP: Final = ormsgpack.Ext(15, b"")
MARK_TUPLE: Final = ormsgpack.Ext(16, b"")

_CHUNK: Final = 1 << 20


class Typing(enum.Enum):
    """How much of a Python type counts.

    WIRE: a model or dataclass counts as the mapping it is sent as (model calls, tools, HTTP). PLAIN: its class counts
    too (other mappings). EXACT: so do tuples against lists and subclasses of str, int, list, dict (function arguments).
    """

    WIRE = "wire"
    PLAIN = "plain"
    EXACT = "exact"


def ordinal(number: int) -> ormsgpack.Ext:
    """What stands for the `number`-th volatile id of a conversation."""
    return ormsgpack.Ext(MARK_ORDINAL, struct.pack(">I", number))


def ordinal_of(value: object) -> int | None:
    """The number of a volatile id's ordinal; None for anything else."""
    if not isinstance(value, ormsgpack.Ext):
        return None
    packed = ormsgpack.packb(value)  # one byte for "extension of four bytes", the mark, the number
    return int.from_bytes(packed[2:], "big") if packed[1] == MARK_ORDINAL else None


def lower(obj: Any, typing: Typing) -> Any:
    """`obj` as JSON values and extensions, one level deep, or `KeyingError` (without a path) saying how to mend it."""
    scalar = _scalar(obj)
    if scalar is not None:
        return scalar
    if isinstance(obj, enum.Enum):
        return _enum(obj, typing)
    if isinstance(obj, (str, int, float, bytes, bytearray)):
        return _subclass(obj, typing)
    if isinstance(obj, memoryview):
        return obj.tobytes()
    if isinstance(obj, PurePath) or hasattr(obj, "readinto"):
        return _file(obj, typing)
    if isinstance(obj, range):
        return [ormsgpack.Ext(MARK_OBJECT, b"range"), [obj.start, obj.stop, obj.step]]
    if is_dataclass(obj):
        return _object(obj, dataclass_fields(obj), typing)
    if is_model(obj):
        return model_fields(obj) if typing is Typing.WIRE else _object(obj, _typed_fields(obj), typing)
    if type(obj).__module__ == "numpy":
        return _numpy(obj)
    return _container(obj, typing)


def _scalar(obj: Any) -> Any:
    if type(obj) is int:
        return ormsgpack.Ext(MARK_INTEGER, obj.to_bytes(obj.bit_length() // 8 + 1, "big", signed=True))
    if isinstance(obj, datetime.datetime):
        zone = getattr(obj.tzinfo, "key", None)  # one offset may belong to several zones, which part in winter
        text = f"{obj.isoformat()}{'/1' if obj.fold else ''}{f'[{zone}]' if zone else ''}"
        return ormsgpack.Ext(MARK_DATETIME, text.encode())
    if isinstance(obj, datetime.date):
        return ormsgpack.Ext(MARK_DATE, obj.isoformat().encode())
    if isinstance(obj, datetime.time):
        return ormsgpack.Ext(MARK_TIME, f"{obj.isoformat()}{'/1' if obj.fold else ''}".encode())
    if isinstance(obj, datetime.timedelta):
        micros = (obj.days * 86_400 + obj.seconds) * 1_000_000 + obj.microseconds
        return ormsgpack.Ext(MARK_TIMEDELTA, str(micros).encode())
    if isinstance(obj, uuid.UUID):
        return ormsgpack.Ext(MARK_UUID, obj.bytes)
    if isinstance(obj, decimal.Decimal):
        return ormsgpack.Ext(MARK_DECIMAL, str(obj).encode())
    return None


def _enum(member: enum.Enum, typing: Typing) -> Any:
    if typing is Typing.WIRE or (typing is Typing.PLAIN and isinstance(member, (str, int, float))):
        return member.value
    name = member.value if isinstance(member, enum.Flag) else member.name
    return [ormsgpack.Ext(MARK_ENUM, _qualified(type(member))), name]


def _subclass(obj: Any, typing: Typing) -> Any:
    """A subclass of a JSON scalar: the scalar, which is what JSON makes of it; with its class where types count."""
    plain: Any
    if isinstance(obj, str):
        plain = str.__str__(obj)
    elif isinstance(obj, int):
        plain = int.__int__(obj)
    elif isinstance(obj, float):
        plain = float.__float__(obj)
    else:
        plain = bytes(obj)
    return [ormsgpack.Ext(MARK_OBJECT, _qualified(type(obj))), plain] if typing is Typing.EXACT else plain


def _object(obj: Any, fields: Any, typing: Typing) -> Any:
    return fields if typing is Typing.WIRE else [ormsgpack.Ext(MARK_OBJECT, _qualified(type(obj))), fields]


def is_dataclass(obj: object) -> bool:
    """Whether this is an instance of a dataclass."""
    return dataclasses.is_dataclass(obj) and not isinstance(obj, type)


def dataclass_fields(obj: Any) -> dict[str, Any]:
    """A dataclass's fields as they are, `KeyingError` where one was never set."""
    try:
        return {field.name: getattr(obj, field.name) for field in dataclasses.fields(obj)}
    except AttributeError as error:
        raise KeyingError(f"a field of this {type(obj).__name__} was never set: {error}") from error


def is_model(obj: object) -> bool:
    """Whether this is a pydantic-like model: known by its `model_dump`, pydantic is not imported."""
    return callable(getattr(obj, "model_dump", None)) and not isinstance(obj, type)


def model_fields(model: Any) -> Any:
    """A model as the JSON mapping it is sent as, `KeyingError` where it cannot be dumped."""
    try:
        try:
            return model.model_dump(mode="json", by_alias=True, warnings=False)
        except TypeError:
            return model.model_dump()
        except ValueError:  # bytes that are no text have no JSON form; as Python values they have a canonical one
            return model.model_dump(by_alias=True, warnings=False)
    except Exception as error:
        raise KeyingError(f"a {type(model).__name__} cannot be dumped: {type(error).__name__}: {error}") from error


def _typed_fields(model: Any) -> Any:
    """A model's fields with nested models kept as they are, so that their classes count as well."""
    return dict(model) if hasattr(type(model), "model_fields") else model_fields(model)


def _container(obj: Any, typing: Typing) -> Any:
    if isinstance(obj, Mapping):
        plain: Any = dict(obj)
        return [ormsgpack.Ext(MARK_OBJECT, _qualified(type(obj))), plain] if typing is Typing.EXACT else plain
    if isinstance(obj, Sequence):
        plain = list(obj)
        return [ormsgpack.Ext(MARK_OBJECT, _qualified(type(obj))), plain] if typing is Typing.EXACT else plain
    raise KeyingError(
        f"a {_qualified(type(obj)).decode()} has no canonical form; pass JSON values, bytes, a dataclass or a model"
    )


def _file(source: Any, typing: Typing) -> Any:
    """The content of a path or an open binary file, which counts like the same bytes given directly.

    A function can see more than the content: its path's name, or where in the file it stands; there both count.
    """
    if isinstance(source, PurePath):
        seen: Any = str(source)
        content = _content_of_path(source)
    else:
        try:
            seen = source.tell()
            source.seek(0)
            content = _read(source)
            source.seek(seen)
        except (OSError, ValueError) as error:
            raise KeyingError(f"an open file counts by its content; this one cannot be read twice: {error}") from error
    return [ormsgpack.Ext(MARK_OBJECT, _qualified(type(source))), seen, content] if typing is Typing.EXACT else content


def _content_of_path(path: PurePath) -> Any:
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise KeyingError(f"{str(path)!r} is no regular file, so it has no content to count")
            return _read(file)
    except OSError as error:
        raise KeyingError(f"the file {str(path)!r} cannot be read: {error.strerror}") from error


def _read(file: Any) -> Any:
    content = file.read(LITERAL_BYTES_MAX + 1)
    if len(content) <= LITERAL_BYTES_MAX:
        return content
    size = 0
    hasher = blake3()
    while content:
        size += len(content)
        hasher.update(content)
        content = file.read(_CHUNK)
    return ormsgpack.Ext(MARK_DIGEST, struct.pack(">Q", size) + hasher.digest())


def _numpy(obj: Any) -> Any:
    """A numpy array or scalar: dtype, shape and content in C order, read without importing numpy."""
    dtype = getattr(obj, "dtype", None)
    if dtype is None or dtype.hasobject:
        raise KeyingError(f"a numpy {type(obj).__name__} of Python objects has no canonical form; pass lists instead")
    return [ormsgpack.Ext(MARK_ARRAY, str(dtype.str).encode()), list(obj.shape), obj.tobytes("C")]


def _qualified(cls: type) -> bytes:
    return f"{cls.__module__}.{cls.__qualname__}".encode("utf-8", "surrogatepass")

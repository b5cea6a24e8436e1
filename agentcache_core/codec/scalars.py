"""Single values that MessagePack has no word for: integers beyond 64 bits, dates and times, UUIDs, Decimals.

Each is a MessagePack extension whose code and content are specified in `docs/format.md`.
"""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import ormsgpack

from agentcache_core.errors import UnstorableValue

BIG_INT, DATETIME, DATE, UUID, DECIMAL = 1, 2, 3, 4, 5
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def is_scalar(value: object) -> bool:
    """Whether `value` is one of these types, exactly, and storable."""
    kind = type(value)
    if kind is dt.datetime:
        return _zone_problem(value) == ""  # type: ignore[arg-type]  # kind is datetime
    if kind is decimal.Decimal:
        return value.is_finite()  # type: ignore[attr-defined, no-any-return]  # kind is Decimal
    return kind is dt.date or kind is uuid.UUID


def write(value: Any) -> ormsgpack.Ext:
    """The extension for one such value; `TypeError` for any other, and for one that could not be read back."""
    kind = type(value)
    if kind is int:
        return ormsgpack.Ext(BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind is dt.datetime and not _zone_problem(value):
        return ormsgpack.Ext(DATETIME, _pack_datetime(value))
    if kind is dt.date:
        return ormsgpack.Ext(DATE, value.isoformat().encode())
    if kind is uuid.UUID:
        return ormsgpack.Ext(UUID, value.bytes)
    if kind is decimal.Decimal and value.is_finite():
        return ormsgpack.Ext(DECIMAL, str(value).encode())
    raise TypeError(f"{kind.__module__}.{kind.__qualname__}")


def check(value: Any, path: str) -> None:
    """Raise `UnstorableValue` unless `write` would accept `value` (built-in atoms never come here)."""
    kind = type(value)
    if is_scalar(value):
        return
    if kind is dt.datetime:
        raise UnstorableValue(_zone_problem(value), path=path)
    if kind is decimal.Decimal:
        raise UnstorableValue(f"{value!r} is not a finite number", path=path)
    raise UnstorableValue(
        f"values of type {kind.__module__}.{kind.__qualname__} cannot be stored: give a plain value, "
        "a serializer (`serializers=`), or name the type (`returns=`)",
        path=path,
    )


def read(code: int, content: bytes) -> object:
    """The value of one extension; `ValueError` when code or content are none that `write` makes."""
    content = bytes(content)
    if code == BIG_INT:
        return int.from_bytes(content, "big", signed=True)
    if code == DATETIME:
        return _unpack_datetime(content)
    if code == DATE:
        return dt.date.fromisoformat(content.decode())
    if code == UUID:
        return uuid.UUID(bytes=content)
    if code == DECIMAL:
        return decimal.Decimal(content.decode())
    raise ValueError(f"unknown extension code {code}")


def _zone_problem(moment: dt.datetime) -> str:
    zone = moment.tzinfo
    if zone is None or type(zone) is dt.timezone:
        return ""
    if type(zone) is not ZoneInfo or zone.key is None:
        kind = type(zone)
        return f"time zones of type {kind.__module__}.{kind.__qualname__} cannot be stored: use zoneinfo or an offset"
    try:
        same = ZoneInfo(zone.key).utcoffset(moment) == moment.utcoffset()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        same = False
    return "" if same else f"the time zone {zone.key!r} is not the one of that name on this machine"


def _pack_datetime(moment: dt.datetime) -> bytes:
    zone = moment.tzinfo
    tail: list[object]
    if zone is None:
        tail = []
    elif type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        name = zone.tzname(None)
        tail = [offset // _MICROSECOND]
        if name != dt.timezone(offset).tzname(None):
            tail.append(name)
    else:
        tail = [zone.key]  # type: ignore[attr-defined]  # `_zone_problem` let only ZoneInfo through
    wall = [moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond]
    return ormsgpack.packb([*wall, moment.fold, *tail])


def _unpack_datetime(content: bytes) -> dt.datetime:
    year, month, day, hour, minute, second, microsecond, fold, *tail = ormsgpack.unpackb(content)
    zone: dt.tzinfo | None = None
    if tail and type(tail[0]) is str:
        try:
            zone = ZoneInfo(tail[0])
        except (ZoneInfoNotFoundError, OSError) as problem:
            raise ValueError(f"the time zone {tail[0]!r} is not known on this machine") from problem
    elif tail:
        offset = dt.timedelta(microseconds=tail[0])
        zone = dt.timezone(offset, tail[1]) if len(tail) > 1 else dt.timezone(offset)
    return dt.datetime(year, month, day, hour, minute, second, microsecond, tzinfo=zone, fold=fold)

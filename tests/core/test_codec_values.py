"""What comes back from a payload equals, in type and value, what went in; anything else is refused by name."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import math
import struct
import uuid
from zoneinfo import ZoneInfo

import numpy as np
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core.codec.serialize import MARKED, MAX_DEPTH, dumps, is_immutable, loads
from agentcache_core.errors import CorruptFrame, UnstorableValue


def same(left: object, right: object) -> bool:
    """Equal in type and value, all the way down, order of mappings included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset) and isinstance(right, set | frozenset):
        return left == right and typed(left) == typed(right)
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack(">d", left) == struct.pack(">d", right)
    if isinstance(left, decimal.Decimal) and isinstance(right, decimal.Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, dt.datetime) and isinstance(right, dt.datetime):
        mine = (left.replace(tzinfo=None), left.fold, left.utcoffset(), left.tzname(), type(left.tzinfo))
        return mine == (right.replace(tzinfo=None), right.fold, right.utcoffset(), right.tzname(), type(right.tzinfo))
    return left == right


def typed(value: object) -> str:
    """A spelling that tells types apart and does not depend on the order of sets."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} {sorted(map(typed, value))}"
    if isinstance(value, tuple):
        return f"tuple {list(map(typed, value))}"
    return f"{type(value).__name__} {value!r}"


zones = (
    st.none()
    | st.just(dt.UTC)
    | st.sampled_from(["Europe/Paris", "America/New_York", "Asia/Kolkata", "UTC"]).map(ZoneInfo)
    | st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)))
    | st.builds(dt.timezone, st.just(dt.timedelta(hours=5)), st.text(max_size=5))
)
moments = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1)),
    zones,
    st.integers(0, 1),
)
hashable_atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | moments
    | st.dates()
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False)
)
hashables = st.recursive(hashable_atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner), max_leaves=5)
values = st.recursive(
    hashables | st.sets(hashables, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
@settings(max_examples=150)
def test_every_storable_value_comes_back_equal_in_type_and_value(value: object) -> None:
    assert same(loads(dumps(value)), value)


@given(st.lists(hashables, max_size=8, unique=True), st.randoms(use_true_random=False))
def test_the_order_in_which_a_set_was_filled_does_not_change_its_bytes(items: list[object], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands a random.Random
    assert dumps(set(items)) == dumps(set(shuffled))
    assert dumps(frozenset(items)) == dumps(frozenset(shuffled))


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_any_bytes_at_all_are_a_value_or_a_corrupt_frame(noise: bytes) -> None:
    for payload in (noise, MARKED + noise):
        try:
            loads(payload)
        except CorruptFrame:
            continue


@given(values, st.data())
def test_a_payload_with_flipped_bits_is_a_value_or_a_corrupt_frame(value: object, data: st.DataObject) -> None:
    payload = bytearray(dumps(value))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        loads(bytes(payload))
    except CorruptFrame:
        return


def test_one_and_one_point_zero_and_true_stay_apart() -> None:
    assert [typed(value) for value in loads(dumps([1, 1.0, True]))] == ["int 1", "float 1.0", "bool True"]  # type: ignore[attr-defined]  # a list


def test_minus_zero_keeps_its_sign() -> None:
    assert math.copysign(1, loads(dumps(-0.0))) == -1  # type: ignore[arg-type]  # a float


def test_a_mapping_keeps_its_order() -> None:
    assert list(loads(dumps({"b": 1, "a": 2}))) == ["b", "a"]  # type: ignore[call-overload]  # a dict


def test_each_reading_is_a_fresh_copy() -> None:
    payload = dumps({"list": [1]})
    assert loads(payload)["list"] is not loads(payload)["list"]  # type: ignore[index]  # a dict


def test_the_fold_of_an_ambiguous_hour_is_kept() -> None:
    second = dt.datetime(2025, 10, 26, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris"))
    assert loads(dumps(second)).utcoffset() == dt.timedelta(hours=1)  # type: ignore[attr-defined]  # a datetime


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(str):
    __slots__ = ()


Point = collections.namedtuple("Point", "x y")


class Zone(dt.tzinfo):
    """A time zone that only this process knows."""

    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    def dst(self, when: dt.datetime | None) -> None:
        return None

    def tzname(self, when: dt.datetime | None) -> str:
        return "mine"


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        -float("inf"),
        "\ud800",
        object(),
        Colour.RED,
        Level.LOW,
        Word("text"),
        Point(1, 2),
        collections.OrderedDict(a=1),
        collections.defaultdict(int),
        collections.Counter("a"),
        bytearray(b"x"),
        memoryview(b"x"),
        np.float64(1.0),
        np.int64(1),
        np.zeros(2),
        ormsgpack.Ext(1, b"x"),
        decimal.Decimal("NaN"),
        decimal.Decimal("Infinity"),
        dt.datetime(2025, 1, 1, tzinfo=Zone()),
        dt.time(1),
        dt.timedelta(1),
        1j,
        range(3),
        {1: 2},
        {Word("key"): 1},
        {None: 1},
        {"\ud800": 1},
        Exception("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_not_come_back_equal_is_refused_with_its_path(value: object) -> None:
    with pytest.raises(UnstorableValue) as caught:
        dumps({"outer": [0, value]})
    assert caught.value.path == "outer[1]"
    with pytest.raises(UnstorableValue):
        dumps(value)
    with pytest.raises(UnstorableValue):
        dumps((value,))
    assert not is_immutable(value)
    assert not is_immutable((value,))


def test_a_cycle_is_refused_rather_than_followed() -> None:
    knot: list[object] = []
    knot.append({"again": (knot,)})
    with pytest.raises(UnstorableValue, match="within itself"):
        dumps(knot)


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: (inner,), lambda inner: {"k": inner}])
def test_nesting_is_stored_up_to_the_bound_and_refused_beyond(wrap) -> None:  # type: ignore[no-untyped-def]  # a lambda
    value: object = 0
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    assert same(loads(dumps(value)), value)
    for _ in range(10):
        value = wrap(value)
    with pytest.raises(UnstorableValue):
        dumps(value)


@pytest.mark.parametrize("depth", [1_100, 100_000])
@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa1k", b"\xc1", b"\x92\xd4\x10\x00", b"\xdd\x00\x00\x00\x01"])
def test_a_bomb_of_nested_containers_is_a_corrupt_frame(opener: bytes, depth: int) -> None:
    for payload in (opener * depth + b"\xc0", MARKED + opener * depth + b"\xc0"):
        with pytest.raises(CorruptFrame):
            loads(payload)


@pytest.mark.parametrize("opener", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_a_claim_of_four_billion_items_takes_no_memory(opener: bytes) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(CorruptFrame):
            loads(opener * 100)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(values)
def test_an_immutable_value_is_always_storable(value: object) -> None:
    if is_immutable(value):
        assert same(loads(dumps(value)), value)
    else:
        assert any(typed_name in repr_types(value) for typed_name in (dict, list, set))


def repr_types(value: object) -> set[type]:
    found = {type(value)}
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for item in value:
            found |= repr_types(item)
    return found


def test_a_uuid_that_stands_in_text_stays_text() -> None:
    text = str(uuid.uuid4())
    assert loads(dumps(text)) == text

"""The canonical form: the quick writer against the careful one, and both against a reference written plainly here."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import json
import math
import struct
import uuid
import zoneinfo
from collections import OrderedDict, deque, namedtuple
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ormsgpack
import pydantic
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcache_core.errors import KeyingError
from agentcache_core.keys import FunctionCall, KeyBuilder, ToolCall
from agentcache_core.keys.canonical import pack, pack_carefully
from agentcache_core.keys.lowering import Typing


def name_of(index: int) -> str:
    return f"item{index}"


def reference(value: Any) -> bytes:
    """JSON values as canonical MessagePack, from the MessagePack specification, without ormsgpack."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return reference_integer(value)
        case float():
            return b"\xcb" + (struct.pack(">d", value) if value == value else b"\x7f\xf8" + bytes(6))
        case str():
            text = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
            try:
                raw = text.encode()
            except UnicodeEncodeError:
                raw = text.encode("utf-8", "surrogatepass")
                return extension(2, raw)
            return sized(len(raw), [(0xA0, 32)], (0xD9, 0xDA, 0xDB)) + raw
        case bytes():
            if len(value) > 65535:
                return extension(3, struct.pack(">Q", len(value)) + blake3(value).digest())
            return sized(len(value), [], (0xC4, 0xC5, 0xC6)) + value
        case list() | tuple():
            return sized(len(value), [(0x90, 16)], (None, 0xDC, 0xDD)) + b"".join(map(reference, value))
        case dict():
            pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-8", "surrogatepass"))
            body = b"".join(reference(key) + reference(item) for key, item in pairs)
            return sized(len(value), [(0x80, 16)], (None, 0xDE, 0xDF)) + body
    raise AssertionError(type(value))


def reference_integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value) if value < 0 else bytes([value])
    for low, high, code, form in (
        (0, 2**8, 0xCC, ">B"),
        (0, 2**16, 0xCD, ">H"),
        (0, 2**32, 0xCE, ">I"),
        (0, 2**64, 0xCF, ">Q"),
        (-(2**7), 0, 0xD0, ">b"),
        (-(2**15), 0, 0xD1, ">h"),
        (-(2**31), 0, 0xD2, ">i"),
        (-(2**63), 0, 0xD3, ">q"),
    ):
        if low <= value < high:
            return bytes([code]) + struct.pack(form, value)
    return extension(1, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def sized(size: int, short: list[tuple[int, int]], codes: tuple[int | None, int, int]) -> bytes:
    for code, limit in short:
        if size < limit:
            return bytes([code | size])
    for code, limit, form in zip(codes, (2**8, 2**16, 2**32), (">B", ">H", ">I"), strict=True):
        if code is not None and size < limit:
            return bytes([code]) + struct.pack(form, size)
    raise AssertionError(size)


def extension(tag: int, raw: bytes) -> bytes:
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(len(raw))
    head = bytes([fixed]) if fixed else sized(len(raw), [], (0xC7, 0xC8, 0xC9))
    return head + bytes([tag]) + raw


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
floats = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([-0.0, 0.7, -math.nan, 2.0**1020])
integers = st.integers() | st.integers(min_value=-(2**70), max_value=2**70)
json_values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(texts, inner, max_size=20),
    max_leaves=30,
)
values = st.recursive(
    json_values | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=10,
)


def has_colliding_names(value: Any) -> bool:
    """Whether two names of one mapping are the same text once their surrogate pairs are joined."""
    if isinstance(value, dict):
        joined = {name.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") for name in value}
        return len(joined) < len(value) or any(map(has_colliding_names, value.values()))
    return isinstance(value, (list, tuple)) and any(map(has_colliding_names, value))


@given(st.lists(values, max_size=20))
@settings(max_examples=400)
def test_the_quick_and_the_careful_writer_and_the_reference_agree(items: list[Any]) -> None:
    if has_colliding_names(items):
        with pytest.raises(KeyingError):
            pack(items, Typing.WIRE, name_of)
        return
    expected = b"".join(map(reference, items))
    assert pack(items, Typing.WIRE, name_of) == expected
    assert pack_carefully(items, Typing.WIRE, name_of) == expected


@given(json_values)
def test_a_json_round_trip_never_changes_the_canonical_bytes(value: Any) -> None:
    if not has_colliding_names(value):
        assert pack([json.loads(json.dumps(value))], Typing.WIRE, name_of) == pack([value], Typing.WIRE, name_of)


@given(st.lists(values, max_size=3), st.sampled_from(list(Typing)))
def test_the_two_writers_agree_whatever_counts_of_types(items: list[Any], typing: Typing) -> None:
    if not has_colliding_names(items):
        assert pack(items, typing, name_of) == pack_carefully(items, typing, name_of)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 65535, 65536])
def test_a_longer_list_of_items_extends_the_bytes_of_a_shorter_one(count: int) -> None:
    items = ["m"] * count
    assert pack([*items, "next"], Typing.WIRE, name_of) == pack(items, Typing.WIRE, name_of) + b"\xa4next"


class Colour(enum.Enum):
    RED = 1


class Shape(enum.Enum):
    SQUARE = 1


class Level(enum.IntEnum):
    HIGH = 1


class Word(enum.StrEnum):
    A = "a"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(frozen=True)
class Circle:
    size: int


@dataclasses.dataclass(frozen=True)
class Square:
    size: int


class Model(pydantic.BaseModel):
    size: int
    inner: Any = None


Pair = namedtuple("Pair", "a b")

FOREIGN = [
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    datetime.datetime(2026, 1, 2, 4, 4, 5, 6, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, fold=1),
    datetime.date(2026, 1, 2),
    datetime.time(3, 4),
    datetime.timedelta(days=1, microseconds=5),
    uuid.UUID(int=7),
    decimal.Decimal("1.0"),
    decimal.Decimal("1.00"),
    decimal.Decimal("NaN"),
    {1, 2},
    set(),
    {"1", "2"},
    Rights.READ | Rights.WRITE,
    2**64,
    -(2**63) - 1,
    "\ud800",
    "\udc00",
    b"a",
    "a",
    1,
    1.0,
    True,
    -0.0,
    0.0,
    0,
    math.nan,
    math.inf,
    -math.inf,
    None,
    "",
    b"",
    [],
    {},
    [1, 2],
    ["1", "2"],
    "2026-01-02",
    str(uuid.UUID(int=7)),
    "1.0",
]


@pytest.mark.parametrize("typing", list(Typing))
def test_no_two_foreign_values_share_their_canonical_bytes(typing: Typing) -> None:
    packed = [pack([value], typing, name_of) for value in FOREIGN]
    assert len(set(packed)) == len(FOREIGN)
    assert packed == [pack_carefully([value], typing, name_of) for value in FOREIGN]


@pytest.mark.parametrize("typing", list(Typing))
@pytest.mark.parametrize(
    "value", FOREIGN, ids=lambda value: "set of two" if isinstance(value, set) and len(value) == 2 else repr(value)
)
def test_the_two_writers_agree_on_foreign_values_inside_others(value: Any, typing: Typing) -> None:
    for nested in ([value], {"x": value}, {"x": [{"y": value}]}, (value,), Model(size=1, inner=value), deque([value])):
        if not (isinstance(nested, Model) and typing is Typing.WIRE and isinstance(value, str) and not value.isascii()):
            assert pack([nested], typing, name_of) == pack_carefully([nested], typing, name_of)


@pytest.mark.parametrize("typing", [Typing.WIRE, Typing.PLAIN])
def test_what_json_writes_alike_counts_alike_unless_types_count_exactly(typing: Typing) -> None:
    for foreign, plain in [
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        (Level.HIGH, 1),
        (Word.A, "a"),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({Word.A: 1}, {"a": 1}),
    ]:
        assert pack([foreign], typing, name_of) == pack([plain], typing, name_of)


def test_types_count_exactly_in_the_arguments_of_a_function() -> None:
    alike = [(1, 2), [1, 2], Pair(1, 2), Level.HIGH, 1, True, 1.0, Word.A, "a", Circle(1), Square(1), {"size": 1}]
    alike += [Model(size=1), OrderedDict(size=1), Colour.RED, Shape.SQUARE, {1: "x"}, {"1": "x"}, {True: "x"}]
    keys = {KeyBuilder().key(FunctionCall("f", args=(argument,))).digest for argument in alike}
    assert len(keys) == len(alike)


def test_in_model_calls_and_tools_a_model_counts_as_the_json_it_is_sent_as() -> None:
    for given_, sent in [
        (Model(size=1), {"size": 1, "inner": None}),
        (Circle(1), {"size": 1}),
        (Model(size=1, inner=Circle(2)), {"size": 1, "inner": {"size": 2}}),
        (Colour.RED, 1),
    ]:
        assert KeyBuilder().key(ToolCall("t", {"x": given_})) == KeyBuilder().key(ToolCall("t", {"x": sent}))


def test_in_other_mappings_the_class_of_an_object_counts() -> None:
    requests = [
        {"x": Circle(1)},
        {"x": Square(1)},
        {"x": {"size": 1}},
        {"x": Colour.RED},
        {"x": Shape.SQUARE},
        {"x": 1},
    ]
    requests += [{"x": Model(size=1, inner=Circle(1))}, {"x": Model(size=1, inner=Square(1))}]
    assert len({KeyBuilder().key(request).digest for request in requests}) == len(requests)


def test_every_nan_counts_as_one() -> None:
    odd = struct.unpack(">d", b"\xff\xf8\0\0\0\0\0\1")[0]
    assert len({pack([{"x": [value] * 40}], Typing.WIRE, name_of) for value in (math.nan, -math.nan, odd)}) == 1


def test_a_surrogate_pair_counts_as_the_character_it_means() -> None:
    assert pack(["\ud83d\ude00"], Typing.WIRE, name_of) == pack(["😀"], Typing.WIRE, name_of)


def test_sets_count_whatever_their_order_and_their_elements() -> None:
    words = [f"w{i}" for i in range(50)]
    assert pack([set(words)], Typing.WIRE, name_of) == pack([frozenset(reversed(words))], Typing.WIRE, name_of)
    assert pack([{1}], Typing.WIRE, name_of) != pack([{True}], Typing.WIRE, name_of)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536, 3 << 20])
def test_bytes_and_a_file_count_by_content(size: int, tmp_path: Path) -> None:
    content = (b"\xc6\x00\xcb\x7f" * (size // 4 + 1))[:size]
    path = tmp_path / "image.bin"
    path.write_bytes(content)
    expected = pack([content], Typing.WIRE, name_of)
    assert len(expected) < 65_600
    assert pack([path], Typing.WIRE, name_of) == expected
    assert pack([bytearray(content)], Typing.WIRE, name_of) == expected
    assert pack([memoryview(content)], Typing.WIRE, name_of) == expected
    assert pack([io.BytesIO(content)], Typing.WIRE, name_of) == expected
    with path.open("rb") as file:
        file.read(1)
        assert pack([file], Typing.WIRE, name_of) == expected
        assert file.tell() == min(1, size)
    assert pack_carefully([path], Typing.WIRE, name_of) == expected
    changed = content[:-1] + b"!" if size else b"!"
    assert pack([changed], Typing.WIRE, name_of) != expected


def test_a_strided_memoryview_counts_as_its_bytes() -> None:
    assert pack([memoryview(b"abcdef")[::2]], Typing.WIRE, name_of) == pack([b"ace"], Typing.WIRE, name_of)


def test_a_function_is_told_apart_by_what_it_can_see_of_a_file(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    inside = io.BytesIO(b"same")
    inside.seek(1)
    arguments = [b"same", one, two, io.BytesIO(b"same"), inside]
    assert len({KeyBuilder().key(FunctionCall("f", args=(argument,))).digest for argument in arguments}) == 5
    assert len({KeyBuilder().key(ToolCall("f", {"x": argument})).digest for argument in arguments}) == 1
    before = KeyBuilder().key(FunctionCall("f", args=(one,)))
    one.write_bytes(b"changed")
    assert KeyBuilder().key(FunctionCall("f", args=(one,))) != before


def test_zones_with_one_offset_are_two_and_a_range_is_never_written_out() -> None:
    summer = datetime.datetime(2026, 7, 1)
    zones = [summer.replace(tzinfo=zoneinfo.ZoneInfo(name)) for name in ("Europe/Berlin", "Africa/Johannesburg")]
    assert zones[0] == zones[1]
    assert pack([zones[0]], Typing.WIRE, name_of) != pack([zones[1]], Typing.WIRE, name_of)
    assert len(pack([range(10**12)], Typing.WIRE, name_of)) < 40
    assert pack([range(3)], Typing.WIRE, name_of) != pack([[0, 1, 2]], Typing.WIRE, name_of)


def test_long_bytes_are_found_among_vietnamese_text() -> None:
    text = "ươ" * 40_000
    assert pack([text, bytes(70_000)], Typing.WIRE, name_of) == pack_carefully(
        [text, bytes(70_000)], Typing.WIRE, name_of
    )


def test_numpy_arrays_count_by_type_shape_and_content() -> None:
    numpy = pytest.importorskip("numpy")
    a = numpy.arange(6, dtype="int32")
    distinct = [a, a.reshape(2, 3), a.astype("int64"), a.tolist(), a.tobytes(), numpy.int32(1), 1]
    assert len({pack([value], Typing.WIRE, name_of) for value in distinct}) == len(distinct)
    assert pack([a[::-1][::-1]], Typing.WIRE, name_of) == pack([a], Typing.WIRE, name_of)
    assert pack([numpy.float64(0.5)], Typing.WIRE, name_of) == pack([0.5], Typing.WIRE, name_of)
    with pytest.raises(KeyingError, match="Python objects"):
        pack([numpy.array([object()])], Typing.WIRE, name_of)


def cyclic() -> list[Any]:
    inner: list[Any] = []
    inner.append({"again": inner})
    return inner


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        (object(), "x.y[1]", "no canonical form"),
        (lambda: 1, "x.y[1]", "no canonical form"),
        (iter([1]), "x.y[1]", "no canonical form"),
        (1j, "x.y[1]", "no canonical form"),
        ({1: "a"}, "x.y[1]", "mapping keys must be str"),
        ({None: "a"}, "x.y[1]", "mapping keys must be str"),
        ([{"z": {2: 3}}], "x.y[1][0].z", "mapping keys must be str"),
        (cyclic(), "x.y[1][0].again", "refers to itself"),
        (deep(400), "x.y[1]" + "[0]" * 251, "nested deeper than 255"),
        (Path("/does/not/exist"), "x.y[1]", "cannot be read"),
        (Path("/"), "x.y[1]", "/"),
        (io.StringIO("text"), "x.y[1]", "no canonical form"),
        ({1, object()}, "x.y[1] (an element)", "no canonical form"),
        (int, "x.y[1]", "no canonical form"),
    ],
)
def test_what_has_no_canonical_form_raises_naming_its_path(value: Any, path: str, says: str) -> None:
    with pytest.raises(KeyingError, match=says) as caught:
        KeyBuilder().key(ToolCall("t", {"x": {"y": [0, value]}}))
    assert caught.value.path == f"arguments.{path}"


class Broken:
    """A model that cannot be dumped."""

    def model_dump(self, **_: Any) -> Any:
        raise LookupError("no")


def test_an_object_that_cannot_be_read_raises_a_keying_error_at_its_place() -> None:
    unset = object.__new__(Circle)
    for broken, says in ((Broken(), "cannot be dumped: LookupError"), (unset, "was never set")):
        for request, path in (
            ({"model": "m", "messages": [{"role": "user", "content": "a"}, broken]}, "messages[1]"),
            ({"model": "m", "input": [{"role": "user", "content": [broken]}]}, "input[0]"),
            ({"model": "m", "messages": [], "x": {"y": broken}}, "x.y"),
            ({"y": [broken]}, "y[0]"),
        ):
            with pytest.raises(KeyingError, match=says) as caught:
                KeyBuilder().key(request)
            assert caught.value.path == path


def test_nesting_up_to_the_bound_is_kept_apart() -> None:
    keys = {KeyBuilder().key({"x": deep(levels)}).digest for levels in range(250)}
    assert len(keys) == 250


def test_the_two_writers_bound_nesting_alike() -> None:
    for levels in range(240, 270):
        try:
            quick: bytes | None = ormsgpack.packb([deep(levels)])
        except ormsgpack.MsgpackEncodeError:
            quick = None
        try:
            careful: bytes | None = pack_carefully([deep(levels)], Typing.WIRE, name_of)
        except KeyingError:
            careful = None
        assert (quick is None) == (careful is None), levels


def test_names_that_become_the_same_text_are_refused() -> None:
    with pytest.raises(KeyingError, match="two mapping keys"):
        pack([{"\ud83d\ude00": 1, "😀": 2}], Typing.WIRE, name_of)

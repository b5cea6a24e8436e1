"""Dataclasses, pydantic models, enums and named tuples come back as what they were, once an annotation names them."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, NamedTuple, Optional

import pytest
from pydantic import BaseModel, ConfigDict, PrivateAttr

from agentcache_core.codec.registered import serializer_for, serializers_for
from agentcache_core.codec.serialize import dumps, loads
from agentcache_core.errors import ConfigurationError, CorruptFrame, UnstorableValue


class Mood(enum.StrEnum):
    GOOD = "good"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Leaf:
    mood: Mood
    place: Place
    seen: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    leaves: list[Leaf]
    rights: Right = Right.READ
    parent: Optional[Tree] = None  # noqa: UP045 - both spellings of an optional must be found


class Inner(BaseModel):
    model_config = ConfigDict(extra="allow")
    when: tuple[int, ...]


class Answer(BaseModel):
    text: str
    inner: Inner | None = None
    by_name: dict[str, Annotated[Inner, "noted"]] = {}
    _seen: int = PrivateAttr(default=0)


def round_trip(value: Any, annotation: Any) -> Any:
    serializers = serializers_for(annotation)
    return loads(dumps(value, serializers=serializers), serializers=serializers)


def test_a_dataclass_comes_back_with_its_nested_types() -> None:
    leaf = Leaf(Mood.GOOD, Place(1, 2.0))
    leaf.seen = 7
    tree = Tree([leaf], Right.READ | Right.WRITE, Tree([]))
    back = round_trip([tree], list[Tree] | None)
    assert back == [tree]
    assert type(back[0].leaves[0].place) is Place
    assert back[0].leaves[0].seen == 7
    assert back[0].leaves[0].mood is Mood.GOOD


def test_a_pydantic_model_comes_back_with_extras_private_values_and_the_set_fields() -> None:
    answer = Answer(text="hi", by_name={"a": Inner(when=(1, 2), more="kept")})  # type: ignore[call-arg]  # an extra field
    answer._seen = 3
    back = round_trip({"answer": answer}, dict[str, Answer])["answer"]
    assert back == answer
    assert type(back) is Answer
    assert back.model_fields_set == {"text", "by_name"}
    assert back._seen == 3
    assert back.by_name["a"].more == "kept"
    assert type(back.by_name["a"].when) is tuple


def test_a_field_that_cannot_be_stored_is_named_by_its_path() -> None:
    with pytest.raises(UnstorableValue) as caught:
        dumps({"tree": Tree([object()])}, serializers=serializers_for(Tree))  # type: ignore[list-item]  # on purpose
    assert caught.value.path == "tree.leaves[0]"


def test_a_subclass_that_no_annotation_names_is_refused() -> None:
    class Special(Answer):
        pass

    with pytest.raises(UnstorableValue):
        dumps(Special(text="x"), serializers=serializers_for(Answer))


def test_a_value_of_a_type_that_the_reader_does_not_know_is_a_corrupt_frame() -> None:
    payload = dumps(Mood.GOOD, serializers=serializers_for(Mood))
    with pytest.raises(CorruptFrame, match="Mood"):
        loads(payload)


def test_fields_that_changed_since_make_a_corrupt_frame_and_not_half_an_object() -> None:
    @dataclasses.dataclass
    class Old:
        a: int

    @dataclasses.dataclass
    class New:
        b: int

    old, new = serializer_for(Old), serializer_for(New)
    renamed = dataclasses.replace(new, name=old.name)  # type: ignore[type-var]  # a TypeSerializer is a dataclass
    with pytest.raises(CorruptFrame, match="have changed"):
        loads(dumps(Old(1), serializers=[old]), serializers=[renamed])


def test_a_serializer_that_fails_is_an_unstorable_value() -> None:
    class Odd:
        pass

    class OddSerializer:
        name = "odd"
        type = Odd

        def dump(self, value: Odd) -> object:
            raise RuntimeError("no")

        def load(self, stored: Any) -> Odd:
            return Odd()

    with pytest.raises(UnstorableValue, match="odd"):
        dumps([Odd()], serializers=[OddSerializer()])


def test_a_type_that_none_can_be_made_for_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"builtins\.complex"):
        serializer_for(complex)
    assert serializers_for(list[complex] | dict[str, Any]) == ()

"""Serializers made from types: dataclasses, pydantic models, enums and named tuples, wherever an annotation names them.

`returns=Answer`, or the return annotation of a memoized function, becomes the serializers of every such class it
mentions, fields of fields included. A value is stored by its exact type; a subclass that no annotation names is
refused, since it would come back as its parent.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from collections.abc import Callable, Iterator
from typing import Any, Final

from agentcache_core.codec.serialize import Serializer
from agentcache_core.errors import ConfigurationError

_SKIPPED: Final = (type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset, object)


@dataclasses.dataclass(frozen=True, slots=True)
class TypeSerializer:
    """A serializer made for one type. `name` is the type's module and qualified name."""

    name: str
    type: type
    dump: Callable[[Any], object]
    load: Callable[[Any], Any]


def serializer_for(kind: type) -> Serializer:
    """The serializer of one dataclass, pydantic model, enum or named tuple class.

    What it dumps holds the field values themselves, so types of fields need serializers too: see `serializers_for`.
    Raises `ConfigurationError` for any other type.
    """
    for fits, build in _BUILDERS:
        if fits(kind):
            dump, load = build(kind)
            return TypeSerializer(f"{kind.__module__}.{kind.__qualname__}", kind, dump, load)
    raise ConfigurationError(
        f"no serializer can be made for {kind.__module__}.{kind.__qualname__}: give dataclasses, pydantic models, "
        "enums or named tuples, or pass an object with name, type, dump and load in serializers="
    )


def serializers_for(annotation: Any) -> tuple[Serializer, ...]:
    """The serializers of each dataclass, pydantic model, enum and named tuple that `annotation` mentions, however deep.

    `list[Answer] | None` gives those of Answer and of the types of its fields. Types that are stored without a
    serializer, and those that none can be made for, give none. The same annotation gives the same objects again.
    """
    try:
        return _cached(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _serializers_for(annotation)


def _serializers_for(annotation: Any) -> tuple[Serializer, ...]:
    found: dict[type, Serializer] = {}
    waiting = [annotation]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, type) and typing.get_origin(current) is None:
            if current not in _SKIPPED and current not in found and any(fits(current) for fits, _ in _BUILDERS):
                found[current] = serializer_for(current)
                waiting.extend(_field_types(current))
        else:
            waiting.extend(typing.get_args(current))
            origin = typing.get_origin(current)
            if origin is not None:
                waiting.append(origin)
    return tuple(found.values())


_cached = functools.lru_cache(maxsize=1024)(_serializers_for)


def _field_types(kind: type) -> Iterator[Any]:
    if _is_pydantic(kind):
        yield from (field.annotation for field in kind.model_fields.values())  # type: ignore[attr-defined]  # pydantic
        return
    try:
        yield from typing.get_type_hints(kind).values()
    except (NameError, TypeError):
        # An annotation that cannot be resolved here names no type we could find; its values are refused by name.
        return


def _is_dataclass(kind: type) -> bool:
    return dataclasses.is_dataclass(kind)


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_fields") and hasattr(kind, "__pydantic_validator__")


def _is_enum(kind: type) -> bool:
    return issubclass(kind, enum.Enum)


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields") and hasattr(kind, "_make")


def _for_enum(kind: Any) -> tuple[Callable[[Any], object], Callable[[Any], Any]]:
    if issubclass(kind, enum.Flag):
        return (lambda member: member.value), kind
    return (lambda member: member.name), (lambda name: kind[name])


def _for_named_tuple(kind: Any) -> tuple[Callable[[Any], object], Callable[[Any], Any]]:
    return list, kind._make


def _for_dataclass(kind: Any) -> tuple[Callable[[Any], object], Callable[[Any], Any]]:
    names = tuple(field.name for field in dataclasses.fields(kind))

    def dump(value: Any) -> object:
        return {name: getattr(value, name) for name in names}

    def load(stored: dict[str, Any]) -> Any:
        _check_names(kind, names, stored)
        # As `copy` does: neither __init__ nor __post_init__ runs, so derived fields come back as they were.
        value = object.__new__(kind)
        for name in names:
            object.__setattr__(value, name, stored[name])
        return value

    return dump, load


def _for_pydantic(kind: Any) -> tuple[Callable[[Any], object], Callable[[Any], Any]]:
    names = tuple(kind.model_fields)

    def dump(model: Any) -> object:
        state = model.__getstate__()
        extra, private = state["__pydantic_extra__"], state["__pydantic_private__"]
        return [state["__dict__"], sorted(state["__pydantic_fields_set__"]), extra, private]

    def load(stored: list[Any]) -> Any:
        fields, fields_set, extra, private = stored
        _check_names(kind, names, {name: None for name in fields if name in kind.model_fields})
        model = kind.__new__(kind)
        model.__setstate__(
            {
                "__dict__": fields,
                "__pydantic_fields_set__": set(fields_set),
                "__pydantic_extra__": extra,
                "__pydantic_private__": private,
            }
        )
        return model

    return dump, load


def _check_names(kind: type, names: tuple[str, ...], stored: dict[str, Any]) -> None:
    if stored.keys() != set(names):
        raise ValueError(f"the fields of {kind.__qualname__} have changed since this was stored")


_BUILDERS: Final[tuple[tuple[Callable[[type], bool], Callable[[Any], Any]], ...]] = (
    (_is_pydantic, _for_pydantic),
    (_is_enum, _for_enum),
    (_is_named_tuple, _for_named_tuple),
    (_is_dataclass, _for_dataclass),
)

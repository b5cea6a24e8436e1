"""Messages as they count: the deny-list applied, volatile ids replaced by ordinals.

A tool-call id is chosen afresh at each run, so it cannot count as it is; and it repeats inside real conversations, so
it cannot be mapped one to one. Each *defining* occurrence takes the next ordinal; a reference counts as the ordinal of
the latest definition before it, or as it is when nothing defined it.

This room is the quick form of the rules in `denylist.py`, which `explain` interprets one by one; a property test holds
the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import ormsgpack

from agentcache_core.errors import KeyingError
from agentcache_core.keys.denylist import ID_IS_NOISE, MESSAGES
from agentcache_core.keys.lowering import dataclass_fields, is_dataclass, is_model, model_fields, ordinal

_EMPTY: Final = "empty"
_LATER: Final = "later"


def _level(prefix: str, **special: str) -> dict[str, str]:
    """What happens to the named fields directly under `prefix`; the null rule of every level is in the loops."""
    verdicts = {
        rule.path[len(prefix) :]: str(rule.when)
        for rule in MESSAGES
        if rule.path.startswith(prefix) and rule.path[len(prefix) :].isidentifier()
    }
    return verdicts | special


_MESSAGE: Final = _level("messages[*].", id=_LATER)
_RULED: Final = frozenset(_MESSAGE) - {"tool_calls"}  # met in every agent's request, so looked after apart
_PART: Final = _level("messages[*].content[*].", id=_LATER, tool_use_id=_LATER, content=_LATER)
_INNER_PART: Final = _level("messages[*].content[*].content[*].")
_CALL: Final = _level("messages[*].tool_calls[*].")
_FUNCTION: Final = _level("messages[*].tool_calls[*].function.")

_ORDINALS: Final = tuple(ordinal(number) for number in range(256))


class VolatileIds:
    """The ids of one conversation, read from its beginning: which ordinal an id last stood for."""

    __slots__ = ("_count", "_latest")

    def __init__(self) -> None:
        self._count = 0
        self._latest: dict[str, ormsgpack.Ext] = {}

    def define(self, id_: Any) -> Any:
        """The next ordinal, for a new occurrence of this id; anything but a str counts as it is."""
        if type(id_) is not str and not isinstance(id_, str):
            return id_
        count = self._count
        self._count = count + 1
        mark = self._latest[id_] = _ORDINALS[count] if count < 256 else ordinal(count)
        return mark

    def refer(self, id_: Any) -> Any:
        """The ordinal of the latest definition of this id, or the id itself when there is none."""
        return self._latest.get(id_, id_) if isinstance(id_, str) else id_


def normalized(messages: Iterable[Any], name: str = "messages") -> list[Any]:
    """The messages as they count, in order. What nothing has to be done to is passed on, not copied.

    `name` is where they stand in the request, for the path of a `KeyingError`.
    """
    ids = VolatileIds()
    out: list[Any] = []
    try:
        for message in messages:
            if type(message) is dict:
                if len(message) == 2 and type(message.get("content")) is str and message.get("role"):
                    out.append(message)
                else:
                    out.append(_message(message, ids))
            else:
                fields = as_mapping(message)
                out.append(message if fields is None else _message(fields, ids))
    except KeyingError as error:
        raise KeyingError(str(error), path=f"{name}[{len(out)}]") from error
    return out


def as_mapping(obj: Any) -> dict[Any, Any] | None:
    """An SDK object, dataclass or mapping as a plain dict; None for what has no fields."""
    if isinstance(obj, Mapping):
        return dict(obj)
    if is_dataclass(obj):
        return dataclass_fields(obj)
    if is_model(obj):
        fields = model_fields(obj)
        return fields if isinstance(fields, dict) else None
    return None


def _message(message: dict[Any, Any], ids: VolatileIds) -> dict[Any, Any]:
    if len(message) == 3:
        usual = _usual(message, ids)
        if usual is not None:
            return usual
    out = {name: value for name, value in message.items() if value is not None}
    if not _RULED.isdisjoint(out):
        _apply_rules(out)
    # References before definitions, and definitions in a fixed order: the order of a mapping never counts.
    if "tool_call_id" in out:
        out["tool_call_id"] = ids.refer(out["tool_call_id"])
    if "call_id" in out:
        counts_as = ids.refer if str(out.get("type")).endswith("_output") else ids.define
        out["call_id"] = counts_as(out["call_id"])
    content = out.get("content")
    if type(content) is list or type(content) is tuple or isinstance(content, (list, tuple)):
        out["content"] = [_part(part, ids) for part in content]
    if "tool_calls" in out:
        calls = out["tool_calls"]
        if _is_empty(calls):
            del out["tool_calls"]
        elif isinstance(calls, (list, tuple)):
            out["tool_calls"] = [_call(call, ids) for call in calls]
    return out


def _usual(message: dict[Any, Any], ids: VolatileIds) -> dict[Any, Any] | None:
    """What the rules below would give for the two messages that every agent's request is full of: a turn that calls
    tools, and a tool's result. None for any other."""
    role = message.get("role")
    if role is None:
        return None
    content = message.get("content", ids)  # a default that nobody can have put there
    calls = message.get("tool_calls")
    if type(calls) is list and calls:
        if content is None:
            return {"role": role, "tool_calls": [_call(call, ids) for call in calls]}
        if type(content) is str:
            return {"role": role, "content": content, "tool_calls": [_call(call, ids) for call in calls]}
        return None
    result_of = message.get("tool_call_id")
    if type(result_of) is str and type(content) is str:
        return {"role": role, "content": content, "tool_call_id": ids.refer(result_of)}
    return None


def _apply_rules(message: dict[Any, Any]) -> None:
    for name in _RULED & message.keys():
        verdict = _MESSAGE[name]
        if verdict == _LATER:
            counts = not _id_is_noise(message.get("type"))
        else:
            counts = verdict == _EMPTY and not _is_empty(message[name])
        if not counts:
            del message[name]


def _id_is_noise(kind: Any) -> bool:
    return kind is None or (isinstance(kind, str) and kind in ID_IS_NOISE)


def _part(part: Any, ids: VolatileIds) -> Any:
    if type(part) is dict and len(part) == 2 and type(part.get("text")) is str and type(part.get("type")) is str:
        return part
    fields = part if type(part) is dict else as_mapping(part)
    if fields is None:
        return part
    out = {}
    for name, value in fields.items():
        if value is None:
            continue
        verdict = _PART.get(name)
        if verdict is None:
            out[name] = value
        elif verdict is _LATER:
            if name == "tool_use_id":
                out[name] = ids.refer(value)
            elif name == "content" and isinstance(value, (list, tuple)):
                out[name] = [_plain(inner, _INNER_PART) for inner in value]
            elif name != "id":
                out[name] = value
        elif verdict == _EMPTY and not _is_empty(value):
            out[name] = value
    id_ = fields.get("id")
    if id_ is not None:
        out["id"] = ids.define(id_) if str(fields.get("type")).endswith("tool_use") else id_
    return out


def _call(call: Any, ids: VolatileIds) -> Any:
    fields = call if type(call) is dict else as_mapping(call)
    if fields is None:
        return call
    function = fields.get("function")
    id_ = fields.get("id")
    if (
        len(fields) == 3
        and type(id_) is str
        and type(fields.get("type")) is str
        and type(function) is dict
        and len(function) == 2
        and type(function.get("arguments")) is str
        and type(function.get("name")) is str
    ):  # all that a call usually has: no rule can apply
        return {"id": ids.define(id_), "type": fields["type"], "function": function}
    out = {name: value for name, value in fields.items() if value is not None and name not in _CALL}
    if id_ is not None:
        out["id"] = ids.define(id_)
    if function is not None:
        out["function"] = _plain(function, _FUNCTION)
    return out


def _plain(fields: Any, verdicts: dict[str, str]) -> Any:
    """A mapping without its nulls and without what its level's rules leave out; anything else as it is."""
    mapping = fields if type(fields) is dict else as_mapping(fields)
    if mapping is None:
        return fields
    return {name: value for name, value in mapping.items() if value is not None and name not in verdicts}


def _is_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) and not value

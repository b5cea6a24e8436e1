"""What a tool does to the world, as declared: nothing (pure), looking (read), changing (write), or unknown (never).

Declarations come from decorators or from a TOML file of this shape::

    [tools.get_user]
    effect = "read"              # pure | read | write | never
    ttl = "10m"
    reads = ["user:{user_id}"]   # for reads: the resources the result depends on

    [tools.update_user]
    effect = "write"
    writes = ["user:{user_id}"]  # for writes: the resources it changes; none named = everything

`{name}` stands for an argument, `{a.b}` for a field of one, `{items.*.id}` for that field of every item of a list.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from agentcache_core.errors import ConfigurationError
from agentcache_core.policy.freshness import seconds_of

Arguments: TypeAlias = Mapping[str, Any]
Ttl: TypeAlias = "float | str | timedelta | None"
Reads: TypeAlias = Callable[[Arguments], Iterable[str]]
Writes: TypeAlias = Callable[[Arguments, Any], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Pure:
    """A tool whose result depends on its arguments alone, for ever (or for `ttl`)."""

    ttl: Ttl = None
    secret: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """A tool that looks at the world and leaves it as it is.

    `reads` names the resources a result depends on; without it a result depends on everything, so that any write
    drops it. `coherent`: confirm with the authority that nothing was invalidated before a result is served. `secret`
    names arguments that count by keyed hash only. `cache_errors` are exceptions that are answers, such as a
    `NotFound`: they are stored and raised again.
    """

    ttl: Ttl = None
    reads: Reads | None = None
    coherent: bool = True
    secret: tuple[str, ...] = ()
    cache_errors: tuple[type[Exception], ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """A tool that changes the world: it always runs. `writes` names the resources it changes, from its arguments and
    its result (None while it has none); without names every read of the scope is dropped."""

    writes: Writes | None = None
    secret: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Never:
    """A tool that always runs, is never stored, and is declared to change nothing that a read depends on."""


Effect: TypeAlias = Pure | Read | Write | Never

_FIELDS = {
    "pure": {"effect", "ttl", "secret", "version"},
    "read": {"effect", "ttl", "reads", "coherent", "secret", "version"},
    "write": {"effect", "writes", "secret"},
    "never": {"effect"},
}


def load_effects(source: str | Path | Mapping[str, Any]) -> dict[str, Effect]:
    """The declared effect of every tool named in a TOML file (its path) or an already parsed mapping.

    Raises `ConfigurationError` naming the tool, the field and the remedy.
    """
    if isinstance(source, Mapping):
        declared, where = source, "the effects"
    else:
        where = str(source)
        try:
            declared = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"cannot read the effects file {where}: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{where} is not valid TOML: {error}") from error
    tables = declared.get("tools")
    if not isinstance(tables, Mapping):
        raise ConfigurationError(f"{where} declares no tools: write one table [tools.NAME] for each tool")
    return {str(name): _effect(str(name), table, where) for name, table in tables.items()}


def _effect(name: str, table: Any, where: str) -> Effect:
    place = f"{where}, [tools.{name}]"
    kind = table.get("effect") if isinstance(table, Mapping) else None
    if kind not in _FIELDS:
        raise ConfigurationError(f'{place}: effect must be "pure", "read", "write" or "never", got {kind!r}')
    for field in table:
        if field not in _FIELDS[kind]:
            near = difflib.get_close_matches(field, _FIELDS[kind], 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; a {kind} tool takes {sorted(_FIELDS[kind])}"
            raise ConfigurationError(f"{place}: unknown field {field!r}{hint}")
    secret = tuple(_strings(table.get("secret", []), f"{place}: secret"))
    if table.get("ttl") is not None:
        seconds_of(table["ttl"], name=f"{place}: ttl")
    if kind == "pure":
        return Pure(table.get("ttl"), secret, str(table.get("version", "")))
    if kind == "read":
        templates = _templates(table.get("reads"), f"{place}: reads")
        coherent = table.get("coherent", True)
        if not isinstance(coherent, bool):
            raise ConfigurationError(f"{place}: coherent must be true or false, got {coherent!r}")
        return Read(table.get("ttl"), templates, coherent, secret, (), str(table.get("version", "")))
    if kind == "write":
        changed = _templates(table.get("writes"), f"{place}: writes")
        return Write(None if changed is None else lambda arguments, result: changed(arguments), secret)
    return Never()


def _strings(values: Any, place: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigurationError(f"{place} must be a list of strings, got {values!r}")
    return values


def _templates(values: Any, place: str) -> Reads | None:
    if values is None:
        return None
    templates = _strings(values, place)
    for template in templates:
        if re.sub(r"\{[^{}]+\}", "", template).strip("{}") != re.sub(r"\{[^{}]+\}", "", template):
            raise ConfigurationError(f"{place}: unbalanced braces in {template!r}")

    def resources(arguments: Arguments) -> list[str]:
        return [resource for template in templates for resource in expand(template, arguments)]

    return resources


_HOLE = re.compile(r"\{([^{}]+)\}")


def expand(template: str, arguments: Arguments) -> list[str]:
    """The resources a template names for these arguments: one, or one for every item where a path holds `*`.

    Looks into mappings and lists only, never at attributes. Raises `KeyError` naming a path that leads nowhere.
    """
    hole = _HOLE.search(template)
    if hole is None:
        return [template]
    head, tail = template[: hole.start()], template[hole.end() :]
    values = _walk(arguments, hole[1].split("."), hole[1])
    return [f"{head}{_word(value)}{rest}" for value in values for rest in expand(tail, arguments)]


def _walk(at: Any, steps: list[str], path: str) -> list[Any]:
    if not steps:
        return [at]
    step, rest = steps[0], steps[1:]
    if step == "*" and isinstance(at, list | tuple):
        return [value for item in at for value in _walk(item, rest, path)]
    if isinstance(at, Mapping) and step in at:
        return _walk(at[step], rest, path)
    raise KeyError(path)


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise KeyError(f"a resource is named by strings and integers, not by {type(value).__name__}")
    return str(value)

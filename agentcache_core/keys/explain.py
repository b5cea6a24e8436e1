"""What a key is made of, for people: every component, whether it counts, and by which rule it does not.

The rules of the deny-list are interpreted here one by one, as they are written; the quick form that keys are computed
by is in `volatile.py` and `body.py`, and a property test holds the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agentcache_core.keys.body import GENERIC, Body, body_of, kind_of, path_of, request_mapping
from agentcache_core.keys.builder import KEY_SCHEME, KeyBuilder
from agentcache_core.keys.canonical import pack
from agentcache_core.keys.denylist import DENYLIST_VERSION, MESSAGES, PROVIDERS, Rule
from agentcache_core.keys.lowering import Typing, ordinal_of
from agentcache_core.keys.requests import EmbeddingRequest, ToolCall
from agentcache_core.keys.shown import WITHHELD, holds_secret, is_secret_name, shown
from agentcache_core.keys.volatile import as_mapping

_Pattern = tuple[Rule, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a request: where it stands, whether it counts, and if not, which rule says so and why.

    `hash` is a short fingerprint of its canonical form: two requests whose keys agree have the same hashes. Empty for
    what does not count and for what holds a secret.
    """

    path: str
    counted: bool
    hash: str
    value: str
    rule: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that went into the key of one request, and everything that did not. Holds no secret value."""

    kind: str
    provider: str
    digest: str
    scheme: int
    denylist_version: int
    tenant: str
    namespace: str
    sample: int
    components: tuple[Component, ...]

    @property
    def counted(self) -> tuple[Component, ...]:
        """The components that make the key, in the order in which they enter it."""
        return tuple(component for component in self.components if component.counted)

    @property
    def excluded(self) -> tuple[Component, ...]:
        """The components that do not count, each with its rule and reason."""
        return tuple(component for component in self.components if not component.counted)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        fields = ("path", "counted", "hash", "value", "rule", "reason")
        heads = ("kind", "provider", "digest", "scheme", "denylist_version", "tenant", "namespace", "sample")
        return {head: getattr(self, head) for head in heads} | {
            "components": [{name: getattr(part, name) for name in fields} for part in self.components]
        }

    def __str__(self) -> str:
        view = f"tenant {self.tenant!r}, namespace {self.namespace!r}, sample {self.sample}"
        lines = [f"{self.kind} request for {self.provider}, key {self.digest[:16]}… (scheme {self.scheme}; {view})"]
        width = max((len(part.path) for part in self.components), default=0)
        lines += ["counts:"]
        lines += [f"  {part.path:<{width}}  {part.hash or '-' * 16}  {part.value}" for part in self.counted]
        if self.excluded:
            lines += [f"does not count (deny-list version {self.denylist_version}):"]
            lines += [f"  {part.path:<{width}}  {part.rule}: {part.reason}" for part in self.excluded]
        return "\n".join(lines)


def explain(
    request: object, *, tenant: str = "", namespace: str = "", sample: int = 0, secret: bytes | None = None
) -> Explanation:
    """What the key of `request` is made of in this view. `KeyingError` where the request has no key."""
    builder = KeyBuilder(tenant=tenant, namespace=namespace, secret=secret)
    digest = builder.digest_of(request, sample=sample)
    body = body_of(request, sample)
    parts = [part for index in range(3, len(body[1])) for part in _parts(body, index, builder, request)]
    return Explanation(
        kind=body[0],
        provider=str(body[1][1]),
        digest=digest.hex(),
        scheme=KEY_SCHEME,
        denylist_version=DENYLIST_VERSION,
        tenant=tenant,
        namespace=namespace,
        sample=sample,
        components=(*parts, *map(_left_out, exclusions(request))),
    )


def _parts(body: Body, index: int, builder: KeyBuilder, request: object) -> list[Component]:
    """A field of the body as components: one for each parameter, tool, argument or message."""
    kind, fields, typing = body
    path = path_of(body, index)
    value = fields[index]
    if kind == "chat" and (index == 3 or (index in (5, 6) and value is None)):
        return []
    if path == "credential":
        return [Component(path, True, "", WITHHELD)] if value is not None else []
    if kind in ("tool", "http") and value in (None, "", ()):
        return []
    nested = as_mapping(value)
    if nested is not None and not path.startswith(("messages[", "input[")):
        return [
            _component(f"{path}.{name}" if path else str(name), item, typing, builder, _hidden_argument(request, name))
            for name, item in nested.items()
        ]
    if isinstance(value, (list, tuple)) and kind in ("chat", "function", "http"):
        return [_component(f"{path}[{at}]", item, typing, builder) for at, item in enumerate(value)]
    part = _component(path, value, typing, builder)
    ids = [f"{where} counts as volatile id {number}" for where, number in ordinals(value, path)]
    return [replace(part, reason="; ".join(ids))] if ids else [part]


def _hidden_argument(request: object, name: object) -> bool:
    return isinstance(request, ToolCall) and name in request.secret


def _component(path: str, value: Any, typing: Typing, builder: KeyBuilder, hidden: bool = False) -> Component:
    if hidden or is_secret_name(path.rpartition(".")[2]) or _is_secret_pair(value):
        return Component(path, True, "", WITHHELD)
    canonical = pack([value], typing, lambda _: path)
    return Component(path, True, "" if holds_secret(value) else builder.short_hash(canonical), shown(value))


def _is_secret_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and is_secret_name(value[0])


def _left_out(exclusion: Exclusion) -> Component:
    rule = exclusion.rule
    owner = "messages" if rule in MESSAGES else next(name for name, rules in PROVIDERS.items() if rule in rules)
    condition = "" if rule.when == "always" else f" when {rule.when}"
    return Component(exclusion.path, False, "", "", f"{owner}/{DENYLIST_VERSION} {rule.path}{condition}", rule.reason)


def ordinals(value: Any, path: str) -> list[tuple[str, int]]:
    """Where in a normalized message volatile ids stand, and which ordinal each counts as."""
    number = ordinal_of(value)
    if number is not None:
        return [(path, number)]
    if isinstance(value, dict):
        return [found for name, item in value.items() for found in ordinals(item, f"{path}.{name}")]
    if isinstance(value, list):
        return [found for at, item in enumerate(value) for found in ordinals(item, f"{path}[{at}]")]
    return []


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One place of a request that does not count: where, what stands there, and the rule that leaves it out."""

    path: str
    value: Any
    rule: Rule


def exclusions(request: object) -> list[Exclusion]:
    """Every place of a model call that does not count; none for other kinds."""
    return stripped(request)[1]


def stripped(request: object) -> tuple[Any, list[Exclusion]]:
    """A request without what the deny-list names (volatile ids untouched), and what was taken away."""
    found: list[Exclusion] = []
    if isinstance(request, EmbeddingRequest):
        rules = PROVIDERS.get(request.provider, ())
        return _strip(dict(request.parameters), "parameters", _patterns(rules), found), found
    if kind_of(request) != "chat":
        return request, found
    mapping = request_mapping(request)
    shape = "messages" if "messages" in mapping else "input"
    patterns = _patterns(PROVIDERS.get(mapping.get("provider", GENERIC), ()))
    if isinstance(mapping[shape], (list, tuple)):
        patterns += [(rule, (shape, *tokens[1:])) for rule, tokens in _patterns(MESSAGES)]
    return _strip(mapping, "", patterns, found), found


def _patterns(rules: tuple[Rule, ...]) -> list[_Pattern]:
    return [(rule, tuple(rule.path.replace("[*]", ".[*]").split("."))) for rule in rules]


def _strip(value: Any, path: str, patterns: list[_Pattern], found: list[Exclusion]) -> Any:
    if not patterns:
        return value
    if isinstance(value, (list, tuple)):
        below = [(rule, tokens[1:]) for rule, tokens in patterns if tokens[0] == "[*]"]
        return [_strip(item, f"{path}[{at}]", below, found) for at, item in enumerate(value)]
    mapping = as_mapping(value)
    if mapping is None:
        return value
    kept = {}
    for name, item in mapping.items():
        where = f"{path}.{name}" if path else str(name)
        here = [(rule, tokens) for rule, tokens in patterns if tokens[0] in (name, "*")]
        ruled = next((rule for rule, tokens in here if len(tokens) == 1 and rule.applies_to(item, mapping)), None)
        if ruled is not None:
            found.append(Exclusion(where, item, ruled))
        else:
            kept[name] = _strip(item, where, [(rule, tokens[1:]) for rule, tokens in here if len(tokens) > 1], found)
    return kept

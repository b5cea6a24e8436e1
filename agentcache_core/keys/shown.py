"""How parts of a request are shown to people: shortened, and with secrets withheld."""

from __future__ import annotations

import re
from typing import Any, Final

import ormsgpack

from agentcache_core.keys.lowering import ordinal_of
from agentcache_core.keys.volatile import as_mapping

WITHHELD: Final = "(secret, not shown)"

_SECRET_NAME: Final = re.compile(
    r"(?:^|[-_.])(?:authorization|credentials?|cookie|passw(?:or)?d|passphrase|secret|bearer|"
    r"(?:api|access|private|secret|auth)[-_]?(?:key|token)|(?:auth|session|refresh|id)[-_]token|^token)$",
    re.IGNORECASE,
)
_WIDTH: Final = 72


def is_secret_name(name: object) -> bool:
    """Whether a field of this name holds a secret by all custom: `Authorization`, `api_key`, `password`, `token` …"""
    return isinstance(name, str) and _SECRET_NAME.search(name) is not None


def holds_secret(value: Any) -> bool:
    """Whether a field with a secret name stands anywhere inside."""
    mapping = as_mapping(value)
    if mapping is not None:
        return any(is_secret_name(name) or holds_secret(item) for name, item in mapping.items())
    return is_named_secret(value) or (isinstance(value, (list, tuple)) and any(map(holds_secret, value)))


def is_named_secret(item: Any) -> bool:
    """Whether this is a (name, value) pair, such as an HTTP header, with a secret name."""
    return isinstance(item, (list, tuple)) and len(item) == 2 and is_secret_name(item[0])


def withheld(value: Any) -> Any:
    """`value` with everything under a secret name replaced by `WITHHELD`."""
    if is_named_secret(value):
        return [value[0], WITHHELD]
    mapping = as_mapping(value)
    if mapping is not None:
        return {name: WITHHELD if is_secret_name(name) else withheld(item) for name, item in mapping.items()}
    return [withheld(item) for item in value] if isinstance(value, (list, tuple)) else value


def shown(value: Any, *, width: int = _WIDTH) -> str:
    """`value` in at most about `width` characters, secrets withheld."""
    if isinstance(value, str) and value is WITHHELD:
        return WITHHELD
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(bytes(value))} bytes"
    if isinstance(value, ormsgpack.Ext):
        return _mark(value)
    text = repr(value) if isinstance(value, str) else _compact(withheld(value))
    if len(text) <= width:
        return text
    return f"{text[: width - 16]}… ({len(text):,} chars)"


def shown_pair(before: Any, after: Any, *, width: int = _WIDTH) -> tuple[str, str]:
    """Two values, cut so that the first place where they differ is in sight."""
    if not (isinstance(before, str) and isinstance(after, str)) or before is WITHHELD or after is WITHHELD:
        return shown(before, width=width), shown(after, width=width)
    if max(len(before), len(after)) <= width:
        return repr(before), repr(after)
    same = 0
    for ours, theirs in zip(before, after, strict=False):
        if ours != theirs:
            break
        same += 1
    start = max(0, same - width // 3)
    return _around(before, start, width), _around(after, start, width)


def _around(text: str, start: int, width: int) -> str:
    cut = repr(text[start : start + width])
    return f"{'…' if start else ''}{cut}{'…' if start + width < len(text) else ''}"


def _compact(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_compact(item)}" for name, item in list(value.items())[:12]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_compact(item) for item in value[:12]) + (", …]" if len(value) > 12 else "]")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(bytes(value))} bytes"
    return _mark(value) if isinstance(value, ormsgpack.Ext) else repr(value)


def _mark(mark: ormsgpack.Ext) -> str:
    number = ordinal_of(mark)
    return "(marked value)" if number is None else f"(volatile id {number})"

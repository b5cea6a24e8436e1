"""Secrets in other people's settings: found by name, counted by a keyed hash, stored nowhere."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from blake3 import blake3

_NAME = re.compile(r"auth|token(?!s|iz)|secret|api-?_?key|apikey|cookie|session|signature|password|credential|^key$")


@functools.lru_cache(maxsize=1024)
def is_credential(name: str) -> bool:
    """Whether a header, query field or setting of this name holds a secret."""
    return bool(_NAME.search(name.lower()))


def digest(pairs: Iterable[tuple[str, str]], *, secret: bytes = b"") -> str:
    """A keyed BLAKE3 digest (hex) over (name, value) pairs, whatever their order; empty values do not count."""
    hasher = blake3(key=blake3(secret, derive_key_context="agentcache 2026 http credentials v1").digest())
    for name, value in sorted(pairs):
        if not value:
            continue
        for part in (name.encode(), value.encode("utf-8", "surrogateescape")):
            hasher.update(len(part).to_bytes(8, "little"))
            hasher.update(part)
    return hasher.hexdigest()


def hashed(settings: Mapping[str, Any], *, secret: bytes = b"") -> dict[str, Any]:
    """The settings with every secret, at any depth of mappings, replaced by its digest."""
    clean: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            clean[name] = hashed(value, secret=secret)
        elif is_credential(name) and value:
            clean[name] = {"keyed hash": digest([(name, str(value))], secret=secret)}
        else:
            clean[name] = value
    return clean

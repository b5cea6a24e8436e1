"""The settings of one cache, checked once at construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from agentcache_core.clock import Clock
from agentcache_core.codec.encrypt import Keyring
from agentcache_core.codec.serialize import Serializer
from agentcache_core.errors import ConfigurationError
from agentcache_core.policy.freshness import Lifetime

Mode = Literal["live", "record", "replay", "refresh", "off"]
DEADLINE = 0.25
"""The usual deadline, in seconds. A scheme that leads further away may suggest another in its place."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a cache was asked to be. Durations in seconds, sizes in bytes; `docs/modes.md` tells what a mode does."""

    clock: Clock
    lifetime: Lifetime
    mode: Mode = "live"
    secret: bytes | None = None
    keyring: Keyring | None = None
    max_staleness: float = 5.0
    deadline: float = DEADLINE
    inline_max: int = 16 * 1024
    strict: bool = False
    background: bool = True
    maintenance: Literal["auto", "manual"] = "auto"
    serializers: Sequence[Serializer] = ()

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigurationError(f"mode must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")
        if self.maintenance not in ("auto", "manual"):
            raise ConfigurationError(f"maintenance must be 'auto' or 'manual', got {self.maintenance!r}")
        for name in ("strict", "background"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.keyring is not None and not isinstance(self.keyring, Keyring):
            raise ConfigurationError(
                f"keyring takes a Keyring of agentcache_core.codec.encrypt, got {type(self.keyring).__name__}"
            )
        if not (callable(getattr(self.clock, "now", None)) and callable(getattr(self.clock, "monotonic", None))):
            raise ConfigurationError(
                f"clock takes an object with now() and monotonic(), got {type(self.clock).__name__}"
            )
        for serializer in self.serializers:
            lacking = [part for part in ("name", "type", "dump", "load") if not hasattr(serializer, part)]
            if lacking:
                raise ConfigurationError(f"a serializer has {', '.join(lacking)}, {serializer!r} has not")
        if self.deadline <= 0:
            raise ConfigurationError("deadline must be more than 0 seconds")

    @property
    def reads(self) -> bool:
        """Whether look-ups may be answered from the cache."""
        return self.mode in ("live", "record", "replay")

    @property
    def writes(self) -> bool:
        """Whether answers are stored."""
        return self.mode in ("live", "record", "refresh")

    @property
    def timeless(self) -> bool:
        """Whether recordings are served whatever their age."""
        return self.mode in ("record", "replay")

"""Sizes and durations as people write them: "256MB", "16KiB", "250ms", "2w"."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from agentcache_core.errors import ConfigurationError

_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*\Z")
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_size(size: str | int, what: str = "size") -> int:
    """The number of bytes in `size`: an integer, or a string such as "512", "16KiB" (1024s) or "256MB" (1000s).

    Raises `ConfigurationError` naming `what` for anything else, including negative sizes.
    """
    if isinstance(size, int) and not isinstance(size, bool) and size >= 0:
        return size
    match = _QUANTITY.match(size) if isinstance(size, str) else None
    factor = _BYTES.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise ConfigurationError(f'{what} must be a number of bytes such as 1048576, "16KiB" or "256MB", got {size!r}')
    return int(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def parse_duration(duration: str | float | timedelta, what: str = "duration") -> float:
    """The seconds in `duration`: a number of seconds, a `timedelta`, or a string such as "250ms", "90s", "2h", "2w".

    Raises `ConfigurationError` naming `what` for anything else, including negative and infinite durations.
    """
    seconds = math.nan
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        match = _QUANTITY.match(duration)
        if match and match[2] in _SECONDS:
            seconds = float(match[1]) * _SECONDS[match[2]]
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigurationError(
            f'{what} must be seconds, a timedelta, or a string such as "250ms", "90s", "10m", "2h", "3d" or "2w", '
            f"and at least 0, got {duration!r}"
        )
    return seconds

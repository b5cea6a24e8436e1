"""What the doctor says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "mind", "bad"]
SKEW_SECONDS = 2.0
"""How far apart two clocks may be before it is worth a word."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `state` good, mind (works, but know this) or bad; `remedy` says what to change."""

    check: str
    state: State
    said: str
    remedy: str = ""

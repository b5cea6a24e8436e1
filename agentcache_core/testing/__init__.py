"""The testing kit: what proves a backend, and what makes one slow, faulty or torn.

`BackendSuite` and `AsyncBackendSuite` are pytest classes that a new backend, ours or a third party's, subclasses in
a few lines. `DictBackend` keeps bytes in a dict and has every power; `ManualClock` moves only when told to.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentcache_core.clock import ManualClock
    from agentcache_core.testing.conformance import AsyncBackendSuite, BackendSuite
    from agentcache_core.testing.dictionary import DictBackend
    from agentcache_core.testing.driving import driven
    from agentcache_core.testing.faults import FaultyBackend, SlowBackend, TornBackend
    from agentcache_core.testing.machine import against_a_dict

__all__ = [
    "AsyncBackendSuite",
    "BackendSuite",
    "DictBackend",
    "FaultyBackend",
    "ManualClock",
    "SlowBackend",
    "TornBackend",
    "against_a_dict",
    "driven",
]

# Loaded on first use: the suite needs pytest and the machine hypothesis, which users of DictBackend may not have.
_HOMES = {
    "AsyncBackendSuite": "agentcache_core.testing.conformance",
    "BackendSuite": "agentcache_core.testing.conformance",
    "DictBackend": "agentcache_core.testing.dictionary",
    "FaultyBackend": "agentcache_core.testing.faults",
    "ManualClock": "agentcache_core.clock",
    "SlowBackend": "agentcache_core.testing.faults",
    "TornBackend": "agentcache_core.testing.faults",
    "against_a_dict": "agentcache_core.testing.machine",
    "driven": "agentcache_core.testing.driving",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

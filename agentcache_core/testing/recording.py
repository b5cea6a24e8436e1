"""A cache for tests that replays what was recorded: its keys are those of redacted requests.

Redaction runs before anything else, so that a recording made with one's own credentials answers a test that has none,
and what must not be written down never reaches the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from agentcache_core.cache import Cache
from agentcache_core.keys import Key, KeyBuilder
from agentcache_core.space import Space

Redact = Callable[[Any], Any]


class RedactingKeys(KeyBuilder):
    """The keys of redacted requests. `asked` collects each of those requests by the digest of its key."""

    __slots__ = ("_redact", "asked")

    def __init__(self, *, tenant: str, namespace: str, redact: Redact, asked: dict[bytes, Any]) -> None:
        super().__init__(tenant=tenant, namespace=namespace)
        self._redact = redact
        self.asked = asked

    def key(self, request: object, *, sample: int = 0) -> Key:
        redacted = self._redact(request)
        key = super().key(redacted, sample=sample)
        self.asked[key.digest] = redacted
        return key


def recording_cache(
    url: str,
    *,
    mode: Literal["record", "replay", "refresh", "off"],
    redact: Redact,
    asked: dict[bytes, Any],
) -> Cache:
    """A cache at `url` in `mode` whose every view keys requests as `redact` leaves them, noting them in `asked`."""
    cache = Cache(url, mode=mode, background=False, maintenance="manual")
    core = cache._core
    plain_space = core.space

    def redacting_space(tenant: str, namespace: str) -> Space:
        space = plain_space(tenant, namespace)
        if not isinstance(space.keys, RedactingKeys):
            space.keys = RedactingKeys(tenant=tenant, namespace=namespace, redact=redact, asked=asked)
        return space

    core.space = redacting_space  # type: ignore[method-assign]  # views made later ask here for their keys
    cache._bind(core, "", "", root=True, walled=False)
    return cache

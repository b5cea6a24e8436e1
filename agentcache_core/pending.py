"""What a tier should have lost while it was away: keys to be deleted before it is read again."""

from __future__ import annotations

from agentcache_core.keys import Key
from agentcache_core.runtime import Runtime
from agentcache_core.space import Space
from agentcache_core.tier import StoredTier, Trouble


class Pending:
    """The deletes that tiers of one cache have missed. A namespace with any is not read from such a tier."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, Space], list[Key]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def add(self, tier: StoredTier, space: Space, key: Key) -> None:
        self._keys.setdefault((tier.name, space), []).append(key)

    async def drained(self, rt: Runtime, tier: StoredTier, space: Space) -> bool:
        """Delete what is pending; answers whether nothing is left, so that the tier may be read."""
        keys = self._keys.get((tier.name, space))
        if keys is None:
            return True
        while keys:
            if isinstance(await tier.delete(rt, space, keys[-1]), Trouble):
                return False
            keys.pop()
        self._keys.pop((tier.name, space), None)
        return True

"""What the root of a cache and all its views and faces share: the tiers, the engine, and who looks after them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from agentcache_core.assets import Assets
from agentcache_core.background import Background
from agentcache_core.engine import Engine
from agentcache_core.errors import ConfigurationError
from agentcache_core.events import Events
from agentcache_core.figures import Figures
from agentcache_core.following import Follower
from agentcache_core.forking import watch
from agentcache_core.invalidation import Invalidation
from agentcache_core.ledger import Counts, added
from agentcache_core.maintenance import Maintenance
from agentcache_core.opening import Specs, open_tiers
from agentcache_core.runtime import Face, Runtime
from agentcache_core.savings import SavingsReport, savings_of
from agentcache_core.settings import Settings
from agentcache_core.space import Space

if TYPE_CHECKING:
    from agentcache_core.similar import Similar


class Core:
    """Everything that the root and all its views and faces share."""

    def __init__(self, specs: Specs, settings: Settings, *, face: Face, semantic: Any = None) -> None:
        self.settings = settings
        self.events = Events()
        self.tiers = open_tiers(specs, settings, self.events, face=face)
        self.figures = Figures(self.tiers, settings.clock)
        self.engine = Engine(self.tiers, settings, self.events, self.figures, self.space)
        if semantic is not None:
            self.engine.similar = _similar(semantic, self.engine)
        self.assets = Assets(self.engine)
        self.maintenance = Maintenance(
            self.tiers, settings, lambda: self.spaces, lambda: self.engine.background.stopped
        )
        self.engine.maintenance = self.maintenance
        self.invalidation = Invalidation(self.tiers, self.events, self.engine.background, strict=settings.strict)
        self.tiers.follower = Follower(self.tiers, enabled=settings.background)
        self.closed = False
        self._spaces: dict[tuple[str, str], Space] = {}
        self.after_fork()
        watch(self)

    def after_fork(self) -> None:
        """Nobody holds the lock."""
        self._lock = threading.Lock()

    @property
    def background(self) -> Background:
        return self.engine.background

    @property
    def fast(self) -> bool:
        """Whether a hit in memory may take the short cut: nobody listens, and nothing but time decides."""
        return self.tiers.near is not None and self.settings.mode == "live" and not self.closed

    async def add_figures(self, rt: Runtime) -> None:
        """Add what this process counted to the figures on the authority."""
        for space in self.spaces:
            await self.figures.add(rt, space, closing=True)

    async def savings(self, rt: Runtime, space: Space) -> SavingsReport:
        """What the hits of a space's tenant saved, over every process and restart."""
        from agentcache_core.pricing import FORMULA, book_in_force

        counts = await self.figures.read(rt, space, self._spaces.values())
        listed = tuple(savings_of(name, counts[name]) for name in sorted(counts))
        total: Counts = {}
        for each in counts.values():
            total = added(total, each)
        return SavingsReport(space.tenant, listed, savings_of("", total), FORMULA, book_in_force().as_of)

    async def close(self, rt: Runtime) -> None:
        """Let go of the tiers of a face."""
        if self.tiers.follower is not None:
            self.tiers.follower.close()
        if self.tiers.near is not None:
            self.tiers.near.close()
        for tier in self.tiers.stored:
            await tier.close(rt)

    @property
    def spaces(self) -> list[Space]:
        """Every space that this process has met."""
        return list(self._spaces.values())

    def space(self, tenant: str, namespace: str) -> Space:
        place = (tenant, namespace)
        space = self._spaces.get(place)
        if space is None:
            with self._lock:
                space = self._spaces.get(place)
                if space is None:
                    space = self._spaces[place] = Space(tenant, namespace, self.settings.secret)
        return space


def _similar(semantic: Any, engine: Engine) -> Similar:
    """The semantic side of a cache, imported only where one is asked for."""
    from agentcache_core.semantic.configuration import Semantic
    from agentcache_core.similar import Similar

    if not isinstance(semantic, Semantic):
        raise ConfigurationError(f"semantic takes a Semantic(…), got {type(semantic).__name__}")
    return Similar(semantic, engine.tiers, engine.settings, engine.events, engine.background)

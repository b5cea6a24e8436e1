"""Tool results with declared effects: what may be answered from the cache, and what a write takes with it."""

from agentcache_core.tools.effects import Effect, Never, Pure, Read, Write, load_effects
from agentcache_core.tools.session import ToolSession
from agentcache_core.tools.toolbox import Tools

__all__ = ["Effect", "Never", "Pure", "Read", "ToolSession", "Tools", "Write", "load_effects"]

"""AgentCache: an embeddable cache engine for AI agents."""

"""Other people's interfaces, each translated onto an `agentcache_core.Cache`."""

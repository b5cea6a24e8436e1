"""Where entries live: storage backends behind the seam `agentcache_core.backend`."""

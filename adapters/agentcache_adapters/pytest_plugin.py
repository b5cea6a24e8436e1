"""The pytest plugin: loaded by pytest through the entry point `agentcache`; imports nothing of the engine by itself."""

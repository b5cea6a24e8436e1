"""People, organizations, sessions and API keys."""

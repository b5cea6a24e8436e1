"""The hosted service: accounts, namespaces, quotas, the cache API and the marketplaces."""

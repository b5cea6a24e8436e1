"""The two marketplaces: integrations with partners and affiliates, and listings of models and agents."""

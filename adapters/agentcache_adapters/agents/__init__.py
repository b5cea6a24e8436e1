"""Agents for the marketplace: templates to start from, and packing what was made of them."""

"""Plans, quotas, meters and reports."""

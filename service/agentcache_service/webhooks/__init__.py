"""Outgoing webhooks: signed by the Standard Webhooks rules, retried, never following redirects."""

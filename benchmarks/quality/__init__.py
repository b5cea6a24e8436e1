"""Questions about how right the answers are, not how fast."""

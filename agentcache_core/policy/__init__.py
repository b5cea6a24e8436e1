"""Pure policies: they take values and answer values; time comes in as `now`, randomness as a seed."""

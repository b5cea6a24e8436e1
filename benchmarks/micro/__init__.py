"""One question a file: what one call costs."""

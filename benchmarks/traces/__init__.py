"""Questions about logs of real use."""

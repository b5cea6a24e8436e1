"""The cache over HTTP: get, set, prewarm, invalidate, listeners, objects and assets."""

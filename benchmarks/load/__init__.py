"""Benchmarks of whole systems under load and under faults."""

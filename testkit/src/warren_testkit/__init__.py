"""Servers, fleets and beds that tests and benchmarks share. Never released."""

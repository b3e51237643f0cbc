"""Fakes, servers, fleets, beds and contract suites that tests and benchmarks share. Never released."""

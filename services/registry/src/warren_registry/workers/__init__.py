"""Loops of the registry: each does one thing again whenever it may be needed, and after every failure."""

"""Operators: their bearer tokens and roles."""

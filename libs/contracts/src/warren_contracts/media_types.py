"""Media types, without the models that they name."""

PROBLEM = "application/problem+json"
"""RFC 9457."""

"""Generators of the documents in `docs/` and of the frozen JSON Schemas; part of the repository, not of a distribution."""

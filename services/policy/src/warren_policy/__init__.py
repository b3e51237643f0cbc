"""Policies: revisions, validation, audit, outbox."""

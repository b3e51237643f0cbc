"""Enrolment, identity, tags, directory, presence, auth callout."""

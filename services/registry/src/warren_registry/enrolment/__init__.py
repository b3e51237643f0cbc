"""Enrolment: who may join and as whom, and join tokens."""

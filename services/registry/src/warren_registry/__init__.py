"""Enrolment, identity, tags, directory, presence, auth callout.

The registry is the only service that knows who a peer is. It answers two processes' worth of questions:

- `python -m warren_registry` serves RPC (enrolment, announcements, the directory, operators' verbs), follows the published
  policies, and publishes a peer's record to exactly the readers that a policy relates to it.
- `python -m warren_registry.callout` decides every connection to the accounts AGENTS and OPS, on its own loop, from the
  same rows; it keeps deciding from the last known rows while PostgreSQL is away.

`domain/` is pure; `ports.py` says what it needs; `adapters/` are PostgreSQL and NATS; `bootstrap.py` joins them.
"""

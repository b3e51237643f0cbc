"""Peers, enrolment, operators' tokens, the directory, presence and epochs.

The registry is the only service that decides who a peer is: it serves RPC (enrolment, announcements, the directory, operators'
verbs), follows the published policies, and publishes a peer's record to the readers that a policy relates to it. The
auth callout (`warren_callout`) reads its rows.

`domain/` is pure; `ports.py` declares what it needs; `adapters/` implement that on PostgreSQL and NATS; `bootstrap.py` is the
composition root.
"""

"""Peers, enrolment, operators' tokens, the directory, presence and epochs.

The registry is the only service that decides who a peer is: it serves RPC (enrolment, announcements, the directory, operators'
verbs), follows the published policies, and publishes a peer's record to the readers that a policy relates to it. The
auth callout (`warren_callout`) reads its rows.

Each concept is a package with its model, rules, service functions and SQL: `peers`, `enrolment`, `operators`, `directory`,
`presence`, `epoch`. `ports.py` declares what they need; `adapters/` implement it on PostgreSQL and NATS; `bootstrap.py` is the
composition root.
"""

"""The policy service: revisions, validation, audit and publication of what operators state.

A command (`rpc.policy.apply`) is checked as a whole (`warren_intent.check`), stored as one revision together with its
audit row and its outbox rows in one transaction, and published afterwards by the relay: signed, one atomic batch a
revision, strictly in order. It owns the streams POLICY and EVENT and the schema `policy`; it meets the registry on the
bus alone.

`domain/` is pure; `service.py` holds the use cases, `relay.py` the publication, `handlers.py` what arrives on the bus,
`adapters/` PostgreSQL and NATS, `bootstrap.py` puts them together.
"""

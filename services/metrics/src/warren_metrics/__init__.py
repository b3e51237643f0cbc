"""The metrics service: telemetry in; Prometheus, the state of every tunnel, and events out.

It consumes the stream TELEMETRY, which it owns, in batches, and keeps the newest status of every (peer, tunnel) in memory,
written behind to the schema `metrics` so that a restart shows the last known state. The sender of a message is its subject's
token, never a field of the payload; payloads are untrusted until they are parsed (`domain/parse.py`).

`domain/` is pure; `ingest.py` processes a batch, `handlers.py` subscribes to the bus, `adapters/` are PostgreSQL, NATS
and the exposition over HTTP, `bootstrap.py` is the composition root.
"""

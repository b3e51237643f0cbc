"""The metrics service: telemetry in; Prometheus, the state of every tunnel, and events out.

It consumes the stream TELEMETRY, which it owns, in batches, and keeps the newest status of every (peer, tunnel) in memory,
written behind to the schema `metrics` so that a restart shows the last known state. Who sent a message is its subject's
token and nothing in the payload; payloads are hostile until they are parsed (`domain/parse.py`).

`domain/` is pure; `ingest.py` is the way of a batch, `handlers.py` what arrives on the bus, `adapters/` PostgreSQL, NATS
and the exposition over HTTP, `bootstrap.py` puts them together.
"""

"""The HTTP API: REST, server-sent events, OpenAPI. It has no database: every response comes over the bus.

Services are called by RPC (`ports.Bus`, `adapters.nats_bus`), events are read from the stream EVENT (`adapters.event_reader`).
`app.build_app` is the whole of HTTP, `bootstrap` the only place that knows NATS and uvicorn.
"""

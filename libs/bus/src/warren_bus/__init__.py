"""Connection, streams, signed feeds, RPC, tracing."""

"""The API server's side of NATS."""

"""PostgreSQL, NATS and the registry, each behind a port of `warren_policy.ports`."""

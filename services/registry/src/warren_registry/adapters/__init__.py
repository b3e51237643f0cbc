"""The registry's ends: PostgreSQL and NATS."""

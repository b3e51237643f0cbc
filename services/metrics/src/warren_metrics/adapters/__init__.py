"""PostgreSQL, the bus and the Prometheus exposition."""

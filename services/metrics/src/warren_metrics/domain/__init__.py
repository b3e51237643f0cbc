"""What telemetry means: parsing without trust, the fleet's state, what operators and Prometheus see of it."""

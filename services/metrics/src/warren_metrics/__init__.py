"""Telemetry in; Prometheus and tunnels out."""

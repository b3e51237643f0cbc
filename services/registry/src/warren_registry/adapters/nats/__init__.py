"""The bus: streams, the published policies, connections, heartbeats."""

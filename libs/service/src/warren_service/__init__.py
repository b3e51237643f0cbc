"""What a service needs: FastStream broker, process, OpenTelemetry, stream declarations, permissions, restore guard.

Agents import nothing of this package. `docs/bus.md` is the contract in words.
"""

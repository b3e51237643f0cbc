"""What an agent needs of NATS: connection, RPC client, publisher, signed feed. It depends on nats-py and PyNaCl only.

What only services need (FastStream, OpenTelemetry) is in `warren_service`. `docs/bus.md` describes the contract.
"""

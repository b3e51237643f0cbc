"""What an agent needs of NATS: connection, RPC client, publisher, signed feed. It rests on nats-py and PyNaCl alone.

What only services need (FastStream, OpenTelemetry) is in `warren_service`. `docs/bus.md` is the contract in words.
"""

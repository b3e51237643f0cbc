"""The bus: connection, streams, signed feeds, RPC, tracing. Above the contracts, below every service and the agent.

What an agent imports (`connection`, `rpc`, `feed`, `publisher`, `signing`, `keys`, `settings`, `tracing`, `logs`) rests on
nats-py and PyNaCl alone; what only services need (`service`, `telemetry`) brings FastStream and OpenTelemetry and is imported
by nobody else. `docs/bus.md` is the contract in words.
"""

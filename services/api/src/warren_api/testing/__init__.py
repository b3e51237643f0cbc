"""Parts for tests: a bus without NATS (`bus`), a client of the API (`client`), a gateway on a real socket (`live`)."""

from warren_api.testing.bus import NOW, TOKENS, FakeBus

__all__ = ["NOW", "TOKENS", "FakeBus"]

"""A bus without NATS (`bus`), a client of the API (`client`), an API server on a real socket (`live`)."""

from warren_testkit.api.bus import FakeBus
from warren_testkit.api.tokens import NOW, TOKENS

__all__ = ["NOW", "TOKENS", "FakeBus"]

"""Parts for tests, here and elsewhere: a real server (`servers`), a fleet that signs (`fleet`), a bus in memory (`wire`)."""

from warren_bus.testing.fleet import Fleet, SignedBytes
from warren_bus.testing.servers import GrantingCallout, RealServer, eventually, free_port, server_binary

__all__ = ["Fleet", "GrantingCallout", "RealServer", "SignedBytes", "eventually", "free_port", "server_binary"]

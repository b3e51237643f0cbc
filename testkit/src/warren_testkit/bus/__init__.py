"""Parts for tests, here and elsewhere: a real server (`servers`), a fleet that signs (`fleet`), a bus in memory (`wire`)."""

from warren_testkit.bus.fleet import Fleet, SignedBytes
from warren_testkit.bus.servers import GrantingCallout, RealServer, free_port, server_binary

__all__ = ["Fleet", "GrantingCallout", "RealServer", "SignedBytes", "free_port", "server_binary"]

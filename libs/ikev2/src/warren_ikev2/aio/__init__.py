"""The asyncio front of IKEv2 and ESP: the only sub-package here that owns sockets, a clock and a log.

    client = Client.builder().with_psk(secret).with_local_id("left").with_remote_id("right").build()
    await client.connect("vpn.example.com")
    await client.send_packet(ip_packet)

Place in the architecture: the programs in `examples/ikev2` use this package; it uses the engine
(`warren_ikev2.endpoint`) and scalar ESP (`warren_ikev2.esp`). Warren's agent has no driver for it.

- `client`, `server`  the two ends, each with a builder
- `session`           one peer: packets in, packets out, close
- `driver`            moves bytes and time between the engine, ESP and the sockets
- `logins`            passwords: the verifier's verdicts for the engine
- `udp`               a bound UDP socket with TOS byte and local address of each datagram
- `tun`               a TUN device attached to a session
- `offload`           the driver whose ESP runs in a process of its own; `data_plane` supervises that process
- `metrics`, `logs`   counters for Prometheus, structured log lines
"""

from warren_ikev2.aio.client import Client, ClientBuilder
from warren_ikev2.aio.logins import LoginVerifier
from warren_ikev2.aio.metrics import Metrics
from warren_ikev2.aio.server import Server, ServerBuilder
from warren_ikev2.aio.session import Session
from warren_ikev2.aio.tun import TunDevice
from warren_ikev2.dataplane.tun import OffloadTun

__all__ = [
    "Client",
    "ClientBuilder",
    "LoginVerifier",
    "Metrics",
    "OffloadTun",
    "Server",
    "ServerBuilder",
    "Session",
    "TunDevice",
]

"""The addresses of both sides (RFC 4555, 2.1 and 3.4), and the paths between them."""

from dataclasses import dataclass, field

from warren_ikev2.addresses import IPAddress, Path, SocketAddress

MAX_ADDRESSES = 8
"""Additional addresses of one side; strongSwan sends as many. Limits the targets to which an authenticated peer can make us send probes."""
MAX_PATHS = 16
"""Paths that are probed at a time."""


@dataclass(slots=True)
class Mobility:
    """The addresses of a session in addition to those of its path."""

    own: tuple[IPAddress, ...] = ()
    """All of ours; empty: only the path's."""
    peers: tuple[IPAddress, ...] = ()
    """All of the peer's, as announced: the one in the IP header, then the additional ones."""
    searching: bool = False
    """As responder: our address of the path was removed, so that requests are sent over every path (3.6)."""
    refused: set[Path] = field(default_factory=set)
    """Paths that the responder refused since it last agreed to one."""
    mapping: bytes = b""
    """Our address as the responder sees it: its last NAT_DETECTION_DESTINATION_IP (3.8)."""

    def additional(self, used: IPAddress) -> tuple[IPAddress, ...]:
        """Our addresses in addition to the one in the IP header."""
        return tuple(address for address in self.own if address != used)[:MAX_ADDRESSES]

    def paths(self, current: Path, natt_port: int) -> list[Path]:
        """Every pair of one IP version, the current one first if our address of it still is one.

        An address of the peer that is not in use is expected on its port for NAT traversal (3.3).
        """
        own, peer = current.local.host, current.remote.host
        locals_ = [own, *self.own] if own in self.own or not self.own else list(self.own)
        found = [
            Path(
                SocketAddress(local, current.local.port),
                current.remote if remote == peer else SocketAddress(remote, natt_port),
            )
            for remote in (peer, *self.peers)
            for local in locals_
            if local.version == remote.version
        ]
        return list(dict.fromkeys(found))[:MAX_PATHS]

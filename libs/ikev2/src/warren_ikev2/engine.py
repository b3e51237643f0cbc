"""The engine's interface: five calls that move bytes and time, and commands.

`now` is in seconds of a monotonic clock of the caller's choice. Nothing here blocks; nothing that a peer sends raises.
"""

from collections.abc import Sequence
from typing import Protocol

from warren_ikev2.addresses import Datagram, IPAddress, Path
from warren_ikev2.children import ChildUsage
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.events import Event, SessionId
from warren_ikev2.keylog import DecryptionKeys


class Engine(Protocol):
    """What the asyncio front, tests and tools use; `warren_ikev2.endpoint.Endpoint` implements it.

    After any call but get_timer and next_event: send `datagrams_to_send`, take every `next_event`, arm `get_timer`.
    """

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """A UDP payload arrived. ESP (SPI not 0 on a port with marker) is not for the engine: it is dropped."""

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """Everything to send now, in order; each datagram is returned once."""

    def get_timer(self) -> float | None:
        """When to call handle_timer, or None."""

    def handle_timer(self, now: float) -> None:
        """Time passed: retransmissions, liveness, lifetimes, keepalives."""

    def next_event(self) -> Event | None:
        """The oldest event not yet taken, or None."""

    def set_connections(self, connections: Sequence[ConnectionConfiguration]) -> None:
        """Use these connections from now on. Sessions keep the configuration that they began with."""

    def initiate(
        self, connection: str, path: Path, now: float, *, redirected_from: IPAddress | None = None
    ) -> SessionId:
        """Begin IKE_SA_INIT with a configured connection. CommandError: no such connection.

        A path whose local port is not `ike_port` uses the non-ESP marker from the first message (RFC 7296, 2.23).
        After a PeerRedirected event, `redirected_from` names the gateway that sent us (RFC 5685, 4).
        """

    def create_child(self, session: SessionId, name: str, now: float) -> None:
        """Negotiate another CHILD_SA of the connection. CommandError: unknown session or child, or not established."""

    def rekey_ike(self, session: SessionId, now: float) -> None:
        """Replace the IKE_SA; IkeSaRekeyed follows. CommandError: not established."""

    def rekey_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """Replace a CHILD_SA; ChildSaRekeyed follows. CommandError: no such CHILD_SA."""

    def delete_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """Delete a CHILD_SA; ChildSaDeleted follows. CommandError: no such CHILD_SA."""

    def delete(self, session: SessionId, now: float) -> None:
        """End the session, politely if it is established. CommandError: no such session."""

    def check_liveness(self, session: SessionId, now: float) -> None:
        """Send an empty INFORMATIONAL request now. CommandError: not established."""

    def change_path(self, session: SessionId, path: Path, now: float) -> None:
        """Our address or port changed: MOBIKE's UPDATE_SA_ADDRESSES (RFC 4555, 3.5).

        CommandError: not established, or the peer does not speak MOBIKE (then re-establish).
        """

    def set_addresses(self, session: SessionId, addresses: Sequence[IPAddress], now: float) -> None:
        """Our addresses are these now: the peer is told, and the session leaves an address that is gone (RFC 4555, 3.6).

        CommandError: not established, the peer does not speak MOBIKE, or none of the addresses reaches it.
        """

    def redirect(self, session: SessionId, gateway: str, now: float) -> None:
        """Ask the peer to go to another gateway (RFC 5685, 5). CommandError: the peer does not support it."""

    def decryption_keys(self, session: SessionId) -> DecryptionKeys:
        """What opens the session's messages until its next rekeying, for Wireshark. CommandError: not established.

        Whoever holds them reads everything: on explicit request only, and never logged.
        """

    def child_usage(self, spi_in: int, usage: ChildUsage, now: float) -> None:
        """Totals of a CHILD_SA: soft limits rekey, hard limits delete, inbound growth proves liveness.

        Unknown SPIs are ignored.
        """

    def child_path(self, spi_in: int, path: Path, now: float) -> None:
        """An authenticated ESP packet came over this path: follow a NAT's new mapping (RFC 7296, 2.23).

        Unknown SPIs are ignored.
        """

    def sequence_exhausted(self, spi_in: int, now: float) -> None:
        """ESP's sequence numbers run out soon: rekey (RFC 4303, 3.3.3). Unknown SPIs are ignored."""

"""The engine's interface: five calls that move bytes and time, commands, and what the data plane reports.

`now` is in seconds of a monotonic clock of the caller's choice. Nothing here blocks; nothing that a peer sends raises.
"""

from collections.abc import Sequence
from typing import Protocol

from warren_ikev2.addresses import Datagram, IPAddress, Path
from warren_ikev2.auth.login import LoginVerdict
from warren_ikev2.children import ChildUsage
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.events import Event, SessionId
from warren_ikev2.keylog import DecryptionKeys


class EngineCommands(Protocol):
    """What a user of the engine asks of its sessions. Each call that starts an exchange returns before the peer has answered;
    events report the result.
    """

    def initiate(
        self, connection: str, path: Path, now: float, *, redirected_from: IPAddress | None = None
    ) -> SessionId:
        """Begin IKE_SA_INIT with a configured connection. CommandError: no such connection.

        A path whose local port is not `ike_port` uses the non-ESP marker from the first message (RFC 7296, 2.23).
        After a PeerRedirected event, `redirected_from` names the gateway that redirected us (RFC 5685, 4).
        """

    def answer_login(self, session: SessionId, verdict: LoginVerdict, now: float) -> None:
        """Give the verdict on a LoginRequested event. CommandError: no login of this session waits for one (it ended, or is late)."""

    def create_child(self, session: SessionId, name: str, now: float) -> None:
        """Negotiate another CHILD_SA of the connection. CommandError: unknown session or child, or not established."""

    def rekey_ike(self, session: SessionId, now: float) -> None:
        """Replace the IKE_SA; IkeSaRekeyed follows. CommandError: not established."""

    def rekey_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """Replace a CHILD_SA; ChildSaRekeyed follows. CommandError: no such CHILD_SA."""

    def delete_child(self, session: SessionId, spi_in: int, now: float) -> None:
        """Delete a CHILD_SA; ChildSaDeleted follows. CommandError: no such CHILD_SA."""

    def delete(self, session: SessionId, now: float) -> None:
        """End the session, with a DELETE if it is established. CommandError: no such session."""

    def check_liveness(self, session: SessionId, now: float) -> None:
        """Send an empty INFORMATIONAL request now. CommandError: not established."""

    def change_path(self, session: SessionId, path: Path, now: float) -> None:
        """Use another local address or port: MOBIKE's UPDATE_SA_ADDRESSES (RFC 4555, 3.5).

        CommandError: not established, or the peer does not support MOBIKE (then re-establish).
        """

    def set_addresses(self, session: SessionId, addresses: Sequence[IPAddress], now: float) -> None:
        """Announce a changed list of our addresses, and leave a path whose address was removed (RFC 4555, 3.6).

        CommandError: not established, the peer does not support MOBIKE, or there is no path from these addresses.
        """

    def redirect(self, session: SessionId, gateway: str, now: float) -> None:
        """Redirect the peer to another gateway (RFC 5685, 5). CommandError: the peer does not support it."""

    def decryption_keys(self, session: SessionId) -> DecryptionKeys:
        """Return the keys that decrypt the session's messages until its next rekeying, for Wireshark. CommandError: not established.

        With them all IKE messages can be read: use them only on explicit request, and never log them.
        """


class DataPlaneReports(Protocol):
    """What the engine must learn of the ESP traffic of its CHILD_SAs; `spi_in` is ours. Unknown SPIs are ignored."""

    def child_usage(self, spi_in: int, usage: ChildUsage, now: float) -> None:
        """Report the totals of a CHILD_SA: soft limits rekey, hard limits delete, inbound packets prove liveness."""

    def child_path(self, spi_in: int, path: Path, now: float) -> None:
        """Report the path of an authenticated ESP packet, to follow a NAT's new mapping (RFC 7296, 2.23)."""

    def sequence_exhausted(self, spi_in: int, now: float) -> None:
        """Rekey a CHILD_SA whose sequence numbers are nearly exhausted (RFC 4303, 3.3.3)."""


class Engine(Protocol):
    """What the asyncio front, tests and tools use; `warren_ikev2.endpoint.Endpoint` implements it.

    After any call but get_timer and next_event: send `datagrams_to_send`, take every `next_event`, arm `get_timer`.
    """

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """Handle a received UDP payload. ESP (SPI not 0 on a port with marker) is dropped: it is not for the engine."""

    def datagrams_to_send(self, now: float) -> list[Datagram]:
        """Return the datagrams to send now, in order; each is returned once."""

    def get_timer(self) -> float | None:
        """Return when to call handle_timer, or None."""

    def handle_timer(self, now: float) -> None:
        """Do what is due: retransmissions, liveness checks, lifetimes, keepalives."""

    def next_event(self) -> Event | None:
        """Return the oldest event that was not returned yet, or None."""

    def set_connections(self, connections: Sequence[ConnectionConfiguration]) -> None:
        """Use these connections for new sessions; existing sessions keep their configuration."""

    @property
    def commands(self) -> EngineCommands:
        """The commands about sessions."""

    @property
    def reports(self) -> DataPlaneReports:
        """What the data plane has to report."""

"""The events of an endpoint, named in past tense. They are immutable, and no key is printable."""

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import NewType

from warren_ikev2.addresses import IPAddress, Path
from warren_ikev2.auth.login import LoginAttempt
from warren_ikev2.children import ChildSa
from warren_ikev2.identity import Identity
from warren_ikev2.suites import IkeSuite

SessionId = NewType("SessionId", int)
"""Identifies a peer's IKE_SA and all its successors by rekeying, within one endpoint."""


class SessionRole(Enum):
    """Which side began the first exchange of the session."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class State(Enum):
    """The states of an IKE_SA."""

    CREATED = "created"
    INIT_SENT = "init-sent"
    INIT_DONE = "init-done"
    """IKE_SA_INIT is answered; nothing is authenticated yet."""
    INTERMEDIATE = "intermediate"
    AUTHENTICATING = "authenticating"
    EAP = "eap"
    ESTABLISHED = "established"
    REKEYED = "rekeyed"
    """A successor carries the CHILD_SAs; the deletion is pending."""
    DELETING = "deleting"
    CLOSED = "closed"


class DeleteReason(Enum):
    """Why an SA ended."""

    LOCAL = "local"
    PEER = "peer"
    REKEYED = "rekeyed"
    REDUNDANT = "redundant"
    """Lost a rekey collision (RFC 7296, 2.8.1)."""
    EXPIRED = "expired"
    PEER_DEAD = "peer-dead"
    INITIAL_CONTACT = "initial-contact"
    REPLACED = "replaced"
    """By another IKE_SA of the same peer."""
    PEER_REPLACED = "replaced-by-another-login"
    """The peer has replaced our session by another one of the same user."""
    AUTHENTICATION_FAILED = "authentication-failed"
    NEGOTIATION_FAILED = "negotiation-failed"
    PROTOCOL_ERROR = "protocol-error"
    REDIRECTED = "redirected"


@dataclass(frozen=True, slots=True)
class NatSituation:
    """Which side is behind a NAT (RFC 7296, 2.23)."""

    local: bool = False
    remote: bool = False

    @property
    def any(self) -> bool:
        """Whether there is a NAT at all."""
        return self.local or self.remote


@dataclass(frozen=True, slots=True)
class NetworkAttributes:
    """The contents of the configuration payload (RFC 7296, 3.15)."""

    addresses: tuple[IPAddress, ...] = ()
    """As initiator: our virtual addresses; as responder: those given to the peer."""
    dns: tuple[IPAddress, ...] = ()
    subnets: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """The base class of all events."""


@dataclass(frozen=True, slots=True)
class IkeSaEstablished(Event):
    """Both sides are authenticated."""

    session: SessionId
    connection: str
    role: SessionRole
    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    local_identity: Identity
    remote_identity: Identity
    path: Path
    nat: NatSituation
    local_auth: str
    """`psk`, `pubkey`, or `eap-gtc`, `eap-mschapv2`."""
    remote_auth: str
    eap_identity: str | None = None
    """As responder with EAP: the user's name."""
    network: NetworkAttributes = NetworkAttributes()
    fragmentation: bool = False
    mobike: bool = False
    peer_addresses: tuple[IPAddress, ...] = ()
    """All of the peer's, if it announced them (RFC 4555, 3.4)."""
    ppk_id: bytes | None = None
    peer_certificate: bytes | None = field(default=None, repr=False)
    """DER."""
    user: str = ""
    """As responder: whose session it is, by `PeerSettings.user`, whatever the peer has proved."""
    user_version: str = ""
    """`PeerSettings.user_version` of the connection as it was when the handshake began."""


@dataclass(frozen=True, slots=True)
class IkeSaRekeyed(Event):
    """A new IKE_SA has taken over all CHILD_SAs; the session stays."""

    session: SessionId
    old_spi_i: bytes
    old_spi_r: bytes
    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    initiated: bool
    """Whether we began it."""
    seconds: float | None = None
    """From our first request until the successor exists; None: the peer began it."""


@dataclass(frozen=True, slots=True)
class IkeSaDeleted(Event):
    """The session is over; its CHILD_SAs were reported as deleted before."""

    session: SessionId
    connection: str
    reason: DeleteReason


@dataclass(frozen=True, slots=True)
class ChildSaEstablished(Event):
    """Install this SA in both directions."""

    session: SessionId
    child: ChildSa


@dataclass(frozen=True, slots=True)
class ChildSaRekeyed(Event):
    """Install `new`; keep `old` inbound until its ChildSaDeleted.

    Outbound: `initiated` means that the peer is ready for `new` at once; otherwise send on `old` until the peer used
    `new` or `old` is deleted.
    """

    session: SessionId
    old: ChildSa
    new: ChildSa
    initiated: bool
    seconds: float | None = None
    """From our first request until `new` exists; None: the peer began it."""


@dataclass(frozen=True, slots=True)
class ChildSaDeleted(Event):
    """Remove this SA; packets that are still on the way may be accepted for a few seconds."""

    session: SessionId
    child: ChildSa
    reason: DeleteReason


@dataclass(frozen=True, slots=True)
class ChildSaFailed(Event):
    """A CHILD_SA was not created or rekeyed; the IKE_SA remains."""

    session: SessionId
    name: str
    notify: int
    """The code, ours or the peer's (RFC 7296, 3.10.1)."""
    reason: str


@dataclass(frozen=True, slots=True)
class RequestRefused(Event):
    """We refused a request of an authenticated peer, such as a rekey with another key exchange; the IKE_SA remains."""

    session: SessionId
    connection: str
    exchange: str
    notify: str
    """The name of the error notify that we answered with."""
    reason: str


@dataclass(frozen=True, slots=True)
class AddressChanged(Event):
    """The path moved, by MOBIKE or a NAT's new mapping; replace the CHILD_SAs of the same SPIs by these."""

    session: SessionId
    old_path: Path
    new_path: Path
    children: tuple[ChildSa, ...]


@dataclass(frozen=True, slots=True)
class AddressRefused(Event):
    """The peer does not accept this path (RFC 4555, 3.5 and 3.9); the session tries another one, or keeps its path."""

    session: SessionId
    path: Path


@dataclass(frozen=True, slots=True)
class AuthenticationFailed(Event):
    """A peer was refused, or refused us."""

    session: SessionId
    connection: str | None
    """None: no connection matched."""
    path: Path
    claimed_identity: str | None
    """Not proven; printable."""
    reason: str
    by_peer: bool
    """Whether the peer refused us."""
    peer_proven: bool = False
    """Whether the peer had proven its identity before, as with EAP: otherwise anybody on the path may have refused us."""


@dataclass(frozen=True, slots=True)
class LoginRequested(Event):
    """As responder with EAP: decide on a user's attempt, and give the verdict with `answer_login`.

    Without a verdict within `Limits.login_seconds` the login is refused. The peer's repeated requests are ignored meanwhile.
    """

    session: SessionId
    connection: str
    path: Path
    claimed_identity: str
    """The IKE identity, not proven; printable."""
    user: str
    """Not proven; any characters."""
    method: str
    """`eap-gtc` or `eap-mschapv2`."""
    attempt: LoginAttempt = field(repr=False)


@dataclass(frozen=True, slots=True)
class HandshakeFailed(Event):
    """An IKE_SA ended before it was established, for another reason than authentication."""

    session: SessionId
    connection: str | None
    path: Path
    notify: int | None
    """The code, ours or the peer's; None: no answer."""
    reason: str


@dataclass(frozen=True, slots=True)
class PeerUnresponsive(Event):
    """The limit of retransmissions was exceeded; IkeSaDeleted follows."""

    session: SessionId
    path: Path


@dataclass(frozen=True, slots=True)
class PeerRedirected(Event):
    """The peer redirects to another gateway (RFC 5685). Initiate there."""

    session: SessionId
    connection: str
    gateway: str
    """An IP address or a domain name, printable."""


@dataclass(frozen=True, slots=True)
class ReauthenticationDue(Event):
    """The IKE_SA must be re-authenticated: initiate the connection again, then delete this session."""

    session: SessionId
    connection: str


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    """For structured logs: a transition of an IKE_SA."""

    session: SessionId
    spi_i: bytes
    spi_r: bytes
    old: State
    new: State
    trigger: str


@dataclass(frozen=True, slots=True)
class HintReceived(Event):
    """An unauthenticated error notify; at most it has started a liveness check (RFC 7296, 2.21)."""

    path: Path
    notify: int


@dataclass(frozen=True, slots=True)
class DatagramDropped(Event):
    """A datagram was ignored."""

    path: Path
    reason: str
    """One of a few fixed words, suitable as a metric's label."""

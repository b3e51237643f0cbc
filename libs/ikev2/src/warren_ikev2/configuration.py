"""The configuration of an endpoint. Times are in seconds, sizes in bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_network

from warren_ikev2.addresses import IPAddress
from warren_ikev2.credentials import (
    CertificateAuth,
    EapGtcAuth,
    EapMschapv2Auth,
    EapTrust,
    LocalAuth,
    Ppk,
    RawKeyAuth,
    RawKeyTrust,
    RemoteAuth,
)
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.identity import Identity
from warren_ikev2.selectors import Selectors
from warren_ikev2.suites import Proposal, esp_proposals, ike_proposals

DEFAULT_IKE_PROPOSALS = ike_proposals(
    ("aes256gcm16", "prfsha384", "x25519", "ecp384", "ecp256", "modp3072"),
    ("chacha20poly1305", "prfsha256", "x25519", "ecp256"),
)
DEFAULT_ESP_PROPOSALS = esp_proposals(("aes256gcm16",), ("chacha20poly1305",))

MAX_WINDOW = 64
"""Requests; limits the state that an authenticated peer can cause here."""


class Mode(Enum):
    """How ESP wraps packets (RFC 4301, 3.2)."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a CHILD_SA is replaced (soft) and when it ends at the latest (hard); None: no such limit.

    Soft limits are shortened by up to `jitter` so that the two sides rarely rekey together (RFC 7296, 2.8).
    """

    soft_seconds: float | None = 3600.0
    hard_seconds: float | None = 3960.0
    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None
    jitter: float = 0.1
    """Fraction of the soft limits."""


@dataclass(frozen=True, slots=True)
class IkeLifetime:
    """When an IKE_SA is rekeyed, re-authenticated, and when it ends at the latest; None: never."""

    rekey_seconds: float | None = 14400.0
    reauth_seconds: float | None = None
    """The initiator builds a new IKE_SA with all CHILD_SAs, then deletes the old one (RFC 7296, 2.8.3)."""
    over_seconds: float = 1440.0
    """Time after the soft limit until the IKE_SA is deleted."""
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Retransmission:
    """Exponential retransmission, by default strongSwan's: 165 s in all."""

    timeout: float = 4.0
    base: float = 1.8
    tries: int = 5
    """Retransmissions before the peer counts as dead."""

    @classmethod
    def lasting(cls, seconds: float, tries: int) -> "Retransmission":
        """As many retransmissions, after which a silent peer counts as dead `seconds` after the first message."""
        one = cls(1.0, tries=tries)
        return cls(seconds / sum(one.delay(sent) for sent in range(1, tries + 2)), tries=tries)

    def delay(self, sent: int) -> float:
        """Seconds to wait after the message was sent `sent` times."""
        return self.timeout * float(self.base ** max(0, sent - 1))


@dataclass(frozen=True, slots=True)
class AddressPool:
    """Virtual addresses, DNS servers and subnets for peers that ask (RFC 7296, 2.19)."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    dns: tuple[IPAddress, ...] = ()
    subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    required: bool = False
    """Refuse CHILD_SAs of peers that do not ask (FAILED_CP_REQUIRED)."""
    keep: bool = False
    """One address of each IP version for each peer: another IKE_SA of it has the same, so that new SAs next to old ones change nothing."""
    reserved: frozenset[IPAddress] = frozenset()
    """Addresses of the networks that no peer gets from the pool, such as our own and those of `PeerSettings`."""


@dataclass(frozen=True, slots=True)
class ChildConfiguration:
    """A CHILD_SA that a connection may have."""

    name: str
    local_ts: Selectors = ()
    """Empty: our own address, virtual or not."""
    remote_ts: Selectors = ()
    """Empty: the peer's (virtual) address."""
    esp_proposals: tuple[Proposal, ...] = DEFAULT_ESP_PROPOSALS
    lifetime: Lifetime = Lifetime()
    mode: Mode = Mode.TUNNEL


class Uniqueness(Enum):
    """What a second IKE_SA of one peer means for the first (strongSwan's `uniqueids`). INITIAL_CONTACT deletes the first with each."""

    KEEP = "keep"
    """Both are there."""
    REPLACE = "replace"
    """The first is deleted: its peer may have lost it without a word."""
    REFUSE = "refuse"
    """The second is refused, until the first is deleted or found dead."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """What one peer of a connection for many has of its own, as responder."""

    addresses: tuple[IPAddress, ...] = ()
    """Its virtual addresses, at most one of each IP version; for a version without one it gets an address of the pool."""
    local_ts: Selectors = ()
    """What it may reach: replaces `local_ts` of every child. Empty: as the children have it."""
    user: str = ""
    """Whose this peer is: one user may prove several names, by a key, a certificate and a password. Empty: nobody's in particular."""
    user_version: str = ""
    """Of what the user proves itself by, as the caller counts it; it is in the event, so that a login by what is replaced shows."""


@dataclass(frozen=True, slots=True)
class ConnectionConfiguration:
    """One peer, or a group of peers: identities, credentials, algorithms and options."""

    name: str
    local_identity: Identity
    local_auth: LocalAuth
    remote_auth: RemoteAuth
    remote_identity: Identity | None = None
    """None: any identity that the peer authenticates."""
    children: tuple[ChildConfiguration, ...] = ()
    """The first one is negotiated in IKE_AUTH; none: a childless IKE_SA (RFC 6023)."""
    ike_proposals: tuple[Proposal, ...] = DEFAULT_IKE_PROPOSALS
    lifetime: IkeLifetime = IkeLifetime()
    retransmission: Retransmission = Retransmission()
    dpd_delay: float | None = 30.0
    """Idle seconds before a liveness check (RFC 7296, 2.4); None: never."""
    keepalive_interval: float | None = 20.0
    """Seconds between NAT keepalives while we are behind one (RFC 3948, 4)."""
    fragment_size: int | None = 1280
    """Largest IP datagram, headers included (RFC 7383); None: fragmentation off."""
    window_size: int = 1
    """Requests that the peer may have outstanding (RFC 7296, 2.3). More than 1 is announced by SET_WINDOW_SIZE, costs
    as many stored responses for each IKE_SA and one more exchange after each of its rekeyings."""
    max_outstanding: int = 16
    """Requests of ours that may be outstanding, if the peer's window allows as many."""
    mobike: bool = True
    local_addresses: tuple[IPAddress, ...] = ()
    """All our addresses, that of the path included: announced to the peer, and tried when the path fails (RFC 4555, 3.4 and
    3.10). Empty: only the path's."""
    return_routability: bool = True
    """As responder: send ESP to a peer's new address only after it has answered from there. On by default, as RFC 4555, 3.7
    recommends: it costs one round trip for each move, and without it a client can direct its traffic to a third party."""
    allow_nats: bool = True
    """False: no NAT traversal; NO_NATS_ALLOWED protects the addresses instead (RFC 4555, 3.9)."""
    force_udp_encapsulation: bool = False
    request_addresses: tuple[int, ...] = ()
    """IP versions (4, 6) of the virtual addresses to ask for."""
    preferred_addresses: tuple[IPAddress, ...] = ()
    """Of these versions: which addresses to ask for, at most one of each; the responder may assign others."""
    address_pool: AddressPool | None = None
    ppk: Ppk | None = None
    initial_contact: bool = True
    """Send INITIAL_CONTACT when we have no other IKE_SA with the peer: it deletes older ones of our identity (RFC 7296, 2.4)."""
    announce_vendor: bool = False
    """As initiator: announce our vendor id, so that a server of ours gives its reason with a DELETE."""
    follow_redirects: int = 0
    """How many REDIRECTs to follow (RFC 5685); 0: REDIRECT_SUPPORTED is not sent."""
    redirect_to: Identity | None = None
    """As responder: redirect clients that support it to this gateway (an IP address or a domain name)."""
    remote_addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    """As responder: only peers from these networks match; empty: from anywhere."""
    send_certificate_requests: bool = True
    uniqueness: Uniqueness = Uniqueness.KEEP
    """As responder, by the user of `peers`; without one, by the name that the peer has proved: the EAP user's, else its identity."""
    peers: Mapping[str, PeerSettings] | None = None
    """As responder: the peers that may connect, by the name that they prove. None: any that authenticates."""

    def __post_init__(self) -> None:
        names = [child.name for child in self.children]
        if len(names) != len(set(names)):
            raise ConfigurationError(f"connection {self.name!r}: two children have the same name")
        if self.force_udp_encapsulation and not self.allow_nats:
            raise ConfigurationError(f"connection {self.name!r}: force_udp_encapsulation needs allow_nats")
        if not 1 <= self.window_size <= MAX_WINDOW or self.max_outstanding < 1:
            raise ConfigurationError(f"connection {self.name!r}: a window must have 1 to {MAX_WINDOW} requests")
        if not self.ike_proposals:
            raise ConfigurationError(f"connection {self.name!r}: ike_proposals must not be empty")
        if isinstance(self.remote_auth, RawKeyTrust) and self.remote_identity is None:
            raise ConfigurationError(f"connection {self.name!r}: raw keys prove no identity: set remote_identity")
        local_eap = isinstance(self.local_auth, EapGtcAuth | EapMschapv2Auth)
        if local_eap and isinstance(self.remote_auth, EapTrust):
            raise ConfigurationError(
                f"connection {self.name!r}: EAP needs a server that authenticates by key or certificate"
            )
        if isinstance(self.remote_auth, EapTrust) and not isinstance(self.local_auth, CertificateAuth | RawKeyAuth):
            raise ConfigurationError(f"connection {self.name!r}: EAP clients need local_auth with a key or certificate")

    def for_peer(self, name: str) -> "ConnectionConfiguration | None":
        """The configuration with the peer's own settings; None: it may not connect."""
        if self.peers is None:
            return self
        settings = self.peers.get(name)
        if settings is None:
            return None
        children, pool = self.children, self.address_pool
        if settings.local_ts:
            children = tuple(replace(child, local_ts=settings.local_ts) for child in children)
        if settings.addresses and pool is not None:
            versions = {address.version for address in settings.addresses}
            others = tuple(network for network in pool.networks if network.version not in versions)
            own = tuple(ip_network(address) for address in settings.addresses)
            pool = replace(pool, networks=(*own, *others), reserved=pool.reserved - frozenset(settings.addresses))
        return replace(self, children=children, address_pool=pool)

    def user_of(self, name: str) -> tuple[str, str]:
        """The user who proves this name, and its version; empty: none in particular."""
        settings = None if self.peers is None else self.peers.get(name)
        return ("", "") if settings is None else (settings.user, settings.user_version)

    def child(self, name: str) -> ChildConfiguration | None:
        """Return the child of this name, or None."""
        return next((child for child in self.children if child.name == name), None)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the state that peers can cause. The numbers are strongSwan's defaults unless noted."""

    half_open: int = 1000
    """Half-open IKE_SAs in all, including those that failed and still repeat their response; further IKE_SA_INITs are dropped."""
    half_open_per_address: int = 10
    """From one address (IPv6: one /64). strongSwan's 5 are too few behind a carrier-grade NAT."""
    cookie_threshold: int = 30
    """Half-open IKE_SAs above which cookies are demanded (RFC 7296, 2.6)."""
    half_open_seconds: float = 30.0
    fragments: int = 64
    """Fragments of one message."""
    message_size: int = 65535
    """Bytes of one message, reassembled."""
    unauthenticated_fragment_bytes: int = 16 << 20
    """Bytes of incomplete messages of all unauthenticated peers; the oldest is evicted. Enough for 200 of the largest."""
    fragment_bytes: int = 64 << 20
    """The same, of all authenticated peers."""
    children: int = 64
    """CHILD_SAs of one IKE_SA."""
    ike_sas: int = 100_000
    """IKE_SAs of the endpoint."""
    eap_rounds: int = 16
    """EAP requests of one authentication."""
    login_seconds: float = 20.0
    """From a LoginRequested event to its verdict; without one in time the login is refused."""
    eap_request: int = 8192
    """Bytes stored of the first IKE_AUTH request while EAP runs: identities, SA, selectors, CP and notifies."""
    events: int = 100_000
    """Undelivered events; at the limit, further diagnostics (DatagramDropped, HintReceived) are dropped."""


@dataclass(frozen=True, slots=True)
class EndpointConfiguration:
    """An endpoint: its ports, connections and limits."""

    connections: tuple[ConnectionConfiguration, ...] = ()
    ike_port: int = 500
    """The local port without non-ESP marker; datagrams on any other local port carry it (RFC 3948). 0: none."""
    natt_port: int = 4500
    """The local port for NAT traversal (RFC 7296, 2.23)."""
    remote_natt_port: int = 4500
    """The peer's port for NAT traversal."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        names = [connection.name for connection in self.connections]
        if len(names) != len(set(names)):
            raise ConfigurationError("two connections have the same name")

    def connection(self, name: str) -> ConnectionConfiguration | None:
        """Return the connection of this name, or None."""
        return next((connection for connection in self.connections if connection.name == name), None)

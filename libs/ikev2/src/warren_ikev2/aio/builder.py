"""The methods that the builders of client and server share. Each returns the builder; `build` validates the whole."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from cryptography import x509

from warren_ikev2.aio.offload import DataPlaneOptions
from warren_ikev2.configuration import (
    DEFAULT_IKE_PROPOSALS,
    ChildConfiguration,
    ConnectionConfiguration,
    IkeLifetime,
    Lifetime,
    Retransmission,
)
from warren_ikev2.credentials import (
    CertificateAuth,
    CertificateTrust,
    LocalAuth,
    Ppk,
    PrivateKey,
    PskAuth,
    PublicKey,
    RawKeyAuth,
    RawKeyTrust,
    RemoteAuth,
)
from warren_ikev2.dataplane.tun import OffloadTun
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.identity import Identity
from warren_ikev2.selectors import Selectors, TrafficSelector
from warren_ikev2.suites import esp_proposals, ike_proposals

EVERYTHING = (TrafficSelector.parse("0.0.0.0/0"), TrafficSelector.parse("::/0"))
DEFAULT_PATH_MTU = 1500
"""Bytes. Ethernet's; the tunnel's MTU follows from it and the cipher."""


class ConnectionBuilder:
    """Collects one connection's configuration, its credentials and selectors."""

    def __init__(self) -> None:
        self._local_id: Identity | None = None
        self._remote_id: Identity | None = None
        self._local_auth: LocalAuth | None = None
        self._remote_auth: RemoteAuth | None = None
        self._child = ChildConfiguration("child")
        self._childless = False
        self._fields: dict[str, Any] = {
            "ike_proposals": DEFAULT_IKE_PROPOSALS,
            # ESP goes through the process's own UDP socket, so it is always encapsulated (RFC 3948)
            "force_udp_encapsulation": True,
        }
        self._path_mtu = DEFAULT_PATH_MTU
        self._data_plane: DataPlaneOptions | None = None

    # ---- who we are, who the peer is

    def with_local_id(self, identity: str) -> Self:
        """Our identity in strongSwan's notation (`Identity.parse`)."""
        self._local_id = Identity.parse(identity)
        return self

    def with_remote_id(self, identity: str) -> Self:
        """The peer's identity; without it, any that it authenticates."""
        self._remote_id = Identity.parse(identity)
        return self

    def with_psk(self, secret: bytes) -> Self:
        """Authenticate both sides by a pre-shared key."""
        self._local_auth = self._remote_auth = PskAuth(secret)
        return self

    def with_certificate(self, chain: Sequence[x509.Certificate], key: PrivateKey) -> Self:
        """Authenticate by a certificate: the end entity first, then intermediates."""
        self._local_auth = CertificateAuth(tuple(chain), key)
        return self

    def with_raw_key(self, key: PrivateKey) -> Self:
        """Authenticate by a raw key that the peer trusts."""
        self._local_auth = RawKeyAuth(key)
        return self

    def with_authorities(self, *authorities: x509.Certificate) -> Self:
        """Trust peers with a certificate of these authorities."""
        self._remote_auth = CertificateTrust(tuple(authorities))
        return self

    def with_peer_keys(self, *keys: PublicKey) -> Self:
        """Trust a peer that owns one of these keys."""
        self._remote_auth = RawKeyTrust(tuple(keys))
        return self

    def with_auth(self, local: LocalAuth, remote: RemoteAuth) -> Self:
        """Any other pair of credentials (see `warren_ikev2.credentials`)."""
        self._local_auth, self._remote_auth = local, remote
        return self

    def with_ppk(self, ppk_id: bytes, key: bytes, *, required: bool = True) -> Self:
        """Mix in a post-quantum pre-shared key (RFC 8784)."""
        return self.with_options(ppk=Ppk(ppk_id, key, required))

    # ---- what is negotiated

    def with_proposals(self, ike: Sequence[Sequence[str]] = (), esp: Sequence[Sequence[str]] = ()) -> Self:
        """Proposals, best first, each the names of its algorithms, such as `("aes256gcm16", "prfsha384", "x25519")`.

        An empty sequence keeps the default. ConfigurationError: as `warren_ikev2.suites.ike_proposal`.
        """
        if ike:
            self._fields["ike_proposals"] = ike_proposals(*ike)
        if esp:
            self._child = replace(self._child, esp_proposals=esp_proposals(*esp))
        return self

    def with_networks(self, local: Sequence[str] = (), remote: Sequence[str] = ()) -> Self:
        """The networks on either side of the tunnel; an empty sequence keeps the default."""
        if local:
            self._child = replace(self._child, local_ts=parse_networks(local))
        if remote:
            self._child = replace(self._child, remote_ts=parse_networks(remote))
        return self

    def with_child_lifetime(self, lifetime: Lifetime) -> Self:
        """When the CHILD_SA is rekeyed."""
        self._child = replace(self._child, lifetime=lifetime)
        return self

    def with_ike_lifetime(self, lifetime: IkeLifetime) -> Self:
        """When the IKE_SA is rekeyed or re-authenticated."""
        return self.with_options(lifetime=lifetime)

    def with_dpd(self, delay: float | None) -> Self:
        """Seconds of silence before a liveness check; `None`: never."""
        return self.with_options(dpd_delay=delay)

    def with_retransmission(self, retransmission: Retransmission) -> Self:
        """The retransmission of requests until the peer counts as dead."""
        return self.with_options(retransmission=retransmission)

    def with_fragment_size(self, octets: int | None) -> Self:
        """The largest IKE datagram (RFC 7383); `None`: no fragmentation."""
        return self.with_options(fragment_size=octets)

    def with_path_mtu(self, octets: int) -> Self:
        """The largest outer IP packet; the tunnel's MTU follows from it."""
        self._path_mtu = octets
        return self

    def with_data_plane(self, tun: OffloadTun, **options: Any) -> Self:
        """Carry packets in a process of its own, between this TUN device and the peers (see `warren_ikev2.dataplane`).

        `options`: the other fields of `DataPlaneOptions`.
        """
        self._data_plane = DataPlaneOptions(tun, **options)
        return self

    def childless(self) -> Self:
        """Negotiate no CHILD_SA with the handshake (RFC 6023)."""
        self._childless = True
        return self

    def with_options(self, **fields: Any) -> Self:
        """Any other field of `ConnectionConfiguration`."""
        self._fields.update(fields)
        return self

    def connection(self, name: str) -> ConnectionConfiguration:
        """The connection so far. `ConfigurationError` names what is missing or contradicts itself."""
        if self._local_auth is None or self._remote_auth is None:
            raise ConfigurationError(
                "no credentials for both sides: use with_psk, or with_certificate and with_authorities"
            )
        if self._local_id is None:
            if not isinstance(self._local_auth, CertificateAuth):
                raise ConfigurationError("no local identity: use with_local_id")
            self._local_id = Identity.from_subject(self._local_auth.chain[0])
        fields: dict[str, Any] = {
            "remote_identity": self._remote_id,
            "children": () if self._childless else (self._child,),
            **self._fields,
        }
        try:
            return ConnectionConfiguration(name, self._local_id, self._local_auth, self._remote_auth, **fields)
        except TypeError as error:
            raise ConfigurationError(f"unknown option: {error}") from None


def parse_networks(networks: Sequence[str]) -> Selectors:
    """Traffic selectors from text. `ConfigurationError` for anything but networks, addresses and ranges."""
    try:
        return tuple(TrafficSelector.parse(text) for text in networks)
    except ValueError as error:
        raise ConfigurationError(f"invalid network: {error}") from None

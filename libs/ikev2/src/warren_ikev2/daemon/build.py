"""A tunnel's specification as a connection of the engine. Pure."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from warren_ikev2.addresses import IPAddress
from warren_ikev2.configuration import AddressPool, ChildConfiguration, ConnectionConfiguration, IkeLifetime, Lifetime
from warren_ikev2.credentials import RawKeyAuth, RawKeyTrust
from warren_ikev2.daemon.messages import ChildSpecification, TunnelSpecification
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.identity import Identity
from warren_ikev2.suites import esp_proposals, ike_proposals

SEPARATOR = "~"
"""Between a tunnel's name and its generation, in the name of a connection."""


def build_connection(
    specification: TunnelSpecification,
    generation: int,
    private_key: Ed25519PrivateKey,
    assigned: tuple[IPAddress, ...] = (),
) -> ConnectionConfiguration:
    """The connection of one generation. `assigned`: virtual addresses that we have of the peer. `ConfigurationError` names the field."""
    try:
        public_key = Ed25519PublicKey.from_public_bytes(specification.remote_key)
    except ValueError:
        raise ConfigurationError("remote_key: an Ed25519 key has 32 bytes") from None
    return ConnectionConfiguration(
        f"{specification.name}{SEPARATOR}{generation}",
        Identity.parse(specification.local_identity),
        RawKeyAuth(private_key),
        RawKeyTrust((public_key,)),
        Identity.parse(specification.remote_identity),
        tuple(_child(child) for child in specification.children),
        ike_proposals(*specification.ike_proposals),
        IkeLifetime(specification.rekey_seconds, specification.reauth_seconds, specification.over_seconds),
        dpd_delay=specification.dpd_delay,
        fragment_size=specification.fragment_size,
        mobike=specification.mobike,
        request_addresses=tuple(sorted({address.version for address in specification.vips})),
        preferred_addresses=_preferred(specification, assigned),
        address_pool=_pool(specification),
        # ESP goes through our own UDP socket, so it is always encapsulated (RFC 3948)
        force_udp_encapsulation=True,
        # two IKE_SAs with one peer are how a change is made without a gap: neither may delete the other
        initial_contact=False,
    )


def tunnel_of(connection: str) -> tuple[str, int]:
    """The tunnel and the generation of a connection's name."""
    name, _, generation = connection.rpartition(SEPARATOR)
    return name, int(generation)


def _preferred(specification: TunnelSpecification, assigned: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    """The addresses that the specification names, else those that we have, which new SAs must not change."""
    wanted = {address.version: address for address in specification.vips}
    if len(wanted) != len(specification.vips):
        raise ConfigurationError("vips: at most one address of each IP version")
    own = {address.version: address for address in assigned}
    found = (own.get(version) if address.is_unspecified else address for version, address in sorted(wanted.items()))
    return tuple(address for address in found if address is not None)


def _pool(specification: TunnelSpecification) -> AddressPool | None:
    networks = tuple(network for selector in specification.pools for network in selector.networks())
    return AddressPool(networks, required=True, keep=True) if networks else None


def _child(child: ChildSpecification) -> ChildConfiguration:
    lifetime = Lifetime(
        child.rekey_seconds, child.life_seconds, child.rekey_bytes, child.life_bytes, child.rekey_packets,
        child.life_packets,
    )  # fmt: skip
    return ChildConfiguration(child.name, child.local_ts, child.remote_ts, esp_proposals(*child.proposals), lifetime)

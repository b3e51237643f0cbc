"""A tunnel's specification as a connection of the engine. Pure."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from warren_ikev2.configuration import ChildConfiguration, ConnectionConfiguration, IkeLifetime, Lifetime
from warren_ikev2.credentials import RawKeyAuth, RawKeyTrust
from warren_ikev2.daemon.messages import ChildSpecification, TunnelSpecification
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.identity import Identity
from warren_ikev2.suites import esp_proposals, ike_proposals

SEPARATOR = "~"
"""Between a tunnel's name and its generation, in the name of a connection."""


def build_connection(
    specification: TunnelSpecification, generation: int, private_key: Ed25519PrivateKey
) -> ConnectionConfiguration:
    """The connection of one generation. Raises `ConfigurationError`, naming the field."""
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
        # ESP goes through our own UDP socket, so it is always encapsulated (RFC 3948)
        force_udp_encapsulation=True,
        # two IKE_SAs with one peer are how a change is made without a gap: neither may delete the other
        initial_contact=False,
    )


def tunnel_of(connection: str) -> tuple[str, int]:
    """The tunnel and the generation of a connection's name."""
    name, _, generation = connection.rpartition(SEPARATOR)
    return name, int(generation)


def _child(child: ChildSpecification) -> ChildConfiguration:
    lifetime = Lifetime(
        child.rekey_seconds, child.life_seconds, child.rekey_bytes, child.life_bytes, child.rekey_packets,
        child.life_packets,
    )  # fmt: skip
    return ChildConfiguration(child.name, child.local_ts, child.remote_ts, esp_proposals(*child.proposals), lifetime)

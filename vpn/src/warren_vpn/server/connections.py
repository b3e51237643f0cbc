"""The settings and the users as connections of the engine. Pure.

Each user with a raw key, and each identity of a certificate, has a connection of its own: a raw key proves no identity by itself, and
a certificate of the CA is not enough to be a user. Users with passwords share one, whose verdicts `warren_vpn.login` gives. The
server proves itself by its raw key to users with raw keys, to others by its certificate if it has one.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from warren_ikev2.addresses import IPAddress
from warren_ikev2.configuration import (
    AddressPool,
    ChildConfiguration,
    ConnectionConfiguration,
    IkeLifetime,
    Lifetime,
    Limits,
    PeerSettings,
    Retransmission,
    Uniqueness,
)
from warren_ikev2.credentials import (
    CertificateAuth,
    CertificateTrust,
    EapTrust,
    LocalAuth,
    RawKeyAuth,
    RawKeyTrust,
)
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.identity import Identity
from warren_ikev2.selectors import Selectors, TrafficSelector
from warren_ikev2.suites import esp_proposals, ike_proposals
from warren_vpn.server.folder import Keys
from warren_vpn.server.settings import KeyUser, ServerSettings, bytes_per_second, check_addresses
from warren_vpn.users.model import User, Users

IKE_PROPOSALS = ike_proposals(
    ("aes256gcm16", "prfsha384", "x25519", "ecp384", "ecp256", "modp3072"),
    ("aes256gcm16", "prfsha256", "x25519", "ecp256", "modp2048"),
    ("chacha20poly1305", "prfsha256", "x25519", "ecp256"),
    ("aes256", "sha256", "prfsha256", "x25519", "ecp256", "modp2048"),
)
"""Ours first; the second and fourth are what Apple's and Windows's clients offer once their strong algorithms are configured."""
ESP_PROPOSALS = esp_proposals(
    ("aes256gcm16", "x25519", "ecp256"), ("aes256gcm16",), ("chacha20poly1305", "x25519"), ("chacha20poly1305",),
    ("aes256", "sha256"),
)  # fmt: skip
"""A rekeyed CHILD_SA has a key exchange of its own where the client offers one."""
RETRANSMISSIONS = 4
_ASKED_AFTER = 0.25
"""Of the inactivity: then the server asks the client whether it is there, and repeats that until the time is over."""


@dataclass(frozen=True, slots=True)
class UserTraits:
    """What is particular to one user, however it logs in."""

    addresses: tuple[IPAddress, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """What it may reach; empty: what the settings say."""
    rate: int | None = None
    """Bytes per second each way; None: no limit."""
    user: str = ""
    """The user's name, whatever identity it proves."""
    secret: str = ""
    """Changes with the password, key or certificate by which the user logs in; it is none of them."""


@dataclass(frozen=True, slots=True)
class Connections:
    """The engine's connections, and the traits of each user by each name that it can prove."""

    engine: tuple[ConnectionConfiguration, ...]
    traits: Mapping[str, UserTraits] = field(default_factory=dict)

    @property
    def users(self) -> int:
        """How many there are."""
        return len({traits.user for traits in self.traits.values()})


def traits_of(user: KeyUser | User, settings: ServerSettings) -> UserTraits:
    """The traits of a user."""
    rate = user.rate_mbit if user.rate_mbit is not None else settings.limits.rate_mbit
    secret = user.changed_at.isoformat() if isinstance(user, User) else user.public_key
    return UserTraits(user.addresses, user.networks, bytes_per_second(rate), user.name, secret)


def build_connections(settings: ServerSettings, keys: Keys, users: Users | None = None) -> Connections:
    """All connections of the server; disabled users have none.

    Raises `ConfigurationError` of the engine for an unusable identity, ValueError for users who contradict the settings.
    """
    known = [user for user in (users or Users()).users if not user.disabled]
    for _, reason in contradictions(settings, known):
        raise ValueError(reason)
    everybody: list[KeyUser | User] = [*settings.user, *known]
    traits = {name: traits_of(user, settings) for user in everybody for name in _names(user)}
    common = _common(settings, traits)
    local = Identity.parse(settings.identity)
    authorities = CertificateTrust(keys.client_authorities) if keys.client_authorities and keys.chain else None
    made = [
        ConnectionConfiguration(
            f"{kind}-{name}",
            local,
            _own_proof(kind, keys),
            trust,
            Identity.parse(name),
            **{**common, "remote_addresses": user.allow_from or settings.limits.allow_from},
        )
        for user in everybody
        for kind, name, trust in _proofs(user, authorities)
    ]
    if any(user.password is not None for user in known):
        trust_in_passwords = EapTrust(mschapv2=any(user.nt_hash is not None for user in known))
        options = {**common, "remote_addresses": settings.limits.allow_from}
        own = _own_proof(PASSWORD, keys)
        made.append(ConnectionConfiguration(PASSWORD, local, own, trust_in_passwords, None, **options))
    return Connections(tuple(made), traits)


RAW_KEY, CERTIFICATE, PASSWORD = "key", "certificate", "password"
"""The kinds of connections, which their names begin with."""


def contradictions(settings: ServerSettings, users: Iterable[User]) -> Iterator[tuple[str, str]]:
    """The enabled users of the user file who contradict the settings or another user, each with the reason: it is in server.toml too, its
    certificate proves the name of another user, or its fixed address is taken or in no pool.
    """
    known = [user for user in users if not user.disabled]
    own = {user.name.lower() for user in settings.user}
    names = {name: name for name in own} | {user.name.lower(): user.name.lower() for user in known}
    taken = {*settings.tunnel.own_addresses, *(address for user in settings.user for address in user.addresses)}
    for user in known:
        try:
            if user.name.lower() in own:
                raise ValueError(f"user {user.name}: is in server.toml and in the user file; remove it from one")
            for name in map(str.lower, _names(user)):
                if names.setdefault(name, user.name.lower()) != user.name.lower():
                    raise ValueError(f"user {user.name}: its certificate's identity {name!r} is another user's")
            check_addresses(user.name, user.addresses, settings.tunnel.pools, taken)
        except (ValueError, ConfigurationError) as error:
            yield user.name, str(error)


def _names(user: KeyUser | User) -> Iterator[str]:
    """What a user can prove to be, as the engine writes it."""
    yield user.name
    if isinstance(user, User):
        yield from (str(Identity.parse(identity)) for identity in user.certificate_identities)


def _proofs(
    user: KeyUser | User, authorities: CertificateTrust | None
) -> Iterator[tuple[str, str, RawKeyTrust | CertificateTrust]]:
    """The kind of each proof but the password, the identity, and what is trusted."""
    if user.public_key is not None:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(user.public_key))
        yield RAW_KEY, user.name, RawKeyTrust((key,))
    if isinstance(user, User) and authorities is not None:
        for identity in user.certificate_identities:
            yield CERTIFICATE, identity, authorities


def _own_proof(kind: str, keys: Keys) -> LocalAuth:
    if kind == RAW_KEY or keys.certificate_key is None:
        return RawKeyAuth(keys.raw)
    return CertificateAuth(keys.chain, keys.certificate_key)


def _common(settings: ServerSettings, traits: Mapping[str, UserTraits]) -> dict[str, Any]:
    """What all connections share; the same objects, so that ten thousand users take little memory."""
    tunnel, limits, lifetimes = settings.tunnel, settings.limits, settings.lifetimes
    child = ChildConfiguration(
        "vpn",
        local_ts=selectors_of(tunnel.networks),
        esp_proposals=ESP_PROPOSALS,
        lifetime=Lifetime(lifetimes.child_s, lifetimes.child_s * 1.1),
    )
    # each proof has its name in the identity's form, which is what the engine compares
    peers = {
        str(Identity.parse(name)): PeerSettings(user.addresses, selectors_of(user.networks), user.user, user.secret)
        for name, user in traits.items()
    }
    return {
        "children": (child,),
        "ike_proposals": IKE_PROPOSALS,
        "lifetime": IkeLifetime(lifetimes.ike_s),
        "retransmission": retransmission(limits.inactivity_s),
        "dpd_delay": limits.inactivity_s * _ASKED_AFTER,
        "force_udp_encapsulation": True,  # ESP goes through the server's own UDP socket
        "address_pool": address_pool(settings, traits),
        "initial_contact": False,  # a server never contacts first
        "uniqueness": Uniqueness(limits.same_user),
        "peers": peers,
    }


def address_pool(settings: ServerSettings, traits: Mapping[str, UserTraits]) -> AddressPool:
    """The pools, without the server's own addresses and those of users; what clients do not ask for is refused."""
    tunnel = settings.tunnel
    fixed = (address for user in traits.values() for address in user.addresses)
    full = any(network.prefixlen == 0 for network in tunnel.networks)
    subnets = () if full else tunnel.networks
    reserved = frozenset((*tunnel.own_addresses, *fixed))
    return AddressPool(tunnel.pools, tunnel.dns, subnets, required=True, reserved=reserved)


def selectors_of(networks: Iterable[IPv4Network | IPv6Network]) -> Selectors:
    """Networks as traffic selectors."""
    return tuple(TrafficSelector.parse(str(network)) for network in networks)


def retransmission(inactivity_s: float) -> Retransmission:
    """Retransmissions by which a client that is silent is dead when the inactivity is over, from the first question on."""
    return Retransmission.lasting(inactivity_s * (1 - _ASKED_AFTER), RETRANSMISSIONS)


def engine_limits(settings: ServerSettings) -> Limits:
    """The engine's limits."""
    return Limits(half_open=settings.limits.half_open, half_open_per_address=settings.limits.half_open_per_address)

"""The settings and the users as connections of the engine. Pure.

Each user with a raw key has a connection of its own, because a raw key proves no identity by itself. They share everything else.
"""

import base64
from collections.abc import Iterable, Mapping
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
from warren_ikev2.credentials import RawKeyAuth, RawKeyTrust
from warren_ikev2.identity import Identity
from warren_ikev2.selectors import Selectors, TrafficSelector
from warren_ikev2.suites import esp_proposals, ike_proposals
from warren_vpn.server.folder import Keys
from warren_vpn.server.settings import KeyUser, ServerSettings, bytes_per_second

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
_BASE = 1.8
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


@dataclass(frozen=True, slots=True)
class Connections:
    """The engine's connections, and the traits of each user by name."""

    engine: tuple[ConnectionConfiguration, ...]
    traits: Mapping[str, UserTraits] = field(default_factory=dict)


def traits_of(user: KeyUser, settings: ServerSettings) -> UserTraits:
    """The traits of a user with a raw key."""
    rate = user.rate_mbit if user.rate_mbit is not None else settings.limits.rate_mbit
    return UserTraits(user.addresses, user.networks, bytes_per_second(rate))


def build_connections(settings: ServerSettings, keys: Keys) -> Connections:
    """All connections of the server. Raises `ConfigurationError` of the engine for an unusable identity."""
    traits = {user.name: traits_of(user, settings) for user in settings.user}
    common = _common(settings, traits)
    local = Identity.parse(settings.identity)
    own = RawKeyAuth(keys.raw)
    made = [
        ConnectionConfiguration(
            f"key-{user.name}",
            local,
            own,
            RawKeyTrust((Ed25519PublicKey.from_public_bytes(base64.b64decode(user.public_key)),)),
            Identity.parse(user.name),
            **{**common, "remote_addresses": user.allow_from or settings.limits.allow_from},
        )
        for user in settings.user
    ]
    return Connections(tuple(made), traits)


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
        str(Identity.parse(name)): PeerSettings(user.addresses, selectors_of(user.networks))
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
    waits = sum(_BASE**at for at in range(RETRANSMISSIONS + 1))
    return Retransmission(inactivity_s * (1 - _ASKED_AFTER) / waits, _BASE, RETRANSMISSIONS)


def engine_limits(settings: ServerSettings) -> Limits:
    """The engine's limits."""
    return Limits(half_open=settings.limits.half_open, half_open_per_address=settings.limits.half_open_per_address)

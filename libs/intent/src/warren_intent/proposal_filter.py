"""Filter proposals and options by the capabilities of both ends' drivers.

A driver refuses a whole tunnel for one unknown proposal, so proposals that one end does not support are removed at both ends
(each sees both records). A peer that has not reported capabilities is assumed to support every algorithm, since unsupported
ones are removed as soon as it reports; but no option, since an option has no fallback.
"""

from collections.abc import Iterable, Iterator

from warren_contracts.addresses import Endpoint, IPNetwork
from warren_contracts.crypto import CryptoProposal
from warren_contracts.peers import Capabilities
from warren_contracts.tunnel import (
    MIN_LIFETIME,
    Childless,
    DpdAction,
    Mode,
    Revocation,
    TunnelConfig,
    TunnelOptions,
    Xfrm,
)

Proposals = tuple[CryptoProposal, ...]
_COMMON = frozenset({"mobike"})  # supported by every driver


def algorithms_of(proposal: CryptoProposal) -> tuple[str, ...]:
    """The keywords of a proposal, without its sequence numbers."""
    words = (proposal.encryption, proposal.integrity, proposal.prf, proposal.key_exchange)
    return (*(word for word in words if word is not None), *proposal.additional_key_exchanges)


def can_express(proposal: CryptoProposal, words: tuple[str, ...], features: tuple[str, ...]) -> bool:
    """Whether a driver with these algorithms and features (empty: not reported) accepts a proposal."""
    if words and not frozenset(words).issuperset(algorithms_of(proposal)):
        return False
    if not features:
        return True
    needs = (("esn", bool(proposal.esn)), ("additional-key-exchanges", bool(proposal.additional_key_exchanges)))
    return all(feature in features for feature, needed in needs if needed)


class ProposalFilter:
    """The proposals that all ends of a tunnel support. Results are cached, since most peers of a fleet have the same capabilities."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[str, ...], tuple[str, ...]], Proposals] = {}

    def common(self, ike: Proposals, esp: Proposals, ends: Iterable[Capabilities]) -> tuple[Proposals, Proposals]:
        """The IKE and the ESP proposals that every end supports, in order."""
        for end in ends:
            ike = self._left(ike, end.ike, end.features)
            esp = self._left(esp, end.esp, end.features)
        return ike, esp

    def _left(self, proposals: Proposals, words: tuple[str, ...], features: tuple[str, ...]) -> Proposals:
        if not words and not features:
            return proposals
        # Policies, profiles and this cache keep the tuples alive, so their ids stay unique.
        key = (id(proposals), words, features)
        if key not in self._known:
            left = tuple(proposal for proposal in proposals if can_express(proposal, words, features))
            self._known[key] = proposals if len(left) == len(proposals) else left
        return self._known[key]


def refused_options(options: TunnelOptions) -> Iterator[tuple[str, str]]:
    """The options that no driver applies, each with the reason and the remedy. An option must not be ignored silently."""
    rules = (
        ("ike_version", options.ike_version == 1, "Ed25519 keys require IKEv2 (RFC 8420): set ike_version to 2"),
        (
            "ppk_required", options.ppk_required,
            "PPKs are not supported yet, so the tunnel would be established without one: set ppk_required to false",
        ),
        (
            "dpd_action", options.dpd_action is DpdAction.TRAP,
            "trap is not supported, since the agent starts tunnels: use clear or restart",
        ),
        (
            "ike_reauth_time", 0 < options.ike_reauth_time < MIN_LIFETIME,
            f"{options.ike_reauth_time} s is too short: use 0 (never) or at least {MIN_LIFETIME} s",
        ),
        (
            "revocation", options.revocation is not Revocation.RELAXED,
            "peers are authenticated by raw public keys, which cannot be revoked by a CA: set revocation to relaxed",
        ),
    )  # fmt: skip
    return ((option, message) for option, refused, message in rules if refused)


def features_of_xfrm(xfrm: Xfrm | None) -> Iterator[tuple[str, str]]:
    """The XFRM fields of an end, each with the driver feature that it requires."""
    given = xfrm or Xfrm()
    marks = given.mark_in or given.mark_out or given.set_mark_in or given.set_mark_out
    needs = (("if_id_in", "if_id", given.if_id_in or given.if_id_out), ("mark_in", "mark", marks))
    return ((field, feature) for field, feature, needed in needs if needed)


def carries(options: TunnelOptions, tunnel: TunnelConfig) -> bool:
    """Whether the mode of the CHILD_SA can carry these selectors: all modes but tunnel mode are between two single hosts
    (RFC 7296, 1.3.1), in transport mode the ends themselves."""
    sides = ((tunnel.local_ts, tunnel.local_addrs), (tunnel.remote_ts, tunnel.remote_addrs))
    return all(is_one_host(options.mode, networks, addresses) for networks, addresses in sides)


def is_one_host(mode: Mode, networks: tuple[IPNetwork, ...], addresses: tuple[Endpoint, ...]) -> bool:
    """Whether the mode can carry this side of a tunnel."""
    if mode is Mode.TUNNEL:
        return True
    if len(networks) != 1 or networks[0].num_addresses != 1:
        return False
    known = [address for address in addresses if not isinstance(address, str)]
    own = networks[0].network_address in known or not known
    return mode is Mode.BEET or own


def can_do(features: tuple[str, ...], feature: str) -> bool:
    """Whether a driver with these features (empty: not reported) accepts an option that needs `feature`."""
    return feature in features or (not features and feature in _COMMON)


def features_of(options: TunnelOptions) -> Iterator[tuple[str, str]]:
    """The options that not every driver supports, each with the driver feature that it requires."""
    needs = (
        ("mobike", "mobike", options.mobike),
        ("mode", options.mode.value, options.mode is not Mode.TUNNEL),
        ("hw_offload", "hw_offload", options.hw_offload not in ("no", "auto")),
        ("hw_offload", "hw_offload-packet", options.hw_offload == "packet"),
        ("childless", "childless-prefer", options.childless is Childless.PREFER),
    )
    return ((option, feature) for option, feature, needed in needs if needed)

"""What the two ends' drivers can express, and what is left of a policy's proposals then.

A driver refuses a whole tunnel for one proposal that it does not know, so proposals that an end cannot express are left out at
both ends (each sees both records). A peer that has not told its capabilities is taken to be capable of every algorithm, since
what it cannot do is left out as soon as it tells; but not of an option, for there is nothing to fall back to.
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
_COMMON = frozenset({"mobike"})  # of every driver that there is


def algorithms_of(proposal: CryptoProposal) -> tuple[str, ...]:
    """The keywords of a proposal, without its sequence numbers."""
    words = (proposal.encryption, proposal.integrity, proposal.prf, proposal.key_exchange)
    return (*(word for word in words if word is not None), *proposal.additional_key_exchanges)


def can_express(proposal: CryptoProposal, words: tuple[str, ...], features: tuple[str, ...]) -> bool:
    """Whether a driver with these algorithms and features (empty: not told) takes a proposal."""
    if words and not frozenset(words).issuperset(algorithms_of(proposal)):
        return False
    if not features:
        return True
    needs = (("esn", bool(proposal.esn)), ("additional-key-exchanges", bool(proposal.additional_key_exchanges)))
    return all(feature in features for feature, needed in needs if needed)


class ProposalFilter:
    """Which proposals the ends of a tunnel share. Answers are kept: most peers of a fleet are alike."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[str, ...], tuple[str, ...]], Proposals] = {}

    def common(self, ike: Proposals, esp: Proposals, ends: Iterable[Capabilities]) -> tuple[Proposals, Proposals]:
        """The IKE and the ESP proposals that every end can express, in their order."""
        for end in ends:
            ike = self._left(ike, end.ike, end.features)
            esp = self._left(esp, end.esp, end.features)
        return ike, esp

    def _left(self, proposals: Proposals, words: tuple[str, ...], features: tuple[str, ...]) -> Proposals:
        if not words and not features:
            return proposals
        # The tuples belong to policies, profiles or this table, which all outlive it: ids are theirs as long.
        key = (id(proposals), words, features)
        if key not in self._known:
            left = tuple(proposal for proposal in proposals if can_express(proposal, words, features))
            self._known[key] = proposals if len(left) == len(proposals) else left
        return self._known[key]


def refused_options(options: TunnelOptions) -> Iterator[tuple[str, str]]:
    """The options that no driver applies, whatever it can do, each with the reason and the remedy. An option that was
    silently left out would be a promise that nobody keeps."""
    rules = (
        ("ike_version", options.ike_version == 1, "Ed25519 keys need IKEv2 (RFC 8420): leave ike_version at 2"),
        (
            "ppk_required", options.ppk_required,
            "no policy names a PPK yet, so that the tunnel would come up without one: leave ppk_required at false",
        ),
        (
            "dpd_action", options.dpd_action is DpdAction.TRAP,
            "trap would start the tunnel besides the agent, which does it anyway: use clear or restart",
        ),
        (
            "ike_reauth_time", 0 < options.ike_reauth_time < MIN_LIFETIME,
            f"{options.ike_reauth_time} s would authenticate anew all the time: use 0 (never) or at least {MIN_LIFETIME} s",
        ),
        (
            "revocation", options.revocation is not Revocation.RELAXED,
            "peers prove themselves by raw keys, which no authority revokes: leave revocation at relaxed",
        ),
    )  # fmt: skip
    return ((option, message) for option, refused, message in rules if refused)


def features_of_xfrm(xfrm: Xfrm | None) -> Iterator[tuple[str, str]]:
    """The field and the feature of a driver that it needs, for an end's own XFRM settings."""
    given = xfrm or Xfrm()
    marks = given.mark_in or given.mark_out or given.set_mark_in or given.set_mark_out
    needs = (("if_id_in", "if_id", given.if_id_in or given.if_id_out), ("mark_in", "mark", marks))
    return ((field, feature) for field, feature, needed in needs if needed)


def carries(options: TunnelOptions, tunnel: TunnelConfig) -> bool:
    """Whether the mode of the CHILD_SA can carry these selectors: all but tunnel mode are between two single hosts
    (RFC 7296, 1.3.1), which in transport mode are the ends themselves."""
    sides = ((tunnel.local_ts, tunnel.local_addrs), (tunnel.remote_ts, tunnel.remote_addrs))
    return all(is_one_host(options.mode, networks, addresses) for networks, addresses in sides)


def is_one_host(mode: Mode, networks: tuple[IPNetwork, ...], addresses: tuple[Endpoint, ...]) -> bool:
    """Whether one side of a tunnel is what its mode can carry."""
    if mode is Mode.TUNNEL:
        return True
    if len(networks) != 1 or networks[0].num_addresses != 1:
        return False
    known = [address for address in addresses if not isinstance(address, str)]
    own = networks[0].network_address in known or not known
    return mode is Mode.BEET or own


def can_do(features: tuple[str, ...], feature: str) -> bool:
    """Whether a driver with these features (empty: not told) takes an option that needs `feature`."""
    return feature in features or (not features and feature in _COMMON)


def features_of(options: TunnelOptions) -> Iterator[tuple[str, str]]:
    """The option and the feature that it needs of a driver, for each option that is not common to all."""
    needs = (
        ("mobike", "mobike", options.mobike),
        ("mode", options.mode.value, options.mode is not Mode.TUNNEL),
        ("hw_offload", "hw_offload", options.hw_offload not in ("no", "auto")),
        ("hw_offload", "hw_offload-packet", options.hw_offload == "packet"),
        ("childless", "childless-prefer", options.childless is Childless.PREFER),
    )
    return ((option, feature) for option, feature, needed in needs if needed)

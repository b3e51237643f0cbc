"""What the two ends' drivers can express, and what is left of a policy's proposals then.

A driver refuses a whole tunnel for one proposal that it does not know, so proposals that an end cannot express are left out at
both ends (each sees both records). A peer that has not told its capabilities is taken to be capable.
"""

from collections.abc import Iterable, Iterator

from warren_contracts.crypto import CryptoProposal
from warren_contracts.peers import Capabilities
from warren_contracts.tunnel import Childless, Mode, TunnelOptions

Proposals = tuple[CryptoProposal, ...]


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


class Abilities:
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


def features_of(options: TunnelOptions) -> Iterator[tuple[str, str]]:
    """The option and the feature that it needs of a driver, for each option that is not common to all."""
    needs = (
        ("mobike", "mobike", options.mobike),
        ("mode", options.mode.value, options.mode is not Mode.TUNNEL),
        ("hw_offload", "hw_offload", options.hw_offload not in ("no", "auto")),
        ("hw_offload", "hw_offload-packet", options.hw_offload == "packet"),
        ("childless", "childless-prefer", options.childless is Childless.PREFER),
        ("ppk_required", "ppk", options.ppk_required),
    )
    return ((option, feature) for option, feature, needed in needs if needed)

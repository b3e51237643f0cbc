"""Negotiation of algorithms (RFC 7296, 2.7 and 3.3.6): the responder's choice, and the initiator's check of it."""

from collections.abc import Sequence
from dataclasses import replace

from warren_ikev2.algorithms import ADDITIONAL_KE_TYPES, Transform
from warren_ikev2.constants import Encr, Esn, Integ, KeGroup, Protocol, TransformType
from warren_ikev2.errors import MalformedMessageError, NoProposalChosenError
from warren_ikev2.suites import AEAD, Proposal

_KE_TYPES = frozenset({TransformType.KE, *ADDITIONAL_KE_TYPES})
_NONE_IDS: dict[int, int] = {
    TransformType.INTEG: Integ.NONE,
    TransformType.KE: KeGroup.NONE,
    TransformType.ESN: Esn.NO,
    **dict.fromkeys(ADDITIONAL_KE_TYPES, KeGroup.NONE),
}


def select(offered: Sequence[Proposal], configured: Sequence[Proposal], protocol: Protocol) -> Proposal:
    """The best configured proposal that one of the offered ones satisfies; offered number and SPI, one transform a type.

    NoProposalChosenError: there is none.
    """
    for own in configured:
        for offer in offered:
            if offer.protocol != protocol:
                continue
            chosen = _match(offer, own)
            if chosen is not None:
                return replace(offer, transforms=chosen)
    theirs = ", ".join(str(offer) for offer in offered[:8])
    ours = ", ".join(str(own) for own in configured)
    raise NoProposalChosenError(f"the peer offers {theirs or 'nothing'}; configured is {ours}")


def confirm(answer: Sequence[Proposal], offered: Sequence[Proposal]) -> Proposal:
    """Return the responder's choice. NoProposalChosenError: it was not offered (RFC 7296, 3.3.6)."""
    if len(answer) == 1:
        chosen = answer[0]
        types = [transform.type for transform in chosen.transforms]
        for offer in offered:
            if offer.number != chosen.number or offer.protocol != chosen.protocol or len(types) != len(set(types)):
                continue
            if _match(chosen, offer) == tuple(sorted(chosen.transforms, key=lambda t: t.type)):
                return chosen
    raise NoProposalChosenError("the peer chose a proposal that was not offered")


def confirm_group(data: bytes, offered: Sequence[Proposal], tried: int) -> int:
    """Return the group that INVALID_KE_PAYLOAD requests (RFC 7296, 1.2 and 2.7).

    Only one that was offered: the AUTH payloads later cover the whole offer. MalformedMessageError, NoProposalChosenError.
    """
    if len(data) != 2:
        raise MalformedMessageError("INVALID_KE_PAYLOAD without a group")
    group = int.from_bytes(data, "big")
    named = {transform.id for proposal in offered for transform in proposal.of_type(TransformType.KE)}
    if group == tried or group not in named:
        raise NoProposalChosenError(f"the peer requests key exchange group {group}, which is not offered")
    return group


def without_key_exchange(proposals: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """The proposals of IKE_AUTH, whose CHILD_SA has no key exchange of its own (RFC 7296, 1.2)."""
    return tuple(
        replace(proposal, transforms=tuple(t for t in proposal.transforms if t.type not in _KE_TYPES))
        for proposal in proposals
    )


def number(proposals: Sequence[Proposal], spi: bytes = b"") -> tuple[Proposal, ...]:
    """The proposals numbered from 1 (RFC 7296, 3.3.1), with our SPI."""
    return tuple(proposal.with_spi(spi, index) for index, proposal in enumerate(proposals, 1))


def _match(offer: Proposal, own: Proposal) -> tuple[Transform, ...] | None:
    chosen: list[Transform] = []
    for kind in sorted({transform.type for transform in (*offer.transforms, *own.transforms)}):
        picked = _pick(kind, offer, own)
        if picked is False:
            return None
        if isinstance(picked, Transform):
            chosen.append(picked)
    return tuple(chosen) if _is_consistent(chosen) else None


def _pick(kind: int, offer: Proposal, own: Proposal) -> Transform | bool:
    """A transform, True (no transform needed) or False (no agreement)."""
    theirs = [transform for transform in offer.transforms if transform.type == kind]
    ours = [transform for transform in own.transforms if transform.type == kind]
    none = _NONE_IDS.get(kind)
    if not theirs:
        return none is not None and any(transform.id == none for transform in ours)
    if not ours:
        return next((transform for transform in theirs if transform.id == none and none is not None), False)
    return next((offered for own in ours for offered in theirs if _equal(offered, own)), False)


def _equal(offered: Transform, own: Transform) -> bool:
    """Some peers state the key length of ChaCha20, which has none to state (RFC 7634, 4); the reply repeats what was offered."""
    if offered.type == TransformType.ENCR and offered.id == own.id == Encr.CHACHA20_POLY1305:
        return offered.key_length in (None, 256) and not offered.unknown_attributes
    return offered == own


def _is_consistent(chosen: Sequence[Transform]) -> bool:
    """A cipher without AEAD has an integrity algorithm, one with AEAD has none."""
    ciphers = [transform for transform in chosen if transform.type == TransformType.ENCR]
    integrity = any(transform.type == TransformType.INTEG and transform.id for transform in chosen)
    return len(ciphers) == 1 and (ciphers[0].id in AEAD) != integrity and ciphers[0].id in frozenset(Encr)

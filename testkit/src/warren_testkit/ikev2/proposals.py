"""Proposals of the engine from strongSwan's keywords, as policies and `warren ike probe` get them."""

from warren_contracts.proposals import parse_proposal
from warren_ikev2.suites import Proposal, esp_proposal, esp_proposals, ike_proposal, ike_proposals


def names(keywords: str) -> tuple[str, ...]:
    """What a builder takes for one proposal: `aes256gcm16-prfsha384-x25519` becomes the names of its algorithms."""
    return parse_proposal(keywords).names


def parse_ike_proposal(keywords: str) -> Proposal:
    """One proposal for an IKE_SA."""
    return ike_proposal(*names(keywords))


def parse_esp_proposal(keywords: str) -> Proposal:
    """One proposal for a CHILD_SA."""
    return esp_proposal(*names(keywords))


def parse_ike_proposals(*keywords: str) -> tuple[Proposal, ...]:
    """Several proposals, best first."""
    return ike_proposals(*map(names, keywords))


def parse_esp_proposals(*keywords: str) -> tuple[Proposal, ...]:
    """Several proposals, best first."""
    return esp_proposals(*map(names, keywords))

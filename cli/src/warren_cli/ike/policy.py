"""What the user wants, as proposals that a probe can send."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warren_cli.errors import CliError
from warren_cli.remote.documents import load
from warren_contracts.policy import Policy
from warren_contracts.proposals import Algorithms, parse_proposal
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.suites import Proposal, ike_proposals
from warren_intent.errors import UnknownProfileError
from warren_intent.profiles import proposals, proposals_of


@dataclass(frozen=True)
class RequestedProposals:
    """Proposals to compare with, and those that our own IKE cannot speak and so cannot ask for."""

    source: str
    proposals: tuple[Proposal, ...]
    unknown: tuple[str, ...] = ()


def requested_proposals(keywords: Sequence[str], profile: str, policy: Path | None) -> RequestedProposals | None:
    """From keywords, a profile's name or a policy file; None if nothing is given.

    Raises:
        ConfigurationError: keywords that do not parse, an unknown profile, a policy that could not be applied, or more than
            one source.
    """
    if sum((bool(keywords), bool(profile), policy is not None)) > 1:
        raise ConfigurationError("give --proposal, --profile or --policy, not several of them")
    if keywords:
        return RequestedProposals("the given proposals", ike_proposals(*(_parsed(text).names for text in keywords)))
    try:
        if policy is not None:
            document = _policy(policy)
            return _speakable(f"policy {document.id}", proposals_of(document.crypto)[0])
        return _speakable(f"profile {profile}", proposals(profile)[0]) if profile else None
    except UnknownProfileError as error:
        raise ConfigurationError(str(error)) from None


def _parsed(keywords: str) -> Algorithms:
    try:
        return parse_proposal(keywords)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _policy(path: Path) -> Policy:
    """The one policy of a file, read as `warren policy apply` reads it."""
    try:
        loaded = load([str(path)])
    except CliError as error:
        raise ConfigurationError(str(error)) from None
    if len(loaded) > 1:
        raise ConfigurationError(f"{path} holds {len(loaded)} policies: compare with one at a time")
    return loaded[0].policy


def _speakable(source: str, wanted: Sequence[Algorithms]) -> RequestedProposals:
    known, unknown = [], []
    for algorithms in wanted:
        try:
            ike_proposals(algorithms.names)
        except ConfigurationError:
            unknown.append(algorithms.keywords)
        else:
            known.append(algorithms.names)
    return RequestedProposals(source, ike_proposals(*known), tuple(unknown))

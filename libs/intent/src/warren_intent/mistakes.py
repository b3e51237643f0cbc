"""Slips of the pen in one policy: what every field allows by itself, and nobody means. Pure: places and words out."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from warren_contracts.addresses import Endpoint
from warren_contracts.crypto import CryptoProposal
from warren_contracts.identities import canonical
from warren_contracts.policy import Crypto, TunnelSpec
from warren_contracts.tunnel import TunnelOptions
from warren_intent.algorithms import ESP_ONLY
from warren_intent.findings import Code, Severity

MAX_PROPOSALS = 16  # of one tunnel and level, as TunnelConfig has them

_BROADCAST = IPv4Address("255.255.255.255")


class Mistake(NamedTuple):
    """One of them: where it stands, from the policy's or the tunnel's own fields on."""

    code: Code
    severity: Severity
    field: str
    message: str


def mistakes_in_ends(tunnel: TunnelSpec) -> Iterator[Mistake]:
    """What the two ends of an explicit tunnel cannot mean."""
    for number, end in enumerate(tunnel.ends):
        yield from _repeated(f"ends/{number}/subnets", end.subnets)
        yield from _repeated(f"ends/{number}/addresses", end.addresses)
        for index, address in enumerate(end.addresses):
            if not _is_one_host(address):
                message = f"no gateway is reached at {address}: write its own address, or leave it out"
                yield Mistake(Code.NO_ADDRESS, Severity.ERROR, f"ends/{number}/addresses/{index}", message)
    first, second = (end.identity for end in tunnel.ends)
    if first is not None and second is not None and canonical(first) == canonical(second):
        message = "both ends have the same IKE identity: give each its own"
        yield Mistake(Code.DUPLICATE_IDENTITY, Severity.ERROR, "ends/1/identity", message)


def mistakes_in_crypto(crypto: Crypto) -> Iterator[Mistake]:
    """What a list of proposals cannot mean, whatever the profile says of their algorithms."""
    for level, proposals in (("ike", crypto.ike), ("esp", crypto.esp)):
        field = f"crypto/{level}"
        yield from _repeated(field, proposals)
        if len(proposals) > MAX_PROPOSALS:
            message = f"{len(proposals)} proposals: {MAX_PROPOSALS} at most, the best first"
            yield Mistake(Code.BAD_PROPOSAL, Severity.ERROR, field, message)
    yield from (
        Mistake(Code.DOUBTFUL_ALGORITHM, Severity.WARNING, f"crypto/esp/{index}", _in_the_clear(proposal))
        for index, proposal in enumerate(crypto.esp)
        if proposal.encryption in ESP_ONLY
    )


def mistakes_in_options(options: TunnelOptions) -> Iterator[Mistake]:
    """Values that leave a tunnel without what keeps it up."""
    if not options.dpd_delay:
        message = "without probes a peer that is gone is noticed only when an SA is renewed"
        yield Mistake(Code.DOUBTFUL_OPTION, Severity.WARNING, "options/dpd_delay", message)
    for unit in ("bytes", "packets"):
        if getattr(options, f"child_life_{unit}") and not getattr(options, f"child_rekey_{unit}"):
            message = f"without child_rekey_{unit} the SA ends before it is renewed: set it below this"
            yield Mistake(Code.DOUBTFUL_OPTION, Severity.WARNING, f"options/child_life_{unit}", message)


def _repeated(field: str, entries: Sequence[object]) -> Iterator[Mistake]:
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            yield Mistake(
                Code.REPEATED, Severity.WARNING, f"{field}/{index}", f"{entry} is given twice: it counts once"
            )


def _is_one_host(address: Endpoint) -> bool:
    if not isinstance(address, IPv4Address | IPv6Address):
        return True  # a name; what it stands for is known when it is used
    return not (address.is_unspecified or address.is_multicast or address == _BROADCAST)


def _in_the_clear(proposal: CryptoProposal) -> str:
    return f"{proposal.encryption} does not encrypt: the tunnel's packets can be read on their way"

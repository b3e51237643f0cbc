"""Likely mistakes in one policy: values that each field allows by itself but that cannot be meant."""

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
    """One mistake; `field` is relative to the policy or the tunnel."""

    code: Code
    severity: Severity
    field: str
    message: str


def mistakes_in_ends(tunnel: TunnelSpec) -> Iterator[Mistake]:
    """Mistakes in the two ends of an explicit tunnel."""
    for number, end in enumerate(tunnel.ends):
        yield from _repeated(f"ends/{number}/subnets", end.subnets)
        yield from _repeated(f"ends/{number}/addresses", end.addresses)
        for index, address in enumerate(end.addresses):
            if not _is_one_host(address):
                message = f"{address} is not a unicast address: use the address of the gateway, or omit it"
                yield Mistake(Code.NO_ADDRESS, Severity.ERROR, f"ends/{number}/addresses/{index}", message)
    first, second = (end.identity for end in tunnel.ends)
    if first is not None and second is not None and canonical(first) == canonical(second):
        message = "both ends have the same IKE identity: use distinct identities"
        yield Mistake(Code.DUPLICATE_IDENTITY, Severity.ERROR, "ends/1/identity", message)


def mistakes_in_crypto(crypto: Crypto) -> Iterator[Mistake]:
    """Mistakes in lists of proposals, independent of the profile."""
    for level, proposals in (("ike", crypto.ike), ("esp", crypto.esp)):
        field = f"crypto/{level}"
        yield from _repeated(field, proposals)
        if len(proposals) > MAX_PROPOSALS:
            message = f"{len(proposals)} proposals exceed the limit of {MAX_PROPOSALS}"
            yield Mistake(Code.BAD_PROPOSAL, Severity.ERROR, field, message)
    yield from (
        Mistake(Code.DOUBTFUL_ALGORITHM, Severity.WARNING, f"crypto/esp/{index}", _unencrypted(proposal))
        for index, proposal in enumerate(crypto.esp)
        if proposal.encryption in ESP_ONLY
    )


def mistakes_in_options(options: TunnelOptions) -> Iterator[Mistake]:
    """Options that disable what keeps a tunnel up."""
    if not options.dpd_delay:
        message = "without DPD an unreachable peer is detected only when an SA is rekeyed"
        yield Mistake(Code.DOUBTFUL_OPTION, Severity.WARNING, "options/dpd_delay", message)
    for unit in ("bytes", "packets"):
        if getattr(options, f"child_life_{unit}") and not getattr(options, f"child_rekey_{unit}"):
            message = f"without child_rekey_{unit} the SA expires before it is rekeyed: set it to a lower value"
            yield Mistake(Code.DOUBTFUL_OPTION, Severity.WARNING, f"options/child_life_{unit}", message)


def _repeated(field: str, entries: Sequence[object]) -> Iterator[Mistake]:
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            yield Mistake(Code.REPEATED, Severity.WARNING, f"{field}/{index}", f"duplicate entry {entry}")


def _is_one_host(address: Endpoint) -> bool:
    if not isinstance(address, IPv4Address | IPv6Address):
        return True  # a name, resolved when it is used
    return not (address.is_unspecified or address.is_multicast or address == _BROADCAST)


def _unencrypted(proposal: CryptoProposal) -> str:
    return f"{proposal.encryption} does not encrypt: traffic in the tunnel is readable on the network"

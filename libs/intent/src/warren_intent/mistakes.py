"""Likely mistakes in one policy: values that each field allows by itself but that cannot be meant."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from warren_contracts.addresses import is_one_host
from warren_contracts.identities import canonical
from warren_contracts.ipsec import MAX_PROPOSALS, ChildOptions
from warren_contracts.policy import ChildSpec, Crypto, TunnelOptions, TunnelSpec
from warren_contracts.proposals import Algorithms
from warren_intent.algorithms import ESP_ONLY
from warren_intent.findings import Code, Severity


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
        for index, address in enumerate(end.addresses):
            if address in end.addresses[:index]:
                message = f"{address} is listed twice: remove it"
                yield Mistake(Code.REPEATED, Severity.ERROR, f"ends/{number}/addresses/{index}", message)
        for index, address in enumerate(end.addresses):
            if not is_one_host(address):
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
        if not ESP_ONLY.isdisjoint(proposal.encryption)
    )


def mistakes_in_options(options: TunnelOptions) -> Iterator[Mistake]:
    """Options that disable what keeps a tunnel up."""
    if not options.ike.dpd_delay:
        message = "without DPD an unreachable peer is detected only when an SA is rekeyed"
        yield Mistake(Code.DOUBTFUL_OPTION, Severity.WARNING, "options/ike/dpd_delay", message)
    yield from _mistakes_in_limits("options/child", options.child)


def mistakes_in_children(children: Sequence[ChildSpec]) -> Iterator[Mistake]:
    """Mistakes in the CHILD_SAs of a policy or a tunnel, each by itself."""
    for index, child in enumerate(children):
        if child.options is not None:
            yield from _mistakes_in_limits(f"children/{index}/options", child.options)
        yield from _repeated(f"children/{index}/esp", child.esp)
        for position, selectors in enumerate(child.ts):
            yield from _repeated(f"children/{index}/ts/{position}", selectors)


def _mistakes_in_limits(field: str, options: ChildOptions) -> Iterator[Mistake]:
    for unit in ("bytes", "packets"):
        if getattr(options, f"life_{unit}") and getattr(options, f"rekey_{unit}") == 0:
            message = f"without rekey_{unit} the SA expires before it is rekeyed: omit it, or set it to a lower value"
            yield Mistake(Code.DOUBTFUL_OPTION, Severity.WARNING, f"{field}/life_{unit}", message)


def _repeated(field: str, entries: Sequence[object]) -> Iterator[Mistake]:
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            yield Mistake(Code.REPEATED, Severity.WARNING, f"{field}/{index}", f"duplicate entry {entry}")


def _unencrypted(proposal: Algorithms) -> str:
    return f"{_esp_only(proposal)} does not encrypt: traffic in the tunnel is readable on the network"


def _esp_only(proposal: Algorithms) -> str:
    return next(word for word in proposal.encryption if word in ESP_ONLY)

"""When a tunnel that is up shows that the reason given for its trouble no longer holds. Pure: SAs in, yes or no out.

A reason may be noted of a tunnel that is up and stays up: a renewal was refused, a peer does not answer for a while. charon
reports when a retransmission was answered, and nothing when the SA that was in trouble is replaced. So what the reason was
about must be seen to work: a refused child is refuted by another child, and not by an IKE_SA that was rekeyed around it; a
refused authentication by one that took place, which a rekeying is not (RFC 7296, 2.8).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from warren_agent.drivers.strongswan.convergence import DesiredHandles, current_ike_sas
from warren_agent.drivers.strongswan.sas import IkeSa
from warren_contracts.status import ReasonCode


class Sign(Enum):
    """What happened to the SAs of a tunnel that is converged."""

    IKE = auto()  # another IKE_SA: negotiated, or rekeyed with the children of the former one
    CHILD = auto()  # another CHILD_SA
    AUTHENTICATION = auto()  # another IKE_SA with a child of its own: its ends have proved who they are
    GONE = auto()  # an IKE_SA is not there any more
    OVER = auto()  # the attempt in trouble has ended, and the tunnel is still up
    ANSWERED = auto()  # no request on the newest IKE_SA waits for its answer


# charon ends the IKE_SA whose messages nobody answers: where the tunnel stays up, it was another one.
REFUTED_BY: dict[ReasonCode, frozenset[Sign]] = {
    ReasonCode.PEER_UNREACHABLE: frozenset({Sign.IKE, Sign.CHILD, Sign.GONE, Sign.OVER}),
    ReasonCode.PEER_NOT_ANSWERING: frozenset({Sign.IKE, Sign.GONE, Sign.OVER, Sign.ANSWERED}),
    ReasonCode.PROPOSAL_MISMATCH_IKE: frozenset({Sign.IKE}),
    ReasonCode.PROPOSAL_MISMATCH_CHILD: frozenset({Sign.CHILD}),
    ReasonCode.TS_MISMATCH: frozenset({Sign.CHILD}),
    ReasonCode.INSTALL_FAILED: frozenset({Sign.CHILD}),
    ReasonCode.LOCAL_AUTH_FAILED: frozenset({Sign.AUTHENTICATION}),
    ReasonCode.PEER_AUTH_FAILED: frozenset({Sign.AUTHENTICATION}),
    ReasonCode.CERTIFICATE_INVALID: frozenset({Sign.AUTHENTICATION}),
    ReasonCode.ADDRESS_FAILED: frozenset({Sign.AUTHENTICATION}),
    ReasonCode.CONFIG_REFUSED: frozenset({Sign.AUTHENTICATION}),
    ReasonCode.DAEMON_UNREACHABLE: frozenset({Sign.IKE, Sign.CHILD}),
    ReasonCode.OTHER: frozenset({Sign.IKE, Sign.CHILD}),
}


@dataclass(frozen=True)
class Seen:
    """The SAs of a tunnel by their unique ids, which charon never uses twice."""

    ike: frozenset[int] = frozenset()  # all of them, also those that are being negotiated
    current: frozenset[int] = frozenset()  # those that carry the tunnel on its newest configuration
    children: frozenset[int] = frozenset()  # of the current ones, those that carry

    def __or__(self, other: "Seen") -> "Seen":
        return Seen(self.ike | other.ike, self.current | other.current, self.children | other.children)


def seen(sas: Iterable[IkeSa], desired: DesiredHandles) -> Seen:
    """The SAs as they are now."""
    sas = list(sas)
    return Seen(
        frozenset(sa.unique_id for sa in sas),
        frozenset(sa.unique_id for sa in current_ike_sas(sas, desired)),
        frozenset(_children(sas, desired)),
    )


def _children(sas: Iterable[IkeSa], desired: DesiredHandles) -> Iterable[int]:
    return (
        child.unique_id
        for sa in current_ike_sas(sas, desired) for handle in desired.children for child in sa.carrying(handle)
    )  # fmt: skip


def is_waiting(sas: Iterable[IkeSa], desired: DesiredHandles) -> bool:
    """Whether a request on the newest IKE_SA that carries the tunnel waits for its answer; superseded ones do not count."""
    newest = next(iter(current_ike_sas(sas, desired)), None)
    return newest is not None and newest.waiting


def is_refuted(reason: ReasonCode, over: bool, known: Seen, sas: Iterable[IkeSa], desired: DesiredHandles) -> bool:
    """Whether these SAs of a converged tunnel speak against `reason`.

    `known` is what was seen when the reason was noted and since then; `over` says that the attempt in trouble has ended.
    """
    return not REFUTED_BY.get(reason, frozenset()).isdisjoint(_signs(over, known, list(sas), desired))


def _signs(over: bool, known: Seen, sas: list[IkeSa], desired: DesiredHandles) -> Iterable[Sign]:
    if over:
        yield Sign.OVER
    if known.ike - {sa.unique_id for sa in sas}:
        yield Sign.GONE
    if not is_waiting(sas, desired):
        yield Sign.ANSWERED
    for sa in current_ike_sas(sas, desired):
        other_ike = sa.unique_id not in known.current
        other_child = any(unique_id not in known.children for unique_id in _children([sa], desired))
        if other_ike:
            yield Sign.IKE
        if other_child:
            yield Sign.CHILD
        if other_ike and other_child:
            yield Sign.AUTHENTICATION

"""Causes on the way between the ends: an agent or a gateway that is gone, blocked ports, a lost NAT mapping. Pure."""

import re

from warren_contracts.addresses import Endpoint
from warren_contracts.explanation import Cause
from warren_contracts.status import ReasonCode, TunnelState
from warren_intent.diagnosis.situation import End, Situation
from warren_intent.diagnosis.words import Diagnosis, ago, listed

_UNANSWERED = (ReasonCode.PEER_UNREACHABLE, ReasonCode.PEER_NOT_ANSWERING)
# Both drivers say which message of the handshake is not answered.
_IKE_AUTH = re.compile(r"\bIKE_AUTH\b|\b4500\b.* only|IKE message \(ID: 1\)")


def peer_silent(it: Situation) -> Diagnosis | None:
    """The agent of one end is offline, and the other end does not reach its daemon either: the host or its link is down."""
    for end in it.ends:
        other = it.other(end)
        if other is None or end.is_current or not other.is_current or other.is_installed:
            continue
        if other.reason not in (*_UNANSWERED, ReasonCode.NONE) or not (end.is_stale or end.is_offline):
            continue
        last = f", last report {ago(end.reported_at, it.now)}" if end.reported_at is not None else ""
        return Diagnosis(
            Cause.PEER_SILENT,
            f"{end.peer} is gone: its agent is not on the bus{last}, and {other.peer} gets no answer from it.",
            f"Look at the power and the uplink of {end.peer}.",
        )
    return None


def address_failed(it: Situation) -> Diagnosis | None:
    """A name does not resolve, an address has no route, or no virtual address was given."""
    end = it.with_reason(ReasonCode.ADDRESS_FAILED)
    if end is None:
        return None
    return Diagnosis(
        Cause.ADDRESS_FAILED,
        f"{end.peer} has no address to use towards {it.far_name(end)} ({end.detail or 'no detail'}).",
        f"On {end.peer}: check DNS and the default route; in the policy: the endpoints of {it.far_name(end)}.",
    )


def lost(it: Situation) -> Diagnosis | None:
    """An established IKE_SA is not answered any more."""
    end = it.with_reason(ReasonCode.PEER_NOT_ANSWERING)
    if end is None:
        return None
    far = it.far_name(end)
    hidden = [each.peer for each in it.ends if each.is_behind_nat]
    if hidden:
        return Diagnosis(
            Cause.NAT_MAPPING_LOST,
            f"{far} does not answer {end.peer} any more ({end.detail}), and {listed(hidden)} is behind NAT: the mapping of UDP 4500 may"
            " have ended.",
            f"On {listed(hidden)}: keepalives must be on (`charon.keep_alive`, 20 s by default) and shorter than the NAT's time limit.",
        )
    return Diagnosis(
        Cause.PATH_LOST,
        f"{far} does not answer {end.peer} any more ({end.detail or 'no detail'}), although the tunnel was established.",
        f"Look at the path between them: `warren ike probe` from {end.peer} shows whether {far} answers.",
    )


def blocked(it: Situation) -> Diagnosis | None:
    """No handshake gets through. If both daemons run, something between them drops it."""
    end = _caller(it)
    if end is None:
        return None
    far, other = it.far_name(end), it.other(end)
    where = _addresses(end)
    at_auth = any(_IKE_AUTH.search(each.detail) for each in it.ends if each.reason in _UNANSWERED)
    both_run = other is not None and other.is_current and not other.is_offline
    if at_auth or (both_run and other is not None and _has_half_open(other)):
        return Diagnosis(
            Cause.BLOCKED_UDP_4500,
            f"{far}{where} answers IKE_SA_INIT of {end.peer} and then nothing: UDP 4500 is blocked between them, or large packets are"
            " lost.",
            f"Allow UDP 4500 in both directions between {end.peer} and {far}, and let fragments and ICMP pass.",
        )
    if both_run:
        return Diagnosis(
            Cause.BLOCKED_UDP_500,
            f"{end.peer} gets no answer to IKE_SA_INIT from {far}{where}, although the daemons of both run and nothing arrived at {far}:"
            " UDP 500 is blocked between them, or the address is wrong.",
            f"Allow UDP 500 and 4500 in both directions between {end.peer} and {far}, and compare the announced endpoints of {far}"
            " with its real ones.",
        )
    return Diagnosis(
        Cause.NO_ANSWER,
        f"{far}{where} does not answer {end.peer} ({end.detail or 'no detail'}).",
        f"Check that it runs, its address, and that UDP 500 and 4500 pass: `warren ike probe` from {end.peer} shows more.",
    )


def _caller(it: Situation) -> End | None:
    """The end that calls and is not answered: the initiator if both say so."""
    unanswered = [end for end in it.ends if end.reason is ReasonCode.PEER_UNREACHABLE]
    calling = [end for end in unanswered if end.status is not None and end.status.initiator]
    return next(iter([*calling, *unanswered]), None)


def _has_half_open(end: End) -> bool:
    """Whether an IKE_SA_INIT of the peer has arrived here."""
    if end.status is None or end.status.initiator:
        return False
    return end.status.state is TunnelState.CONNECTING or end.reason is ReasonCode.PEER_UNREACHABLE


def _addresses(end: End) -> str:
    """Where this end calls: ` (198.51.100.1, gw.example.org)`."""
    endpoints: tuple[Endpoint, ...] = end.config.remote_endpoints if end.config is not None else ()
    return f" ({', '.join(map(str, endpoints))})" if endpoints else ""

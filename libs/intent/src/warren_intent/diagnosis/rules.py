"""The rules by which a cause is found, in the order in which they are tried: what makes the others pointless comes first. Pure.

Each gets the situation and gives a diagnosis, or None where it does not apply. What strongSwan 5.9.8 reports at each end of a failed
negotiation was measured: see docs/promises.md for the states, and the tests of this package for the combinations.
"""

from collections.abc import Callable
from typing import NamedTuple

from warren_contracts.explanation import Cause
from warren_contracts.status import ReasonCode, TunnelState
from warren_intent.diagnosis import negotiation, path
from warren_intent.diagnosis.situation import End, Situation
from warren_intent.diagnosis.words import Diagnosis, ago, listed


def agents_silent(it: Situation) -> Diagnosis | None:
    """No end has a current report."""
    if any(end.is_current for end in it.ends):
        return None
    last = listed([f"{end.peer}: {_last_report(end, it)}" for end in it.ends])
    return Diagnosis(
        Cause.AGENTS_SILENT,
        f"No end has a current report ({last}); packets may still pass.",
        "Look at the agents' hosts: `systemctl status warren-agent`, and whether they reach the bus (`warren agent doctor`).",
    )


def _last_report(end: End, it: Situation) -> str:
    return f"last report {ago(end.reported_at, it.now)}" if end.reported_at is not None else "no report"


def daemon_unreachable(it: Situation) -> Diagnosis | None:
    """The daemon of an end does not answer its agent: said by that agent, or by the peer's."""
    for end in it.ends:
        if end.reason is ReasonCode.DAEMON_UNREACHABLE or end.stopped_daemon is not None:
            return _stopped(end.peer, end.stopped_daemon or end.detail)
    if (reporter := it.with_reason(ReasonCode.PEER_DAEMON_UNREACHABLE)) is not None:
        return _stopped(it.far_name(reporter), reporter.detail)
    return None


def _stopped(peer: str, detail: str) -> Diagnosis:
    return Diagnosis(
        Cause.DAEMON_UNREACHABLE,
        f"The IPsec daemon of {peer} does not answer its agent ({detail or 'no detail'}).",
        f"On {peer}: `warren agent doctor` names the step that fails; start the daemon again.",
    )


def not_derived(it: Situation) -> Diagnosis | None:
    """An end does not derive the tunnel from the policies."""
    for end in it.ends:
        reported = end.detail if end.status is not None and end.is_current and end.status.skipped else ""
        if reported or (end.skipped and not end.is_installed):
            return Diagnosis(
                Cause.NOT_DERIVED,
                f"{end.peer} derives no such tunnel: {reported or end.skipped}.",
                "Correct the policy or the peer's announcement: `warren policy check FILE` shows the result before it is applied.",
            )
    return None


def standby(it: Situation) -> Diagnosis | None:
    """Another tunnel carries the traffic."""
    if it.tunnel.state is not TunnelState.STANDBY:
        return None
    details = [end.detail for end in it.ends if end.is_current and end.detail]
    return Diagnosis(
        Cause.STANDBY,
        f"It stands by on purpose: {details[0] if details else 'another tunnel carries its traffic'}.",
        "",
    )


Reasons = dict[ReasonCode, tuple[Cause, str, str]]
"""Cause, statement and remedy of a reason; `{end}` is the peer that reports it, `{far}` the other side."""


def _first_of(reasons: Reasons, it: Situation) -> Diagnosis | None:
    """The diagnosis of the first of these reasons that an end reports."""
    for code, (cause, says, action) in reasons.items():
        if (end := it.with_reason(code)) is not None:
            names = {"end": end.peer, "far": it.far_name(end)}
            detail = f" ({end.detail})" if end.detail else ""
            return Diagnosis(cause, f"{says.format(**names)}{detail}.", action.format(**names))
    return None


def of_the_intent(it: Situation) -> Diagnosis | None:
    """What an agent refuses to apply."""
    return _first_of(_REFUSED, it)


_REFUSED: Reasons = {
    ReasonCode.ROLLED_BACK: (
        Cause.ROLLED_BACK, "{end} took the last change back, and does not apply it again",
        "Correct the policy and apply it: a new revision is applied again.",
    ),
    ReasonCode.BYPASS_FORBIDDEN: (
        Cause.CUTS_OFF, "It would cut {end} off, and its policy forbids to bypass it",
        "Narrow the selectors, or allow `bypass` in the policy.",
    ),
    ReasonCode.BYPASS_UNAVAILABLE: (
        Cause.CUTS_OFF, "It would cut {end} off, and nothing there can bypass it",
        "Install warren-guard on {end}, or narrow the selectors.",
    ),
    ReasonCode.GUARD_UNAVAILABLE: (
        Cause.GUARD_UNAVAILABLE, "{end} cannot protect its traffic, and does not apply it",
        "On {end}: `systemctl status warren-guard`, or set `protect: off` in the policy.",
    ),
    ReasonCode.CONFIG_REFUSED: (
        Cause.CONFIG_REFUSED, "The daemon of {end} refuses its configuration",
        "Change what it names in the policy: `warren peers show {end}` lists what the daemon supports.",
    ),
    ReasonCode.RIVAL_CONNECTION: (
        Cause.RIVAL_CONNECTION, "The daemon of {end} holds a connection of somebody else with the same selectors",
        "Remove it on {end}, or take it over: `warren agent adopt CONNECTION`.",
    ),
    ReasonCode.CONFIG_DRIFT: (
        Cause.CONFIG_DRIFT, "The daemon of {end} does not hold what the agent gave to it",
        "Find out who else configures the daemon; the agent corrects it unless its setting `drift` is `observe`.",
    ),
}  # fmt: skip


def installed_but_dead(it: Situation) -> Diagnosis | None:
    """CHILD_SAs are there, and something contradicts that packets pass."""
    return _first_of(_CONTRADICTIONS, it)


_CONTRADICTIONS: Reasons = {
    ReasonCode.MASQUERADE: (
        Cause.MASQUERADE, "Source NAT on {end} changes packets before they reach the tunnel, so that they leave its selectors",
        "On {end}: except the tunnel's networks from the masquerade rule, or set `keep_sources` of warren-guard.",
    ),
    ReasonCode.FORWARD_DROP: (
        Cause.FORWARD_DROP, "The packet filter of {end} drops forwarded packets of the tunnel",
        "On {end}: accept the tunnel's networks in the forward chain.",
    ),
    ReasonCode.FORWARDING_OFF: (
        Cause.FORWARDING_OFF, "{end} does not forward packets between its links",
        "On {end}: `sysctl -w net.ipv4.ip_forward=1` (and net.ipv6.conf.all.forwarding=1), also in /etc/sysctl.d.",
    ),
    ReasonCode.RP_FILTER: (
        Cause.RP_FILTER, "Reverse path filtering on {end} drops packets that come out of the tunnel",
        "On {end}: set net.ipv4.conf.*.rp_filter to 2 (loose).",
    ),
    ReasonCode.PATH_PROBE_FAILED: (
        Cause.PATH_PROBE_FAILED, "The tunnel is established, and echoes from {end} to {far} through it are not answered",
        "Look for a filter, a missing route or missing forwarding behind either end.",
    ),
    ReasonCode.ONE_WAY_TRAFFIC: (
        Cause.ONE_WAY_TRAFFIC, "The tunnel is established, and {end} sees packets in one direction only",
        "Look for a filter, a missing route or missing forwarding behind either end.",
    ),
    ReasonCode.PATH_MTU: (
        Cause.PATH_MTU, "Large packets between {end} and {far} do not pass",
        "Clamp the TCP MSS to the value that the detail suggests, or let ICMP `fragmentation needed` pass.",
    ),
    ReasonCode.DUPLICATE_SAS: (
        Cause.DUPLICATE_SAS, "{end} holds more CHILD_SAs than the tunnel has children",
        "Close the surplus: `swanctl --terminate --ike-id ID` of the older one; look for a second connection to the same peer.",
    ),
}  # fmt: skip


def one_end_only(it: Situation) -> Diagnosis | None:
    """One end has CHILD_SAs, the other says that it has none: what the first sends is lost."""
    with_sas = [end.peer for end in it.ends if end.is_installed]
    without = [end.peer for end in it.ends if end.is_current and not end.is_installed]
    if not (with_sas and without):
        return None
    return Diagnosis(
        Cause.ONE_END_ONLY,
        f"{listed(with_sas)} has CHILD_SAs and {listed(without)} has none, so that packets from {listed(with_sas)} are lost.",
        "It passes by itself when dead peer detection finds it; `warren events` shows whether the tunnel is negotiated again.",
    )


def no_initiator(it: Situation) -> Diagnosis | None:
    """Both ends wait for each other."""
    known = [end.config for end in it.ends if end.config is not None]
    if not known or len(known) < len(it.ends) or any(config.initiator and config.auto_start for config in known):
        return None
    first = it.ends[0]
    return Diagnosis(
        Cause.NO_INITIATOR,
        f"No end starts it: {listed([end.peer for end in it.ends])} only responds"
        + (f", and {it.far_name(first)} has not called." if len(it.ends) == 1 else "."),
        "State an address of the other end in the policy, or start the tunnel from there.",
    )


def anything_else(it: Situation) -> Diagnosis | None:
    """A reason without a rule of its own, or none at all."""
    for end in it.ends:
        if end.reason is not ReasonCode.NONE:
            return Diagnosis(
                Cause.OTHER, f"{end.peer} reports {end.reason.value}" + (f" ({end.detail})." if end.detail else "."),
                f"On {end.peer}: `warren agent doctor`, and the daemon's log at the time of the report.",
            )  # fmt: skip
    waiting = it.tunnel.state is TunnelState.CONNECTING
    says = "A negotiation is under way" if waiting else "No end says why"
    return Diagnosis(
        Cause.OTHER, f"{says}.", "" if waiting else "`warren events` shows the last changes of the tunnel."
    )


def up(it: Situation) -> Diagnosis | None:
    """Nothing is wrong."""
    if it.tunnel.state is not TunnelState.UP or it.tunnel.disagreement:
        return None
    ends = [end.peer for end in it.ends if end.is_installed]
    return Diagnosis(Cause.NONE, f"It is up at {listed(ends)}, and nothing contradicts that packets pass.", "")


Rule = Callable[[Situation], Diagnosis | None]


class DiagnosisStep(NamedTuple):
    """A rule and what it is about."""

    about: str
    rule: Rule


RULES: tuple[DiagnosisStep, ...] = (
    DiagnosisStep("state", agents_silent),
    DiagnosisStep("state", up),
    DiagnosisStep("state", standby),
    DiagnosisStep("daemon", daemon_unreachable),
    DiagnosisStep("intent", not_derived),
    DiagnosisStep("intent", of_the_intent),
    DiagnosisStep("path", path.peer_silent),
    DiagnosisStep("negotiation", negotiation.clock_skew),
    DiagnosisStep("negotiation", negotiation.certificate),
    DiagnosisStep("negotiation", negotiation.authentication),
    DiagnosisStep("negotiation", negotiation.proposals),
    DiagnosisStep("negotiation", negotiation.install_failed),
    DiagnosisStep("negotiation", negotiation.selectors),
    DiagnosisStep("path", path.address_failed),
    DiagnosisStep("path", path.lost),
    DiagnosisStep("path", path.blocked),
    DiagnosisStep("traffic", installed_but_dead),
    DiagnosisStep("traffic", one_end_only),
    DiagnosisStep("intent", no_initiator),
    DiagnosisStep("state", anything_else),
)

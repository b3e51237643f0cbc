"""Why a tunnel is not up: every cause, from what both ends say together."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from warren_contracts.explanation import Cause, Explanation
from warren_contracts.peers import PeerRecord, PeerSummary, PresenceState
from warren_contracts.policy import PublishedPolicy
from warren_contracts.status import (
    DriverState,
    DriverStatus,
    Evidence,
    EvidenceKind,
    FleetTunnel,
    HostFacts,
    ReasonCode,
    TunnelState,
    TunnelStatus,
)
from warren_intent.diagnosis import explain, situation_of
from warren_intent.diagnosis.rules import RULES
from warren_testkit.intent import published, record

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
NAME = "hub+office"
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
HUB, OFFICE = record("hub", 1, "hub"), record("office", 257, "branch", endpoints=())


def summary(of: PeerRecord, **changes: Any) -> PeerSummary:
    fields: dict[str, Any] = {
        "peer": of.peer, "nkey": "U" + "A" * 55, "tags": of.tags, "record": of, "presence": PresenceState.ONLINE,
        "last_seen": NOW - timedelta(seconds=4), "enrolled_at": NOW - timedelta(days=9),
    }  # fmt: skip
    return PeerSummary.model_construct(**(PeerSummary.model_construct(**fields).__dict__ | changes))


def status(
    state: TunnelState = TunnelState.DOWN, reason: ReasonCode = ReasonCode.NONE, detail: str = "", **changes: Any
) -> TunnelStatus:
    return TunnelStatus(name=NAME, policy="star", state=state, reason=reason, detail=detail, **changes)


def why(  # noqa: PLR0913 - what a situation is made of, each by name
    hub: TunnelStatus | None = None, office: TunnelStatus | None = None, *, stale: tuple[str, ...] = (),
    peers: dict[str, PeerSummary] | None = None, policies: tuple[PublishedPolicy, ...] = (STAR,),
    names: tuple[str, ...] = ("hub", "office"), name: str = NAME, state: TunnelState | None = None,
) -> Explanation:  # fmt: skip
    """`office` calls, `hub` answers."""
    ends = {peer: it for peer, it in (("hub", hub), ("office", office)) if it is not None}
    current = [it.state for peer, it in ends.items() if peer not in stale]
    worst = next((it for it in TunnelState if it in current and it is not TunnelState.UP), None)
    tunnel = FleetTunnel(
        name=name, state=state or worst or (TunnelState.UP if current else TunnelState.UNKNOWN), peers=names, ends=ends, stale=stale,
        reported_at={peer: NOW - timedelta(seconds=300 if peer in stale else 3) for peer in ends},
    )  # fmt: skip
    known = {"hub": summary(HUB), "office": summary(OFFICE)} | (peers or {})
    return explain(situation_of(tunnel, policies, known, NOW))


def calls(reason: ReasonCode, detail: str = "", state: TunnelState = TunnelState.ERROR) -> TunnelStatus:
    """What the initiator reports."""
    return status(state, reason, detail, initiator=True)


IDLE = status()
UP = status(TunnelState.UP)
R = ReasonCode


@pytest.mark.parametrize(
    ("hub", "office", "cause", "says"),
    [
        (IDLE, calls(R.PROPOSAL_MISMATCH_IKE), Cause.PROPOSAL_MISMATCH_IKE, "office offers aes256gcm16"),
        (
            status(TunnelState.ERROR, R.PROPOSAL_MISMATCH_CHILD, "received ESP:NULL"),
            calls(R.PROPOSAL_MISMATCH_CHILD),
            Cause.PROPOSAL_MISMATCH_CHILD,
            "for ESP, hub accepts aes256gcm16",
        ),
        (
            IDLE,
            calls(R.TS_MISMATCH),
            Cause.SELECTORS_REFUSED,
            "office asks for 10.1.1.0/24 to 10.0.1.0/24. hub has 10.0.1.0/24 to 10.1.1.0/24.",
        ),
        (  # the end that answers says it, too, and is not the one that asks
            status(TunnelState.ERROR, R.TS_MISMATCH, "the received traffic selectors did not match"),
            calls(R.TS_MISMATCH),
            Cause.SELECTORS_REFUSED,
            "office asks for 10.1.1.0/24 to 10.0.1.0/24. hub has 10.0.1.0/24 to 10.1.1.0/24.",
        ),
        (
            status(TunnelState.ERROR, R.INSTALL_FAILED, "unable to install IPsec policies (SPD) in kernel"),
            calls(R.TS_MISMATCH),
            Cause.INSTALL_FAILED,
            "hub cannot install the negotiated SAs",
        ),
        (
            status(TunnelState.ERROR, R.PEER_AUTH_FAILED, "no trusted Ed25519 public key found for 'office'"),
            calls(R.LOCAL_AUTH_FAILED),
            Cause.AUTHENTICATION_FAILED,
            "hub refuses the authentication of office (no trusted Ed25519 public key found for 'office'); it expects identity office",
        ),
        (
            IDLE,
            calls(R.LOCAL_AUTH_FAILED, "received AUTHENTICATION_FAILED notify error"),
            Cause.AUTHENTICATION_FAILED,
            "hub refuses the authentication of office",
        ),
        (
            status(TunnelState.ERROR, R.PEER_AUTH_FAILED, "constraint check failed: identity 'office' required"),
            calls(R.LOCAL_AUTH_FAILED),
            Cause.IDENTITY_MISMATCH,
            "hub refuses the identity of office",
        ),
        (
            status(TunnelState.ERROR, R.CERTIFICATE_INVALID, "subject certificate invalid (valid from 1 to 2)"),
            IDLE,
            Cause.CERTIFICATE_EXPIRED,
            "The certificate of office has expired or is not valid yet",
        ),
        (
            status(TunnelState.ERROR, R.CERTIFICATE_INVALID, "no issuer certificate found"),
            IDLE,
            Cause.CERTIFICATE_UNKNOWN,
            "that hub trusts",
        ),
        (
            status(TunnelState.ERROR, R.CERTIFICATE_INVALID, "certificate was revoked"),
            IDLE,
            Cause.CERTIFICATE_REVOKED,
            "was revoked",
        ),
        (
            status(TunnelState.ERROR, R.CERTIFICATE_INVALID, "path too long"),
            IDLE,
            Cause.CERTIFICATE_INVALID,
            "path too long",
        ),
        (
            IDLE,
            calls(R.PEER_UNREACHABLE, "no answer to IKE_SA_INIT yet"),
            Cause.BLOCKED_UDP_500,
            "nothing arrived at hub: UDP 500 is blocked",
        ),
        (
            status(TunnelState.CONNECTING),
            calls(R.PEER_UNREACHABLE),
            Cause.BLOCKED_UDP_4500,
            "answers IKE_SA_INIT of office and then nothing",
        ),
        (IDLE, calls(R.PEER_UNREACHABLE, "IKE_AUTH is not answered"), Cause.BLOCKED_UDP_4500, "UDP 4500 is blocked"),
        (
            UP,
            calls(R.PEER_NOT_ANSWERING, "since 11:59", TunnelState.DEGRADED),
            Cause.PATH_LOST,
            "hub does not answer office any more (since 11:59)",
        ),
        (
            IDLE,
            calls(R.ADDRESS_FAILED, "gw.example.org: no address"),
            Cause.ADDRESS_FAILED,
            "gw.example.org: no address",
        ),
        (
            UP,
            status(TunnelState.DEGRADED, R.NARROWED, "the peer did not agree to remote 10.9.0.0/16"),
            Cause.NARROWED,
            "a part of the selectors only (the peer",
        ),
        (
            UP,
            status(TunnelState.DEGRADED, R.ONE_WAY_TRAFFIC, "packets leave and none arrive for 60 s"),
            Cause.ONE_WAY_TRAFFIC,
            "one direction only",
        ),
        (
            UP,
            status(TunnelState.DEGRADED, R.DUPLICATE_SAS, "2 of net"),
            Cause.DUPLICATE_SAS,
            "more CHILD_SAs than the tunnel has children (2 of net)",
        ),
        (status(TunnelState.DEGRADED, R.MASQUERADE), UP, Cause.MASQUERADE, "Source NAT on hub"),
        (status(TunnelState.DEGRADED, R.FORWARDING_OFF), UP, Cause.FORWARDING_OFF, "hub does not forward"),
        (status(TunnelState.DEGRADED, R.FORWARD_DROP), UP, Cause.FORWARD_DROP, "packet filter of hub"),
        (status(TunnelState.DEGRADED, R.RP_FILTER), UP, Cause.RP_FILTER, "Reverse path filtering on hub"),
        (status(TunnelState.DEGRADED, R.PATH_PROBE_FAILED), UP, Cause.PATH_PROBE_FAILED, "from hub to office"),
        (
            status(TunnelState.DEGRADED, R.PATH_MTU, "use an MSS of 1,300"),
            UP,
            Cause.PATH_MTU,
            "do not pass (use an MSS of 1,300)",
        ),
        (UP, IDLE, Cause.ONE_END_ONLY, "hub has CHILD_SAs and office has none"),
        (
            IDLE,
            status(TunnelState.ERROR, R.DAEMON_UNREACHABLE, "version: no answer"),
            Cause.DAEMON_UNREACHABLE,
            "daemon of office does not answer its agent (version: no answer)",
        ),
        (status(TunnelState.ERROR, R.PEER_DAEMON_UNREACHABLE), IDLE, Cause.DAEMON_UNREACHABLE, "daemon of office"),
        (IDLE, status(TunnelState.ERROR, R.ROLLED_BACK), Cause.ROLLED_BACK, "office took the last change back"),
        (IDLE, status(TunnelState.ERROR, R.BYPASS_FORBIDDEN), Cause.CUTS_OFF, "would cut office off"),
        (IDLE, status(TunnelState.ERROR, R.BYPASS_UNAVAILABLE), Cause.CUTS_OFF, "nothing there can bypass it"),
        (IDLE, status(TunnelState.ERROR, R.GUARD_UNAVAILABLE), Cause.GUARD_UNAVAILABLE, "cannot protect"),
        (
            IDLE,
            status(TunnelState.ERROR, R.CONFIG_REFUSED, "unknown option: x"),
            Cause.CONFIG_REFUSED,
            "refuses its configuration (unknown option: x)",
        ),
        (IDLE, status(TunnelState.ERROR, R.RIVAL_CONNECTION, "berlin"), Cause.RIVAL_CONNECTION, "(berlin)"),
        (
            IDLE,
            status(TunnelState.ERROR, R.CONFIG_DRIFT),
            Cause.CONFIG_DRIFT,
            "does not hold what the agent gave to it",
        ),
        (status(TunnelState.STANDBY, detail="hub2+office works"), IDLE, Cause.STANDBY, "hub2+office works"),
        (IDLE, calls(R.OTHER, "odd"), Cause.OTHER, "office reports other (odd)"),
        (UP, UP, Cause.NONE, "up at hub and office"),
    ],
)
def test_a_cause_is_found_from_both_ends(hub: TunnelStatus, office: TunnelStatus, cause: Cause, says: str) -> None:
    found = why(hub, office, state=TunnelState.STANDBY if cause is Cause.STANDBY else None)
    assert (found.cause, says in found.sentence) == (cause, True), found.sentence
    assert bool(found.action) == (cause not in (Cause.NONE, Cause.STANDBY))
    assert len(found.facts) >= 2


def test_a_clock_that_is_wrong_is_named_before_the_certificate() -> None:
    found = why(
        status(TunnelState.ERROR, R.CERTIFICATE_INVALID, "subject certificate invalid"), IDLE,
        peers={"office": summary(OFFICE, clock_skew_s=-7_200.0)},
    )  # fmt: skip
    assert (found.cause, found.action) == (Cause.CLOCK_SKEW, "Set the clock of office: `timedatectl set-ntp true`.")


def test_an_end_behind_nat_loses_its_mapping() -> None:
    office = summary(OFFICE, host=HostFacts(behind_nat=True))
    found = why(UP, calls(R.PEER_NOT_ANSWERING, "since 11:59", TunnelState.DEGRADED), peers={"office": office})
    assert (found.cause, "office is behind NAT" in found.sentence) == (Cause.NAT_MAPPING_LOST, True)
    assert "office: behind NAT" in found.facts


def test_silence_of_both_agents_is_not_taken_for_a_dead_tunnel() -> None:
    found = why(UP, UP, stale=("hub", "office"))
    assert (found.cause, found.state) == (Cause.AGENTS_SILENT, TunnelState.UNKNOWN)
    assert "hub: last report 5 min ago and office: last report 5 min ago" in found.sentence


def test_a_host_that_is_gone_is_named_by_the_other_end() -> None:
    gone = summary(HUB, presence=PresenceState.OFFLINE)
    found = why(UP, calls(R.PEER_UNREACHABLE), stale=("hub",), peers={"hub": gone})
    assert (found.cause, "hub is gone" in found.sentence) == (Cause.PEER_SILENT, True)
    assert any("hub: agent offline, last seen 4 s ago" in fact for fact in found.facts)


def test_the_daemon_of_a_peer_counts_although_its_agent_does_not_report_the_tunnel() -> None:
    stopped = DriverStatus(kind="strongswan", state=DriverState.UNREACHABLE, detail="connect: no such file")
    found = why(None, calls(R.PEER_UNREACHABLE), peers={"hub": summary(HUB, drivers=(stopped,))})
    assert (found.cause, "strongswan: connect: no such file" in found.sentence) == (Cause.DAEMON_UNREACHABLE, True)
    assert "hub does not report the tunnel" in found.facts


def test_a_tunnel_that_an_end_does_not_derive_names_the_policy_and_what_is_missing() -> None:
    keyless = summary(record("office", 257, "branch", public_key=None))
    found = why(IDLE, None, peers={"office": keyless})
    assert (found.cause, "office has announced no IKE public key" in found.sentence) == (Cause.NOT_DERIVED, True)


def test_what_an_agent_says_of_its_derivation_comes_before_ours() -> None:
    skipped = status(TunnelState.ERROR, detail="it conflicts with hub+shop", skipped="conflict")
    found = why(IDLE, skipped)
    assert (found.cause, found.sentence == "office derives no such tunnel: it conflicts with hub+shop.") == (
        Cause.NOT_DERIVED,
        True,
    )


def test_a_foreign_gateway_is_called_by_its_identity() -> None:
    tunnel = {
        "name": "partner",
        "ends": [
            {"peer": "office"},
            {
                "identity": "gw.example.org",
                "addresses": ["198.51.100.7"],
                "subnets": ["10.9.0.0/16"],
                "public_key": "A" * 43 + "=",
            },
        ],
    }
    found = why(
        None, calls(R.PEER_UNREACHABLE), names=("office",), name="partner", policies=(published("f", tunnels=[tunnel]),)
    )
    assert found.cause is Cause.NO_ANSWER
    assert found.sentence.startswith("the foreign gateway gw.example.org (198.51.100.7) does not answer office")


def test_ends_that_derive_the_same_point_to_the_daemons() -> None:
    found = why(IDLE, calls(R.PROPOSAL_MISMATCH_IKE))
    assert "Both derive the same" in found.sentence
    assert "warren agent doctor" in found.action


def test_a_tunnel_that_is_up_shows_its_evidence() -> None:
    seen = Evidence(kind=EvidenceKind.TRAFFIC, at=NOW - timedelta(seconds=12))
    found = why(status(TunnelState.UP, evidence=seen), UP)
    assert "hub: packets passed 12 s ago (traffic)" in found.facts


def test_every_reason_of_an_agent_has_an_explanation() -> None:
    """No combination of state and reason ends without a sentence, whichever end says it."""
    for reason in ReasonCode:
        for state in TunnelState:
            for hub, office in (
                (status(state, reason), None),
                (None, status(state, reason)),
                (status(state, reason), status(state, reason)),
            ):
                found = why(hub, office)
                assert found.sentence.endswith("."), found
    assert RULES[-1].rule.__name__ == "anything_else"

"""From what charon says of a failed negotiation to the sentence that an operator reads: every row is one failure.

The lines are those of strongSwan 5.9.8 at level 1, the records those of its error-notify plugin; what each end gets of them was
measured. `hub` answers, `office` calls.
"""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from warren_agent.drivers.strongswan.error_notify import (
    REASONS,
    ErrorNotifyType,
    build_notification,
    parse_notification,
)
from warren_agent.drivers.strongswan.reasons import may_have_reason, parse_log_line
from warren_contracts.explanation import Cause, Explanation
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.status import FleetTunnel, HostFacts, ReasonCode, TunnelState, TunnelStatus
from warren_intent.diagnosis import explain, situation_of
from warren_testkit.intent import directory, published, record

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
NAME = "hub+office"
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
PEERS = directory(record("hub", 1, "hub"), record("office", 257, "branch", endpoints=()))


class Said(NamedTuple):
    """What an end's charon says: a line of its log, or the type and text of an error-notify record. `also`: of its host."""

    line: str = ""
    record: ErrorNotifyType | None = None
    state: TunnelState = TunnelState.ERROR

    @property
    def reason(self) -> tuple[ReasonCode, str]:
        if self.record is not None:
            found = parse_notification(build_notification(self.record, self.line, "w", "gw", "192.0.2.1"))
            return found.reason, found.text
        if not self.line:
            return ReasonCode.NONE, ""
        assert may_have_reason(self.line.encode()), self.line  # else it is never parsed
        log = parse_log_line(self.line)
        assert log is not None, self.line
        return log.code, log.detail


QUIET = Said(state=TunnelState.DOWN)
N = ErrorNotifyType


def explained(
    hub: Said, office: Said, *, skew_s: float = 0.0, behind_nat: bool = False, state: TunnelState = TunnelState.ERROR
) -> Explanation:
    ends = {}
    for peer, said in (("hub", hub), ("office", office)):
        reason, detail = said.reason
        ends[peer] = TunnelStatus(
            name=NAME, policy="star", state=said.state, reason=reason, detail=detail, initiator=peer == "office"
        )
    tunnel = FleetTunnel(name=NAME, state=state, peers=("hub", "office"), ends=ends)
    known = {
        peer: PeerSummary.model_construct(
            peer=peer, nkey="U" + "A" * 55, tags=of.tags, record=of, presence=PresenceState.ONLINE, last_seen=NOW, enrolled_at=NOW,
            clock_skew_s=skew_s if peer == "office" else 0.0, host=HostFacts(behind_nat=behind_nat and peer == "office"),
        )
        for peer, of in PEERS.items()
    }  # fmt: skip
    return explain(situation_of(tunnel, (STAR,), known, NOW))


@pytest.mark.parametrize(
    ("office", "hub", "cause", "words"),
    [
        (Said("received NO_PROPOSAL_CHOSEN notify error"), QUIET, Cause.PROPOSAL_MISMATCH_IKE, "office offers"),
        (Said("received NO_PROPOSAL_CHOSEN error notify"), QUIET, Cause.PROPOSAL_MISMATCH_IKE, "hub accepts"),
        (
            Said("received NO_PROPOSAL_CHOSEN notify, no CHILD_SA built", state=TunnelState.DOWN), QUIET,
            Cause.PROPOSAL_MISMATCH_CHILD, "for ESP",
        ),
        (Said("received TS_UNACCEPTABLE notify, no CHILD_SA built"), QUIET, Cause.SELECTORS_REFUSED, "no selector is common"),
        (  # charon answers its peer the same where its kernel does not take the SAs
            Said("received TS_UNACCEPTABLE notify, no CHILD_SA built"),
            Said("unable to install IPsec policies (SPD) in kernel"),
            Cause.INSTALL_FAILED, "hub cannot install",
        ),
        (Said("received AUTHENTICATION_FAILED notify error"), QUIET, Cause.AUTHENTICATION_FAILED, "hub refuses"),
        (
            Said("received AUTHENTICATION_FAILED notify error"), Said("tried 1 shared key for 'hub' - 'office', but MAC mismatched"),
            Cause.AUTHENTICATION_FAILED, "MAC mismatched",
        ),
        (Said("no shared key found for 'office' - 'hub'"), QUIET, Cause.AUTHENTICATION_FAILED, "no shared key found"),
        (Said("no private key found for 'office'"), QUIET, Cause.AUTHENTICATION_FAILED, "no private key found"),
        (Said("giving up after 5 retransmits"), QUIET, Cause.BLOCKED_UDP_500, "UDP 500 is blocked"),
        (Said("establishing IKE_SA failed, peer not responding"), QUIET, Cause.BLOCKED_UDP_500, "no answer to IKE_SA_INIT"),
        (Said("unable to install inbound and outbound IPsec SA (SAD) in kernel"), QUIET, Cause.INSTALL_FAILED, "office cannot"),
        (Said("error installing route with policy 10.1.0.0/24 === 10.0.1.0/24 out"), QUIET, Cause.INSTALL_FAILED, "office cannot"),
        (QUIET, Said('no issuer certificate found for "CN=office"'), Cause.CERTIFICATE_UNKNOWN, "authority that hub trusts"),
        (
            QUIET, Said("subject certificate invalid (valid from Jan 01 2020 to Jan 01 2021)"), Cause.CERTIFICATE_EXPIRED,
            "has expired or is not valid yet",
        ),
        (QUIET, Said("certificate was revoked on Nov 01, reason: key compromise"), Cause.CERTIFICATE_REVOKED, "was revoked"),
        (QUIET, Said("no trusted ECDSA public key found for 'office'"), Cause.AUTHENTICATION_FAILED, "hub refuses"),
        (
            QUIET, Said("constraint check failed: identity 'office.example' required "), Cause.IDENTITY_MISMATCH,
            "hub refuses the identity of office",
        ),
        (Said("", N.PROPOSAL_MISMATCH_IKE), Said("", N.PROPOSAL_MISMATCH_IKE), Cause.PROPOSAL_MISMATCH_IKE, "office offers"),
        (Said("", N.KEEP_ON_CHILD_SA_FAILURE), Said("", N.TS_MISMATCH), Cause.SELECTORS_REFUSED, "no selector is common"),
        (Said("", N.LOCAL_AUTH_FAILED), Said("", N.PEER_AUTH_FAILED), Cause.AUTHENTICATION_FAILED, "hub refuses"),
        (Said("", N.PEER_INIT_UNREACHABLE), QUIET, Cause.BLOCKED_UDP_500, "UDP 500 is blocked"),
        (
            Said("IKE_SA_INIT was answered, IKE_AUTH is not", N.RETRANSMIT_SEND_TIMEOUT), QUIET, Cause.BLOCKED_UDP_4500,
            "UDP 4500 is blocked",
        ),
        (Said("", N.HALF_OPEN_TIMEOUT), QUIET, Cause.BLOCKED_UDP_500, "no answer"),
        (QUIET, Said("expired", N.CERT_EXPIRED), Cause.CERTIFICATE_EXPIRED, "certificate of office"),
        (QUIET, Said("revoked", N.CERT_REVOKED), Cause.CERTIFICATE_REVOKED, "was revoked"),
        (QUIET, Said("no issuer certificate", N.NO_ISSUER_CERT), Cause.CERTIFICATE_UNKNOWN, "authority that hub trusts"),
        (QUIET, Said("untrusted root", N.UNTRUSTED_ROOT_CERT), Cause.CERTIFICATE_UNKNOWN, "authority that hub trusts"),
        (QUIET, Said("path too long", N.CERT_EXCEEDED_PATH_LEN), Cause.CERTIFICATE_INVALID, "path too long"),
        (Said("no virtual IP", N.VIP_FAILURE), QUIET, Cause.ADDRESS_FAILED, "no virtual IP"),
        (Said("", N.INSTALL_CHILD_POLICY_FAILED), QUIET, Cause.INSTALL_FAILED, "office cannot install"),
    ],
)  # fmt: skip
def test_what_charon_says_becomes_one_sentence(office: Said, hub: Said, cause: Cause, words: str) -> None:
    found = explained(hub, office)
    assert (found.cause, words in found.sentence) == (cause, True), found.sentence
    assert found.sentence.endswith(".")
    assert found.action


def test_an_offer_of_another_group_is_no_failure() -> None:
    assert parse_log_line("peer didn't accept DH group ECP_256, it requested CURVE_25519") is None


@pytest.mark.parametrize("kind", list(ErrorNotifyType))
def test_every_record_of_a_failure_has_a_sentence_of_its_own(kind: ErrorNotifyType) -> None:
    if kind not in REASONS:
        assert Said("", kind).reason[0] is ReasonCode.NONE  # no reason for a tunnel to be down
        return
    for hub, office in ((QUIET, Said("", kind)), (Said("", kind), QUIET)):
        assert explained(hub, office).cause is not Cause.OTHER


def test_a_wrong_clock_and_a_lost_nat_mapping_are_recognised() -> None:
    refused = Said("subject certificate invalid (valid from Nov 29 2026)")
    assert explained(refused, QUIET, skew_s=-7_200.0).cause is Cause.CLOCK_SKEW
    silent = Said("retransmit 2 of request with message ID 7", state=TunnelState.DEGRADED)
    for behind_nat, cause in ((True, Cause.NAT_MAPPING_LOST), (False, Cause.PATH_LOST)):
        found = explained(Said(state=TunnelState.UP), silent, behind_nat=behind_nat, state=TunnelState.DEGRADED)
        assert found.cause is cause

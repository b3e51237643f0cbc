"""A tunnel that is up and was given a reason: which change of its SAs takes the reason back, for every reason there is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import DesiredHandles
from warren_agent.drivers.strongswan.reason_expiry import REFUTED_BY
from warren_agent.drivers.strongswan.sas import ChildSa, IkeSa
from warren_agent.drivers.strongswan.tunnel_record import SUSPICION_LIMIT, TunnelRecord
from warren_contracts.status import ReasonCode, TrafficStats, TunnelState

HANDLE = HandleName("t", 1)
WANTED = DesiredHandles(HANDLE, (HANDLE,), owner=True)


def child(unique_id: int, state: str = "INSTALLED") -> ChildSa:
    return ChildSa(
        handle=HANDLE, unique_id=unique_id, state=state, spi_in=f"{unique_id:08x}", spi_out="00000001", cipher="",
        key_exchange="", esn=False, encap=False, established=0, rekey_in=None, expires_in=None, local_ts=(),
        remote_ts=(), traffic=TrafficStats(),
    )  # fmt: skip


def ike(unique_id: int, *children: int, state: str = "ESTABLISHED", waiting: bool = False) -> IkeSa:
    return IkeSa(
        handle=HANDLE, unique_id=unique_id, state=state, initiator=True, cipher="", established=0, local_host="",
        remote_host="", children=tuple(child(it) for it in children), waiting=waiting,
    )  # fmt: skip


def reason_of(record: TunnelRecord) -> ReasonCode:
    """The present reason; mypy takes an attribute that was compared before for unchanged."""
    return record.reason


def up(*sas: IkeSa) -> TunnelRecord:
    record = TunnelRecord("t", WANTED)
    record.observe(list(sas), clock=0.0)
    assert record.converged
    return record


REKEYED_IKE = [ike(2, 10)]
REKEYED_CHILD = [ike(1, 11)]
REPLACED = [ike(2, 11)]
ADDITIONAL = [ike(1, 10), ike(2, 11)]
ANY = {"rekeyed IKE_SA", "rekeyed CHILD_SA", "replaced", "a second one"}
CHILDREN = ANY - {"rekeyed IKE_SA"}
FOUND_BY_THE_AGENT = {
    ReasonCode.NARROWED, ReasonCode.DUPLICATE_SAS, ReasonCode.ONE_WAY_TRAFFIC, ReasonCode.FORWARDING_OFF,
    ReasonCode.RP_FILTER, ReasonCode.FORWARD_DROP, ReasonCode.MASQUERADE, ReasonCode.PATH_PROBE_FAILED, ReasonCode.PATH_MTU,
    ReasonCode.GUARD_UNAVAILABLE,
    ReasonCode.CONFIG_DRIFT, ReasonCode.RIVAL_CONNECTION, ReasonCode.PEER_DAEMON_UNREACHABLE,
    ReasonCode.ROLLED_BACK, ReasonCode.BYPASS_FORBIDDEN, ReasonCode.BYPASS_UNAVAILABLE,
}  # fmt: skip
NEGOTIATED = {"replaced", "a second one"}
CASES = {
    "rekeyed IKE_SA": REKEYED_IKE,
    "rekeyed CHILD_SA": REKEYED_CHILD,
    "replaced": REPLACED,
    "a second one": ADDITIONAL,
    "unchanged": [ike(1, 10)],
    "another negotiation": [ike(1, 10), ike(2, state="CONNECTING")],
    "an IKE_SA without a child": [ike(1, 10), ike(2)],
}
EXPECTED = {
    ReasonCode.PEER_UNREACHABLE: ANY,
    ReasonCode.OTHER: ANY,
    ReasonCode.DAEMON_UNREACHABLE: ANY,
    ReasonCode.PEER_NOT_ANSWERING: set(CASES),  # no request waits for its answer
    ReasonCode.PROPOSAL_MISMATCH_IKE: ANY - {"rekeyed CHILD_SA"},
    ReasonCode.PROPOSAL_MISMATCH_CHILD: CHILDREN,
    ReasonCode.TS_MISMATCH: CHILDREN,
    ReasonCode.INSTALL_FAILED: CHILDREN,
    ReasonCode.LOCAL_AUTH_FAILED: NEGOTIATED,
    ReasonCode.PEER_AUTH_FAILED: NEGOTIATED,
    ReasonCode.CERTIFICATE_INVALID: NEGOTIATED,
    ReasonCode.ADDRESS_FAILED: NEGOTIATED,
    ReasonCode.CONFIG_REFUSED: NEGOTIATED,
}


def test_every_reason_has_what_refutes_it() -> None:
    assert set(REFUTED_BY) == set(EXPECTED) == set(ReasonCode) - {ReasonCode.NONE} - FOUND_BY_THE_AGENT


@pytest.mark.parametrize("code", EXPECTED)
@pytest.mark.parametrize("case", CASES)
def test_reason_of_an_up_tunnel_stands_until_what_it_was_about_works(code: ReasonCode, case: str) -> None:
    record = up(ike(1, 10))
    assert record.explain(code, "why")
    record.observe(CASES[case], clock=1.0)
    assert record.converged
    assert (record.reason is ReasonCode.NONE) == (case in EXPECTED[code])
    assert record.state is (TunnelState.UP if record.reason is ReasonCode.NONE else TunnelState.DEGRADED)


def test_replaced_sa_takes_its_retransmissions_with_it() -> None:
    """A peer that was killed and came back: its former IKE_SA is retransmitted to next to the new one, and then it is gone."""
    record = up(ike(1, 10))
    record.explain(ReasonCode.PEER_UNREACHABLE, "IKE message retransmission number 1")
    record.observe([ike(1, 10), ike(6, 16)], clock=1.0)
    assert reason_of(record) is ReasonCode.NONE
    record.explain(ReasonCode.PEER_UNREACHABLE, "IKE message retransmission number 2")
    record.observe([ike(1, 10), ike(6, 16)], clock=2.0)
    assert reason_of(record) is ReasonCode.PEER_UNREACHABLE
    record.observe([ike(6, 16)], clock=3.0)
    assert (record.reason, record.detail) == (ReasonCode.NONE, "")


def test_negotiation_that_nobody_answered_ends_without_a_trace_on_the_tunnel_that_is_up() -> None:
    record = up(ike(1, 10))
    record.explain(ReasonCode.PEER_UNREACHABLE, "number 1")
    record.observe([ike(1, 10), ike(2, state="CONNECTING")], clock=1.0)  # seen later than it was reported of
    assert reason_of(record) is ReasonCode.PEER_UNREACHABLE
    record.observe([ike(1, 10)], clock=2.0)
    assert reason_of(record) is ReasonCode.NONE


def test_attempt_that_is_given_up_and_was_never_seen_leaves_no_reason() -> None:
    record = up(ike(6, 16))
    record.explain(ReasonCode.PEER_UNREACHABLE, "giving up", over=True)
    record.observe([ike(6, 16)], clock=1.0)
    assert record.reason is ReasonCode.NONE


def test_refused_renewal_stands_though_its_attempt_is_over() -> None:
    record = up(ike(1, 10))
    record.explain(ReasonCode.PROPOSAL_MISMATCH_CHILD, "rekeying was refused", over=True)
    record.observe([ike(1, 10)], clock=1.0)
    assert record.reason is ReasonCode.PROPOSAL_MISMATCH_CHILD


def test_two_rekeyings_one_after_the_other_are_no_authentication() -> None:
    record = up(ike(1, 10))
    record.explain(ReasonCode.PEER_AUTH_FAILED, "wrong key", over=True)
    for clock, sas in enumerate((REKEYED_IKE, [ike(2, 11)], [ike(3, 11)])):
        record.observe(sas, clock=float(clock))
        assert record.reason is ReasonCode.PEER_AUTH_FAILED
    record.observe([ike(4, 12)], clock=9.0)
    assert record.reason is ReasonCode.NONE


def test_tunnel_that_is_up_on_its_former_configuration_keeps_its_reason() -> None:
    """The peer refuses the change: whatever the former SAs do, the newest configuration does not work."""
    record = up(ike(1, 10))
    newest = HandleName("t", 2)
    record.want(replace(WANTED, connection=newest, children=(newest,)), None)
    record.explain(ReasonCode.PROPOSAL_MISMATCH_IKE, "refused", over=True)
    for sas in (REKEYED_IKE, REPLACED, [ike(3, 12)]):
        record.observe(sas, clock=1.0)
        assert (record.state, record.reason) == (TunnelState.DEGRADED, ReasonCode.PROPOSAL_MISMATCH_IKE)


def test_lost_tunnel_keeps_the_reason_of_its_loss() -> None:
    record = up(ike(1, 10))
    record.explain(ReasonCode.PEER_UNREACHABLE, "giving up", over=True)
    record.observe([], clock=1.0)
    assert (record.state, record.reason) == (TunnelState.DOWN, ReasonCode.PEER_UNREACHABLE)


T = datetime(2026, 1, 1, 12, 0, 5, tzinfo=UTC)


def test_peer_that_does_not_answer_on_the_ike_sa_in_use_degrades_the_tunnel_until_it_answers() -> None:
    record = up(ike(1, 10))
    record.suspect("retransmission number 1", final=False, clock=1.0, now=T)
    record.observe([ike(1, 10, waiting=True)], clock=1.0)
    assert not record.judge_silence(1.0)
    assert (record.state, record.reason) == (TunnelState.DEGRADED, ReasonCode.PEER_NOT_ANSWERING)
    assert "since 2026-01-01 12:00:05 UTC" in record.detail
    record.suspect("retransmission number 2", final=False, clock=5.0, now=T + timedelta(seconds=4))
    record.observe([ike(1, 10, waiting=True)], clock=5.0)
    record.judge_silence(5.0)
    assert "since 2026-01-01 12:00:05 UTC" in record.detail
    record.observe([ike(1, 10)], clock=9.0)
    record.judge_silence(9.0)
    assert (record.state, record.reason, record.silence) == (TunnelState.UP, ReasonCode.NONE, None)


def test_superseded_ike_sa_that_nobody_answers_never_speaks_for_the_tunnel() -> None:
    """The peer was dead and is back: its former IKE_SA is retransmitted to for up to 165 s, next to the new one."""
    dead, new = ike(1, 10, waiting=True), ike(6, 16)
    record = up(dead, new)
    for number, final in ((1, False), (2, False), (3, True)):
        record.suspect(f"retransmission number {number}", final=final, clock=float(number), now=T)
        record.observe([dead, new] if not final else [new], clock=float(number))
        assert not record.judge_silence(float(number))
        assert (record.state, record.reason) == (TunnelState.UP, ReasonCode.NONE)


def test_loss_after_a_silence_has_it_as_its_reason_and_a_later_loss_has_not() -> None:
    record = up(ike(1, 10))
    record.suspect("retransmission timed out", final=True, clock=1.0, now=T)
    record.observe([ike(1, 10)], clock=1.0)  # read before charon removed it
    assert not record.judge_silence(1.0)
    record.observe([], clock=1.2)
    assert record.judge_silence(1.2)
    assert (record.state, record.reason, record.attempt_over) == (TunnelState.DOWN, ReasonCode.PEER_UNREACHABLE, True)
    later = up(ike(6, 16))
    later.suspect("retransmission timed out", final=True, clock=1.0, now=T)
    later.observe([ike(6, 16)], clock=1.0 + SUSPICION_LIMIT + 1)
    later.judge_silence(1.0 + SUSPICION_LIMIT + 1)
    later.observe([], clock=90.0)
    assert not later.judge_silence(90.0)

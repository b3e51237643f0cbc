from datetime import timedelta

from warren_contracts.status import TunnelState
from warren_metrics.counters import MAX_PEERS, OTHERS, PeerLabel, exemplar
from warren_metrics.domain.propagation import MAX_REVISIONS, Propagation, RevisionArrival
from warren_metrics.domain.transitions import handshake_seconds, rekey_seconds
from warren_testkit.metrics import START, Talk, status

SECOND = timedelta(seconds=1)


def test_a_report_before_or_after_the_event_of_its_revision_is_measured_once() -> None:
    between = Propagation()
    early, late = RevisionArrival("gw1", 7, START + 2 * SECOND), RevisionArrival("gw2", 7, START + 3 * SECOND)
    assert between.arrive(early) is None
    assert between.edit(7, START) == [(early, 2.0)]
    assert between.edit(7, START + SECOND) == []
    assert between.arrive(late) == 3.0


def test_what_waits_and_what_is_remembered_is_bounded() -> None:
    between = Propagation()
    for revision in range(2 * MAX_REVISIONS):
        between.edit(revision, START)
    assert len(between.edited) == MAX_REVISIONS
    between.arrive(RevisionArrival("gw1", 90_000, START))
    between.arrive(RevisionArrival("gw2", 90_000, START + 60 * SECOND))
    assert [arrival.peer for arrival, _ in between.edit(90_000, START)] == ["gw2"]


def test_a_handshake_is_measured_by_the_clock_of_the_initiator() -> None:
    before = status("t", TunnelState.CONNECTING, initiator=True, since=START)
    after = status("t", TunnelState.UP, initiator=True, since=START + SECOND)
    assert handshake_seconds(before, after) == 1.0
    assert handshake_seconds(None, after) is None
    assert handshake_seconds(before, after.model_copy(update={"initiator": False})) is None
    assert handshake_seconds(after, before) is None
    backwards = after.model_copy(update={"since": START - SECOND})
    assert handshake_seconds(before, backwards) is None


def test_a_rekeying_is_measured_once_by_the_end_that_began_it() -> None:
    found = status("t", rekeys=3, rekey_seconds=0.25)
    assert rekey_seconds(2, found) == 0.25
    assert rekey_seconds(3, found) is None
    assert rekey_seconds(None, found) is None  # it was measured before this service was started
    assert rekey_seconds(2, status("t", rekeys=3)) is None
    assert rekey_seconds(9, found) is None  # the agent was started again
    talk = Talk()
    seen = [talk.change("gw1", status("t", rekeys=n, rekey_seconds=0.1 * n)).rekeyings for n in range(1, 4)]
    assert [seen, talk.report("gw1", found).rekeyings] == [[[], [0.2], [0.30000000000000004]], []]


def test_histograms_have_few_peers_and_exemplars_valid_traces() -> None:
    label = PeerLabel()
    assert [label.of(f"gw{n}") for n in range(MAX_PEERS + 2)][-3:] == [f"gw{MAX_PEERS - 1}", OTHERS, OTHERS]
    assert label.of("gw0") == "gw0"
    assert exemplar(f"00-{'a' * 32}-{'b' * 16}-01") == {"trace_id": "a" * 32, "span_id": "b" * 16}
    assert exemplar('00-"} 1') is None

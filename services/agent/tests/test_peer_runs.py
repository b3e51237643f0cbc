"""Which peers lost their SAs, by the runs of their daemons in the directory."""

from warren_agent.domain.peer_runs import restarted, runs_of
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_testkit.intent import directory, record


def peer(name: str, run: str) -> PeerRecord:
    return record(name, 1, driver=DriverCapabilities(run=run))


def test_other_run_of_a_known_peer_is_a_restart() -> None:
    before = runs_of(directory(peer("hub", "a" * 16), peer("spoke", "b" * 16)))
    after = runs_of(directory(peer("hub", "c" * 16), peer("spoke", "b" * 16), peer("new", "d" * 16)))
    assert restarted(before, after) == {"hub"}


def test_peer_whose_daemon_is_down_or_that_never_announced_a_run_is_none() -> None:
    before = runs_of(directory(peer("hub", "a" * 16), peer("old", "")))
    after = runs_of(directory(peer("hub", ""), peer("old", "e" * 16)))
    assert restarted(before, after) == frozenset()

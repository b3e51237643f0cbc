"""Daemons that are lost: announced by their own agent, and shown by the agents of the peers."""

from dataclasses import replace

from warren_bus.feed.state import FeedState
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_testkit.agent.running import HUB, SPOKES, Running, intent
from warren_testkit.waiting import eventually


async def test_lost_daemon_is_announced_at_once_with_what_it_could_do(running: Running) -> None:
    await eventually(lambda: bool(running.registry.announced))
    (known,) = running.registry.announced[-1].drivers
    assert known.reachable
    running.driver.stop_daemon()
    await eventually(lambda: running.registry.announced[-1].drivers == (known.model_copy(update={"reachable": False}),))
    running.driver.start_daemon()
    await eventually(lambda: running.registry.announced[-1].drivers == (known,))


async def test_peer_that_announces_the_loss_of_its_daemon_degrades_the_tunnel_until_it_is_back(
    running: Running,
) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    calls = list(running.driver.calls)
    given = intent(1, *SPOKES)
    lost = HUB.model_copy(update={"drivers": (DriverCapabilities(kind="fake", reachable=False),)})
    running.source.give(replace(given, state=with_record(given.state, lost)))
    change = await running.tunnel(TunnelState.DEGRADED)
    assert change.status.reason is ReasonCode.PEER_DAEMON_UNREACHABLE
    running.source.give(given)
    await eventually(lambda: [it.status.state for it in tunnel_changes(running)][-1] is TunnelState.UP)
    assert running.driver.calls == calls


def with_record(state: FeedState, changed: PeerRecord) -> FeedState:
    records = {reader: {**known, changed.peer: changed} for reader, known in state.records.items()}
    return state.model_copy(update={"records": records})


def tunnel_changes(running: Running) -> list[TunnelChange]:
    messages = [it for it in running.outlet.messages if it.subject.endswith(".tunnel")]
    return [TunnelChange.model_validate_json(it.payload) for it in messages]

"""Peers that do not answer, and one that does: it comes up next to them, and few negotiations are in flight at a time."""

from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest

from warren_agent.domain.slots import SLOTS
from warren_agent.drivers.strongswan.sas import CONNECTING
from warren_contracts.addresses import Endpoint
from warren_contracts.peers import PeerRecord
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_testkit.intent import STAR, record
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

DEAD = 16
LIMIT = 180.0  # s
PAUSE = 0.1  # s between two looks


def dead_hub(number: int) -> PeerRecord:
    """A hub that is announced and whose address nobody has."""
    return record(
        f"dead-{number:02}", number + 10, "hub", endpoints=(Endpoint(ip_address(f"192.0.2.{100 + number}")),),
        subnets=(ip_network(f"10.{100 + number}.0.0/24"),),
    )  # fmt: skip


async def test_sixteen_dead_peers_do_not_delay_a_living_one(both: tuple[Gateway, Gateway]) -> None:
    hub, spoke = both
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch"), *map(dead_hub, range(DEAD))]
    at_hub, at_spoke = LocalAgent(hub, records), LocalAgent(spoke, records)
    await at_hub.start()
    await at_spoke.start()
    try:
        at_hub.give(STAR)
        revision = at_spoke.give(STAR)
        await at_spoke.applied(revision)
        in_flight: list[set[int]] = []  # unique ids, at each look

        async def is_up() -> bool:
            sas = await spoke.ike_sas()
            given_up = {it for record in at_spoke.driver._records.values() for it in record.given_up}
            in_flight.append({sa.unique_id for sa in sas if sa.state in CONNECTING and sa.initiator} - given_up)
            return any(
                it.status.name == "hub+spoke" and it.status.state is TunnelState.UP for it in at_spoke.all(TunnelChange)
            )

        await eventually(is_up, LIMIT, pause_s=PAUSE)
        # charon needs a moment to remove an attempt that it has given up itself: what counts is what two looks show.
        assert max(len(first & second) for first, second in pairwise(in_flight)) in range(1, SLOTS + 1), in_flight
        # All of them had a turn: the living one sorts last, and was reached though none of the others has answered.
        failed = {it.status.name for it in at_spoke.all(TunnelChange) if it.status.state is not TunnelState.UP}
        assert len(failed) == DEAD + 1
    finally:
        await at_hub.stop()
        await at_spoke.stop()

"""What an agent finds when it starts: a charon that is not there yet, or a connection of its own that somebody has altered meanwhile."""

import asyncio
from functools import partial

import pytest

from warren_agent.drivers.strongswan.connections import build_connection, groups_of
from warren_agent.drivers.strongswan.vici_codec import Section, parse_message, subsection, subsections, texts
from warren_agent.drivers.strongswan.vici_codec import build_message as encoded
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import TunnelState
from warren_testkit.agent.process import AgentPair
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.drift import NAME
from warren_testkit.lab.gateways import Gateway
from warren_testkit.lab.vici_control import Vici
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

LIMIT = 60.0  # s: half of what such a tunnel took to be right before


async def carries(agent: LocalAgent, local: str, remote: str) -> bool:
    """Whether the tunnel is up with one CHILD_SA, between these networks."""
    status = await agent.status(NAME)
    if status is None or status.state is not TunnelState.UP or len(status.link.children) != 1:
        return False
    (child,) = status.link.children
    return [*map(str, child.local_ts), *map(str, child.remote_ts)] == [local, remote]


async def narrowed(agent: LocalAgent) -> tuple[str, Section]:
    """The agent's own connection with a part of the hub's network, as a message of load-conn."""
    charon, record = agent.driver._charon, agent.driver._records[NAME]
    assert record.config is not None
    built = build_connection(
        record.config, record.desired.connection, record.desired.children, await charon.abilities()
    )
    ((name, section),) = subsections(parse_message(encoded(built))).items()
    listed = (await charon.list_connections())[name]
    section["local"] = {**subsection(section, "local"), "groups": [it.encode() for it in groups_of(listed)]}
    for child in subsections(subsection(section, "children")).values():
        for side in ("local_ts", "remote_ts"):
            child[side] = [text.replace("10.1.0.0/24", "10.1.0.0/29").encode() for text in texts(child, side)]
    return name, section


@pytest.mark.parametrize("altered", ["hub", "spoke"])
async def test_own_connection_that_was_altered_while_the_agent_was_stopped_is_corrected_at_its_start(
    both: tuple[Gateway, Gateway], altered: str
) -> None:
    hub, spoke = both
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch")]
    agents = {it.name: LocalAgent(it, records) for it in both}
    whole = {"hub": (hub.network, spoke.network), "spoke": (spoke.network, hub.network)}
    try:
        for agent in agents.values():
            await agent.start()
            agent.give(STAR)
        for name, agent in agents.items():
            await eventually(partial(carries, agent, *whole[name]), LIMIT)
        stopped = agents[altered]
        await eventually(lambda: stopped.driver._loader.references, LIMIT, "how charon lists the connection")
        name, section = await narrowed(stopped)
        await stopped.stop()
        Vici(stopped.gateway.charon).load(name, section)
        await spoke.close_ike_sas()  # what is negotiated now is narrower

        async def is_narrow() -> bool:
            sas = await stopped.gateway.ike_sas()
            return any("10.1.0.0/29" in (*child.local_ts, *child.remote_ts) for sa in sas for child in sa.children)

        if altered == "spoke":  # its agent is stopped
            Vici(spoke.charon).initiate(name, next(iter(subsections(subsection(section, "children")))))
        await eventually(is_narrow, LIMIT, "a narrower CHILD_SA")
        again = agents[altered] = LocalAgent(stopped.gateway, records)
        await again.start()
        again.give(STAR)
        for end, agent in agents.items():
            await eventually(partial(carries, agent, *whole[end]), LIMIT, f"all networks at the {end}")
    finally:
        await asyncio.gather(*(agent.stop() for agent in agents.values()))


async def test_agent_that_starts_before_charon_announces_what_charon_could_do_last(fleet: AgentPair) -> None:
    control, _, at_spoke = fleet

    def announced() -> DriverCapabilities:
        record = control.records.get("spoke")
        return record.drivers[0] if record is not None and record.drivers else DriverCapabilities()

    await eventually(lambda: announced().reachable and announced().ike, LIMIT, "the capabilities of charon")
    known = announced()
    await at_spoke.stop()
    await at_spoke.gateway.stop()
    await at_spoke.start()
    await eventually(lambda: not announced().reachable, LIMIT, "the announcement without charon")
    assert announced() == known.model_copy(update={"reachable": False})
    await at_spoke.gateway.start()
    await eventually(lambda: announced().reachable, LIMIT, "charon again")
    assert announced().model_copy(update={"run": ""}) == known.model_copy(update={"run": ""})

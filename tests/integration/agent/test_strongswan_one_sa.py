"""One SA of a tunnel of several, on two real charons: new keys, or closed and negotiated again, while the others stay."""

import asyncio

import pytest

from warren_testkit.lab.gateways import Ends, Watched
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

NAME = "hub+spoke"
LIMIT_S = 90.0


async def test_one_sa_of_several_is_rekeyed_or_closed(ends: Ends) -> None:
    hub, spoke = ends

    async def spis() -> dict[str, str]:
        return {sa.child: sa.spi_in for sa in await spoke.driver.sa_info(NAME)}

    async def differs(before: dict[str, str], *names: str) -> bool:
        now = await spis()
        return now.keys() == before.keys() and {name for name in now if now[name] != before[name]} == set(names)

    async def counts(rekeys: int) -> bool:  # charon's event may come after the list that has the new SA
        return (await spoke.driver.tunnel_status(NAME)).rekeys == rekeys

    for end, other in ((hub, spoke), (spoke, hub)):
        networks = {"local_ts": [f"{end.gateway.network}[tcp]"], "remote_ts": [f"{other.gateway.network}[tcp]"]}
        children = [{"name": "net"}, {"name": "voice", **networks}]
        await end.driver.create_tunnel(end.tunnel(other, initiator=end is spoke, children=children))
    await spoke.driver.start_tunnel(NAME)
    await asyncio.gather(hub.converged(), spoke.converged())
    before, (old,) = await spis(), await spoke.gateway.ike_sas()
    await spoke.driver.rekey_tunnel(NAME, ike=False, children=frozenset({"voice"}))
    await eventually(lambda: differs(before, "voice"), LIMIT_S)
    before = await spis()
    await eventually(lambda: counts(1), LIMIT_S)
    assert (await spoke.driver.tunnel_status(NAME)).rekey_seconds
    assert (await hub.driver.tunnel_status(NAME)).rekey_seconds is None  # it did not begin it
    await spoke.driver.rekey_tunnel(NAME, children=frozenset())

    async def is_rekeyed() -> bool:
        sas = await spoke.gateway.ike_sas()
        return len(sas) == 1 and sas[0].unique_id != old.unique_id

    await eventually(is_rekeyed, LIMIT_S)
    await eventually(lambda: differs(before), LIMIT_S)  # in none
    await eventually(lambda: counts(2), LIMIT_S)
    (old,) = await spoke.gateway.ike_sas()
    await spoke.driver.stop_tunnel(NAME, children=frozenset({"voice"}))
    await eventually(lambda: _has(spoke, {"net"}), LIMIT_S)
    await spoke.driver.start_tunnel(NAME)
    await eventually(lambda: differs(before, "voice"), LIMIT_S)
    assert [sa.unique_id for sa in await spoke.gateway.ike_sas()] == [old.unique_id]


async def _has(end: Watched, children: set[str]) -> bool:
    return {sa.child for sa in await end.driver.sa_info(NAME)} == children

"""What somebody else changes in charon: noticed, said, repaired; and what is not ours is never touched."""

from functools import partial

import pytest

from warren_agent.drivers.strongswan.connections import HandleName, build_connection
from warren_agent.drivers.strongswan.vici_codec import build_message, parse_message, subsection, subsections
from warren_agent.errors import ConfigRefusedError, UnknownTunnelError
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import AttemptFailure
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, agents_of
from warren_testkit.lab.drift import NAME, drift_of, put
from warren_testkit.lab.gateways import Ends, Gateway, Watched
from warren_testkit.lab.handover import Handover
from warren_testkit.lab.vici_control import Vici
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

LIMIT = 60.0  # s


def foreign(me: Gateway, peer: Gateway) -> dict[str, object]:
    """A connection as a person would load it."""
    return {
        "version": "2", "local_addrs": [me.address], "remote_addrs": [peer.address],
        "local": {"auth": "psk", "id": "a"}, "remote": {"auth": "psk", "id": "b"},
        "children": {"net": {"local_ts": [me.network], "remote_ts": [peer.network]}},
    }  # fmt: skip


async def test_load_all_of_swanctl_is_repaired_at_the_next_report_and_the_tunnel_stays_up(ends: Ends) -> None:
    hub, spoke = ends
    await put(hub, spoke)
    (before,) = await spoke.gateway.ike_sas()
    spoke.gateway.charon.swanctl("--load-all")
    assert await spoke.driver._charon.connections() == set()
    since = len(spoke.events)
    await spoke.driver.list_tunnels()  # a report
    found = await drift_of(spoke, since=since)
    assert (found.name, found.corrected) == (NAME, True)
    assert "connection was missing" in found.detail
    assert "private key was missing" in found.detail
    assert "swanctl --load-all" in found.detail
    assert len(await spoke.driver._charon.connections()) == len(await spoke.driver._charon.keys()) == 1
    (after,) = await spoke.gateway.ike_sas()
    assert after.unique_id == before.unique_id
    status = await spoke.driver.tunnel_status(NAME)
    assert (status.state, status.reason) == (TunnelState.UP, ReasonCode.NONE)


async def test_edit_after_a_repair_is_applied_at_both_ends(ends: Ends) -> None:
    """The IKE_SA that runs keeps to the connection that it was made from: it would refuse the child of the one loaded again."""
    hub, spoke = ends
    await put(hub, spoke)
    for end in ends:
        since = len(end.events)
        end.gateway.charon.swanctl("--load-all")
        await end.driver.list_tunnels()
        assert (await drift_of(end, since=since)).corrected
    edit = {"child": {"proposals": ["chacha20poly1305-x25519"]}}
    await hub.driver.update_tunnel(hub.tunnel(spoke, initiator=False, **edit))
    await spoke.driver.update_tunnel(spoke.tunnel(hub, initiator=True, **edit))
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    changed = await spoke.converged(since)
    assert [sa.cipher for sa in changed.status.link.children][:1] == ["chacha20poly1305"]
    await hub.gateway.has(1)
    await spoke.gateway.has(1)


async def test_start_of_a_tunnel_that_somebody_unloaded_loads_it_again(ends: Ends) -> None:
    hub, spoke = ends
    await put(hub, spoke)
    spoke.gateway.charon.swanctl("--load-all")
    await spoke.gateway.close_ike_sas()
    await spoke.gateway.has(0)
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(since)
    assert (await drift_of(spoke, since=since)).corrected


async def test_key_that_somebody_unloaded_is_loaded_again_when_authentication_fails(ends: Ends) -> None:
    hub, spoke = ends
    await put(hub, spoke)
    await spoke.gateway.close_ike_sas()
    await spoke.gateway.has(0)
    (key,) = await spoke.driver._charon.keys()
    with Vici(spoke.gateway.charon).session() as session:
        session.unload_key({"id": key})
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    failed = await spoke.attempt_failed(since)
    assert failed.code is ReasonCode.LOCAL_AUTH_FAILED
    found = await drift_of(spoke, since=since)
    assert "private key was missing" in found.detail
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(since)


async def test_connection_that_somebody_altered_is_loaded_again(ends: Ends) -> None:
    hub, spoke = ends
    await put(hub, spoke)
    await spoke.driver.list_tunnels()
    (handle,) = await spoke.driver._charon.connections()
    await eventually(lambda: handle in spoke.driver._loader.references, LIMIT)
    before = await spoke.driver._charon.list_connections()
    Vici(spoke.gateway.charon).load(str(handle), foreign(spoke.gateway, hub.gateway))
    since = len(spoke.events)
    await spoke.driver.list_tunnels()
    assert "altered" in (await drift_of(spoke, since=since)).detail
    assert await spoke.driver._charon.list_connections() == before


async def test_connection_whose_name_looks_like_ours_is_never_touched_and_named_as_a_rival(ends: Ends) -> None:
    hub, spoke = ends
    vici = Vici(spoke.gateway.charon)
    for name in ("berlin~2", f"{NAME}~77"):
        vici.load(name, foreign(spoke.gateway, hub.gateway))
    await spoke.restart()
    await put(hub, spoke)
    await spoke.driver.list_tunnels()
    found = await drift_of(spoke, ReasonCode.RIVAL_CONNECTION)
    assert "berlin~2" in found.detail
    assert f"{NAME}~77" in found.detail
    assert not found.corrected
    await spoke.driver.delete_tunnel(NAME)
    await spoke.restart()
    assert set(await spoke.driver._charon.list_connections()) == {"berlin~2", f"{NAME}~77"}


async def test_connection_of_an_agent_that_was_killed_before_it_wrote_its_ledger_is_unloaded(ends: Ends) -> None:
    hub, spoke = ends
    await put(hub, spoke)
    await spoke.stop()
    (spoke.gateway.folder / "state" / "strongswan.json").unlink()
    await spoke.restart()
    assert await spoke.driver.list_tunnels() == ()
    await put(hub, spoke)
    await spoke.driver.list_tunnels()  # a report finds the SAs of the lost ledger
    assert len(await spoke.driver._charon.list_connections()) == 1
    await hub.gateway.has(1)


async def test_observing_agent_reports_and_changes_nothing(both: tuple[Gateway, Gateway]) -> None:
    hub, spoke = Watched(both[0]), Watched(both[1], correct_drift=False)
    await hub.start()
    await spoke.start()
    try:
        await put(hub, spoke)
        spoke.gateway.charon.swanctl("--load-all")
        since = len(spoke.events)
        await spoke.driver.list_tunnels()
        found = await drift_of(spoke, since=since)
        assert not found.corrected
        assert await spoke.driver._charon.list_connections() == {}
        status = await spoke.driver.tunnel_status(NAME)
        assert (status.state, status.reason) == (TunnelState.DEGRADED, ReasonCode.CONFIG_DRIFT)
    finally:
        await hub.stop()
        await spoke.stop()


async def test_drift_is_published_with_its_cause(both: tuple[Gateway, Gateway]) -> None:
    async with agents_of(*both) as agents:
        for agent in agents:
            agent.give(STAR)
        for agent in agents:
            await eventually(partial(is_up, agent), LIMIT, pause_s=0.1)
        agents[1].gateway.charon.swanctl("--load-all")

        def drift() -> list[AttemptFailure]:
            return [it for it in agents[1].all(AttemptFailure) if it.code is ReasonCode.CONFIG_DRIFT]

        (published,) = await eventually(drift, LIMIT)
        assert published.tunnel == NAME
        assert "swanctl --load-all" in published.detail


async def is_up(agent: LocalAgent) -> bool:
    status = await agent.status(NAME)
    return status is not None and status.state is TunnelState.UP


async def hand_made(ends: Ends, ike: str) -> None:
    """A connection `berlin` that a person loaded on both gateways, up and with other names than ours."""
    hub, spoke = ends
    for me, peer, initiator in ((hub, spoke, False), (spoke, hub, True)):
        config = me.tunnel(peer, initiator=initiator, ike={"proposals": [ike]})
        charon = me.driver._charon
        built = build_connection(config, HandleName(NAME, 0), [HandleName(NAME, 0, "net")], await charon.abilities())
        (section,) = subsections(parse_message(build_message(built))).values()
        section["local"] = {key: it for key, it in subsection(section, "local").items() if key != "groups"}
        section["children"] = {"lan": next(iter(subsections(subsection(section, "children")).values()))}
        Vici(me.gateway.charon).load("berlin", section)
    Vici(spoke.gateway.charon).initiate("berlin", "lan")


async def test_connection_that_equals_a_derived_tunnel_is_adopted_without_a_gap(ends: Ends) -> None:
    hub, spoke = ends
    await hand_made(ends, "aes256gcm16-prfsha384-x25519")
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True))
    for initiator, responder in ((spoke, hub), (hub, spoke)):  # each end negotiates the SAs that it adopts
        async with Handover(initiator.gateway, responder.gateway) as traffic:
            assert await initiator.driver.adopt("berlin") == NAME
            await traffic.done()
        traffic.check()
    for end in ends:
        names = set(await end.driver._charon.list_connections())
        assert names == {str(handle) for handle in await end.driver._charon.connections()}
        await eventually(partial(_has_none, end, "berlin"), 20)
        await end.gateway.has(1)


async def _has_none(end: Watched, connection: str) -> bool:
    return await end.driver._charon.sas_named(connection) == []


async def test_connection_that_differs_is_refused_with_the_fields(ends: Ends) -> None:
    hub, spoke = ends
    await hand_made(ends, "aes256gcm16-prfsha512-ecp384")
    await spoke.driver.create_tunnel(
        spoke.tunnel(hub, initiator=True, ike={"dpd_delay": 17}, child={"rekey_time": 1800})
    )
    with pytest.raises(ConfigRefusedError) as refused:
        await spoke.driver.adopt("berlin")
    for words in (
        "dpd_delay: 30 instead of 17",
        "rekey_time: 3600 instead of 1800",
        "crypto.ike: aes256gcm16-prfsha512-ecp384",
    ):
        assert words in str(refused.value)
    with pytest.raises(UnknownTunnelError, match="those of others: berlin"):
        await spoke.driver.adopt("paris")
    assert len(await spoke.driver._charon.sas_named("berlin")) == 1

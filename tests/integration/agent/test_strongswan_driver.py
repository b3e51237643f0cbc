"""The strongSwan driver on two real charons: up, edited without a gap, deleted, and back after a charon's restart."""

import asyncio
from functools import partial
from pathlib import Path

import pytest

from warren_agent.drivers.port import ApplyEffect, DaemonDown, DaemonTunnelChanged, DaemonUp
from warren_agent.drivers.strongswan.connections import HandleName, build_connection
from warren_agent.errors import ConfigRefusedError, DriverUnavailableError
from warren_contracts.status import EvidenceKind, ReasonCode, TunnelState
from warren_testkit.lab.gateways import Ends, Watched
from warren_testkit.lab.handover import Handover
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

NAME = "hub+spoke"
OTHER_IKE = {"ike": {"proposals": ["aes256gcm16-prfsha512-ecp384"]}}
OTHER_DPD = {"ike": {"dpd_delay": 17}}
ML_KEM = {
    "ike": {"proposals": ["aes256gcm16-prfsha384-x25519-ke1_mlkem768"]},
    "child": {"proposals": ["aes256gcm16-x25519-ke1_mlkem768"]},
}
OTHER_ESP = {"child": {"proposals": ["chacha20poly1305-x25519"]}}


async def put(hub: Watched, spoke: Watched, **changes: object) -> tuple[ApplyEffect, ApplyEffect]:
    """The same change at both ends, the responder's first."""
    at_hub = await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, **changes))
    return at_hub, await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **changes))


async def bring_up(hub: Watched, spoke: Watched, **changes: object) -> tuple[DaemonTunnelChanged, DaemonTunnelChanged]:
    since = len(hub.events), len(spoke.events)
    await put(hub, spoke, **changes)
    await spoke.driver.start_tunnel(NAME)
    return await asyncio.gather(hub.converged(since[0]), spoke.converged(since[1]))


async def test_tunnel_comes_up_by_raw_keys_and_carries_packets(ends: Ends) -> None:
    hub, spoke = ends
    at_hub, at_spoke = await bring_up(hub, spoke)
    assert at_spoke.status.state is at_hub.status.state is TunnelState.UP
    assert at_spoke.status.name == NAME
    assert at_spoke.status.link.ike_cipher == "aes256gcm16-prfsha384-x25519"
    (sa,) = at_spoke.status.link.children
    (peer_sa,) = at_hub.status.link.children
    assert (sa.cipher, sa.spi_in, sa.spi_out) == ("aes256gcm16", peer_sa.spi_out, peer_sa.spi_in)
    assert await spoke.gateway.ping(hub.gateway.protected)
    (status,) = await spoke.driver.list_tunnels()
    assert status.traffic.packets_out == 3
    assert (await hub.driver.statistics(NAME)).packets_in == 3
    assert status.evidence.kind is EvidenceKind.TRAFFIC
    assert status.evidence.at is not None
    assert len(await hub.driver.sa_info(NAME)) == 1
    assert "~" not in status.model_dump_json()


async def test_unchanged_tunnel_is_not_touched_also_by_an_agent_that_has_restarted(
    ends: Ends,
) -> None:
    hub, spoke = ends
    _, before = await bring_up(hub, spoke)
    log = len(spoke.gateway.log)
    assert await put(hub, spoke) == (ApplyEffect.UNCHANGED, ApplyEffect.UNCHANGED)
    assert "vici" not in spoke.gateway.log[log:]
    await spoke.restart()
    assert await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True)) is ApplyEffect.UNCHANGED
    after = await spoke.driver.tunnel_status(NAME)
    assert after.state is TunnelState.UP
    assert [sa.spi_in for sa in after.link.children] == [sa.spi_in for sa in before.status.link.children]


@pytest.mark.parametrize("change", [OTHER_IKE, OTHER_DPD], ids=["proposals", "dpd"])
async def test_ike_change_makes_before_it_breaks(ends: Ends, change: dict[str, object]) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    (old,) = await spoke.gateway.ike_sas()
    async with Handover(spoke.gateway, hub.gateway) as traffic:
        assert await put(hub, spoke, **change) == (ApplyEffect.UPDATED_IKE, ApplyEffect.UPDATED_IKE)
        since = len(spoke.events)
        await spoke.driver.start_tunnel(NAME)
        changed = await spoke.converged(since)
        await traffic.done()
        await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))
    traffic.check()
    assert (await spoke.gateway.ike_sas())[0].unique_id != old.unique_id
    assert changed.status.name == NAME
    for end in ends:
        states = [event.status.state for event in end.events if isinstance(event, DaemonTunnelChanged)]
        assert TunnelState.DOWN not in states[states.index(TunnelState.UP) :]


async def test_child_change_replaces_the_child_and_keeps_the_ike_sa(ends: Ends) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    (old,) = await spoke.gateway.ike_sas()
    assert await put(hub, spoke, **OTHER_ESP) == (ApplyEffect.UPDATED_CHILD, ApplyEffect.UPDATED_CHILD)
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(since)
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))
    (new,) = await spoke.gateway.ike_sas()
    assert new.unique_id == old.unique_id
    (sa,) = await spoke.driver.sa_info(NAME)
    assert (sa.cipher, sa.key_exchange) == ("chacha20poly1305", "x25519")


async def test_change_that_the_peer_refuses_leaves_the_old_sa_in_use(ends: Ends) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    await spoke.driver.update_tunnel(spoke.tunnel(hub, initiator=True, **OTHER_IKE))
    await spoke.driver.start_tunnel(NAME)
    failed = await spoke.attempt_failed()
    assert failed.code is ReasonCode.PROPOSAL_MISMATCH_IKE
    assert await spoke.gateway.ping(hub.gateway.protected)
    await eventually(partial(has_status, spoke, TunnelState.DEGRADED, ReasonCode.PROPOSAL_MISMATCH_IKE))
    status = await spoke.driver.tunnel_status(NAME)
    assert "no connection that matches these addresses, or none of these proposals" in status.detail


REFUSED_BY_THE_PEER = [
    pytest.param(OTHER_IKE, ReasonCode.PROPOSAL_MISMATCH_IKE, id="ike proposal"),
    pytest.param({"child": {"proposals": ["aes128-sha256"]}}, ReasonCode.PROPOSAL_MISMATCH_CHILD, id="esp proposal"),
    pytest.param({"child": {"remote_ts": ["10.99.0.0/24"]}}, ReasonCode.TS_MISMATCH, id="selectors"),
    pytest.param(
        {"link": {"local_auth": {"kind": "raw-key", "identity": "fqdn:unknown", "public_key": "A" * 43 + "="}}},
        ReasonCode.LOCAL_AUTH_FAILED,
        id="key",
    ),
]  # fmt: skip
DEAD_PEER = pytest.param({"remote_endpoints": ["192.0.2.99"]}, ReasonCode.PEER_UNREACHABLE, id="dead peer")


@pytest.mark.parametrize(("at_spoke", "code"), [*REFUSED_BY_THE_PEER, DEAD_PEER])
async def test_failure_is_reported_with_its_reason(ends: Ends, at_spoke: dict[str, object], code: ReasonCode) -> None:
    hub, spoke = ends
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **at_spoke))
    await spoke.driver.start_tunnel(NAME)
    event = await spoke.attempt_failed()
    assert event.code is code
    assert event.detail
    expected = TunnelState.DOWN if code is ReasonCode.PEER_UNREACHABLE else TunnelState.ERROR
    await eventually(
        partial(has_status, spoke, expected, code)
    )  # charon reports the failure before it removes the IKE_SA


@pytest.mark.parametrize(("at_spoke", "code"), REFUSED_BY_THE_PEER)
async def test_reasons_come_from_the_log_where_there_is_no_error_notify(
    ends: Ends, at_spoke: dict[str, object], code: ReasonCode, tmp_path: Path
) -> None:
    hub, spoke = ends
    await spoke.restart(notify=tmp_path / "missing")
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **at_spoke))
    await spoke.driver.start_tunnel(NAME)
    event = await spoke.attempt_failed()
    assert event.code is code


async def test_configuration_that_charon_cannot_do_is_refused_by_field_and_the_old_one_stays(
    ends: Ends,
) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    wrong = spoke.tunnel(hub, initiator=True, child={"mode": "transport"})
    with pytest.raises(ConfigRefusedError, match=r"options\.child\.mode"):
        await spoke.driver.update_tunnel(wrong)
    if "mlkem768" not in (await spoke.driver.capabilities()).ike:
        with pytest.raises(ConfigRefusedError, match="mlkem768"):
            await spoke.driver.update_tunnel(spoke.tunnel(hub, initiator=True, **ML_KEM))
    assert (await spoke.driver.tunnel_status(NAME)).state is TunnelState.UP


async def test_deleted_tunnel_is_gone_from_both_charons(ends: Ends) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    await asyncio.gather(hub.driver.delete_tunnel(NAME), spoke.driver.delete_tunnel(NAME))
    await spoke.driver.delete_tunnel(NAME)
    for end in ends:
        await end.gateway.has(0)
        assert await end.driver._charon.connections() == set()
        assert await end.driver.list_tunnels() == ()
    assert not await spoke.gateway.ping(hub.gateway.protected, 1, "-W", "2")


async def test_stopped_charon_is_reported_once_and_everything_is_loaded_again_on_its_return(
    ends: Ends,
) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    since = len(spoke.events)
    await spoke.gateway.stop()
    await spoke.first(DaemonDown, since=since)
    with pytest.raises(DriverUnavailableError):
        await spoke.driver.start_tunnel(NAME)
    (status,) = await spoke.driver.list_tunnels()
    assert (status.state, status.reason) == (TunnelState.ERROR, ReasonCode.DAEMON_UNREACHABLE)
    await spoke.gateway.start()
    await spoke.first(DaemonUp, since=since)
    assert len([event for event in spoke.events[since:] if isinstance(event, DaemonDown)]) == 1
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(since)
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))


async def has_status(end: Watched, state: TunnelState, reason: ReasonCode) -> bool:
    status = await end.driver.tunnel_status(NAME)
    return (status.state, status.reason) == (state, reason)


def shows(event: object, state: TunnelState, reason: ReasonCode) -> bool:
    return isinstance(event, DaemonTunnelChanged) and event.status.state is state and event.status.reason is reason


async def test_peer_that_crashed_and_came_back_is_unreachable_no_more(ends: Ends) -> None:
    """Its former IKE_SA is retransmitted to, next to the new one, and ends without a word that this was answered."""
    hub, spoke = ends
    await bring_up(hub, spoke, ike={"dpd_delay": 1})
    since = len(hub.events)
    await spoke.gateway.crash()
    silent = TunnelState.DEGRADED, ReasonCode.PEER_NOT_ANSWERING
    await hub.wait_for(lambda event: shows(event, *silent), since=since)
    again = len(spoke.events)
    await spoke.gateway.start()
    await spoke.first(DaemonUp, since=again)
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(again)
    await hub.gateway.has(1)
    await eventually(partial(has_status, hub, TunnelState.UP, ReasonCode.NONE))
    assert (await hub.driver.tunnel_status(NAME)).detail == ""
    await eventually(
        lambda: shows(
            [it for it in hub.events if isinstance(it, DaemonTunnelChanged)][-1], TunnelState.UP, ReasonCode.NONE
        )
    )


async def test_two_ike_sas_of_one_configuration_become_one_at_both_ends(ends: Ends) -> None:
    hub, spoke = ends
    await put(hub, spoke)
    await asyncio.gather(hub.driver.start_tunnel(NAME), spoke.driver.start_tunnel(NAME))
    await asyncio.gather(hub.converged(), spoke.converged())
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))


async def test_teardown_removes_and_a_plain_stop_keeps(ends: Ends) -> None:
    hub, spoke = ends
    await bring_up(hub, spoke)
    await hub.stop()
    assert await spoke.gateway.ping(hub.gateway.protected)
    await spoke.stop(teardown=True)
    assert not await spoke.gateway.ping(hub.gateway.protected, 1, "-W", "2")


async def test_tunnel_that_a_returned_charon_refuses_keeps_no_other_from_its_traffic(
    ends: Ends,
) -> None:
    """charon comes back without a plugin: what needs it is reported with its reason, and can be changed or deleted."""
    hub, spoke = ends
    refused = spoke.tunnel(
        hub,
        initiator=True,
        name="needs-xcbc",
        child={"local_ts": ["10.55.0.0/24"]},
        ike={"proposals": ["aes256-aesxcbc-x25519"]},
    )
    await spoke.driver.create_tunnel(refused)
    await bring_up(hub, spoke)
    since = len(spoke.events)
    await spoke.gateway.stop()
    await spoke.first(DaemonDown, since=since)
    spoke.gateway.lose_plugin("xcbc", "aesni")
    await spoke.gateway.start()
    await spoke.first(DaemonUp, since=since)
    status = await spoke.driver.tunnel_status("needs-xcbc")
    assert (status.state, status.reason) == (TunnelState.ERROR, ReasonCode.CONFIG_REFUSED)
    assert "aesxcbc" in status.detail
    with pytest.raises(ConfigRefusedError, match="aesxcbc"):
        await spoke.driver.start_tunnel("needs-xcbc")
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(since)
    assert await spoke.gateway.ping(hub.gateway.protected)
    good = spoke.tunnel(hub, initiator=True, name="needs-xcbc", child={"local_ts": ["10.55.0.0/24"]})
    assert await spoke.driver.update_tunnel(good) is ApplyEffect.UPDATED_IKE
    assert (await spoke.driver.tunnel_status("needs-xcbc")).reason is ReasonCode.NONE
    await spoke.driver.delete_tunnel("needs-xcbc")
    assert [status.name for status in await spoke.driver.list_tunnels()] == [NAME]


async def test_charon_reads_every_word_that_the_driver_may_write(ends: Ends) -> None:
    """Also those that this kernel cannot do, and those that wait for certificates: loaded, not started."""
    hub, spoke = ends
    child = {
        "rand_time": 60, "rekey_bytes": 9_000_000, "life_bytes": 10_000_000, "rand_bytes": 5, "rekey_packets": 9_000,
        "life_packets": 10_000, "rand_packets": 7, "tfc_padding": 100, "inactivity": 60, "copy_df": False,
        "copy_dscp": "yes", "hw_offload": "auto", "ipcomp": True, "dpd_action": "restart",
        "local_ts": ["dynamic[tcp/443]", "10.2.0.1-10.2.0.9[udp/1024-2048]", "2001:db8::/48[58]"],
    }  # fmt: skip
    ike = {"rand_time": 90, "dscp": 46, "childless": "never", "send_cert": False, "vips": ["::"]}
    marks = {
        "if_id_in": 7,
        "mark_in": 16,
        "mark_in_mask": 255,
        "set_mark_in": 3,
        "set_mark_out": 1,
        "set_mark_out_mask": 1,
    }
    made = spoke.tunnel(
        hub, initiator=True, ike=ike, children=[child, {"name": "second"}], link={"xfrm": marks},
        local_endpoints=[f"{spoke.gateway.address}:4501"],
    )  # fmt: skip
    handle = HandleName(made.name, 999_999)
    children = [HandleName(made.name, 999_999, name) for name in ("net", "second")]
    charon = spoke.driver._charon
    await charon.load_connection(build_connection(made, handle, children, await charon.abilities()))
    await charon.unload_connection(handle)


async def test_other_addresses_to_hand_out_are_another_pool_and_the_old_one_goes(ends: Ends) -> None:
    hub, spoke = ends

    async def pools() -> set[str]:
        return set(await hub.driver._charon._client.request("get-pools"))

    for network in ("10.9.0.0/24", "10.9.1.0/24"):
        await hub.driver.update_tunnel(hub.tunnel(spoke, initiator=False, ike={"pools": [network]}))
        assert await pools() == {f"warren.{network.replace('/', '_')}"}
    await hub.driver.delete_tunnel(NAME)
    assert await pools() == set()

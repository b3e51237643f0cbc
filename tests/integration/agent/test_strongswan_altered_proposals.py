"""Proposals that somebody altered in charon, which list-conns does not show: noticed by what else it lists, or by their effect."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from warren_agent.drivers.port import DaemonTunnelChanged, DriverEvent
from warren_agent.drivers.strongswan.connections import build_connection, groups_of, is_marked
from warren_agent.drivers.strongswan.vici_codec import build_message, parse_message, subsection, subsections
from warren_contracts.status import ReasonCode
from warren_testkit.lab.drift import NAME, drift_of, put
from warren_testkit.lab.gateways import Ends, Watched
from warren_testkit.lab.vici_control import Vici
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

LIMIT = 60.0  # s
SWANCTL_CONF = """
connections {{
  {name} {{
    version = 2
    local_addrs = {me.address}
    remote_addrs = {peer.address}
    proposals = aes128-sha256-modp2048
    local {{
      auth = pubkey
      id = fqdn:{me.name}
      groups = warren
    }}
    remote {{
      auth = pubkey
      id = fqdn:{peer.name}
    }}
    children {{
      net {{
        esp_proposals = aes128-sha256
        local_ts = {me.network}
        remote_ts = {peer.network}
      }}
    }}
  }}
}}
"""


async def load_by_hand(me: Watched, peer: Watched, initiator: bool, **changes: Any) -> None:
    """The present connection of a tunnel with other values, under the same names and with the same marker."""
    charon = me.driver._charon
    record = me.driver._records[NAME]
    config = me.tunnel(peer, initiator=initiator, **changes)
    built = build_connection(config, record.desired.connection, record.desired.children, await charon.abilities())
    (section,) = subsections(parse_message(build_message(built))).values()
    listed = (await charon.list_connections())[str(record.desired.connection)]
    section["local"] = {**subsection(section, "local"), "groups": [it.encode() for it in groups_of(listed)]}
    Vici(me.gateway.charon).load(str(record.desired.connection), section)


def without_proposals(listed: Mapping[str, Any]) -> dict[str, Any]:
    """As strongSwan lists connections up to 6.0."""
    children = {
        name: {key: value for key, value in child.items() if key != "esp_proposals"}
        for connection in listed.values()
        for name, child in connection["children"].items()
    }
    return {
        name: {**{key: value for key, value in connection.items() if key != "proposals"}, "children": children}
        for name, connection in listed.items()
    }


async def test_hand_made_file_with_the_same_names_and_other_proposals_is_replaced(ends: Ends) -> None:
    """`swanctl --load-all` with a swanctl.conf that has the tunnel; it cannot have the name of its child, which contains a dot."""
    hub, spoke = ends
    await put(hub, spoke)
    await spoke.driver.list_tunnels()
    (handle,) = await spoke.driver._charon.connections()
    await eventually(lambda: handle in spoke.driver._loader.references, LIMIT)
    file = spoke.gateway.charon.run_folder / "swanctl.conf"
    file.write_text(SWANCTL_CONF.format(name=handle, me=spoke.gateway, peer=hub.gateway))
    spoke.gateway.charon.swanctl("--load-all", "--file", f"/run/{file.name}")  # as the daemon's mount namespace has it
    listed = await spoke.driver._charon.list_connections()
    assert set(listed) == {str(handle)}
    assert is_marked(listed[str(handle)])
    since = len(spoke.events)
    await spoke.driver.list_tunnels()
    assert (await drift_of(spoke, since=since)).corrected
    await spoke.gateway.close_ike_sas()
    await spoke.gateway.has(0)
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    changed = await spoke.converged(since)
    assert changed.status.link.ike_cipher == "aes256gcm16-prfsha384-x25519"


async def test_esp_proposals_that_somebody_altered_and_a_peer_refuses_are_loaded_again_before_the_next_start(
    ends: Ends,
) -> None:
    """Nothing that list-conns shows differs; that of 6.1 shows the proposals, which nobody has listed when the tunnel starts."""
    hub, spoke = ends
    await put(hub, spoke)
    before = without_proposals(await spoke.driver._charon.list_connections())
    await load_by_hand(spoke, hub, initiator=True, child={"proposals": ["chacha20poly1305"]})
    assert without_proposals(await spoke.driver._charon.list_connections()) == before
    await spoke.gateway.close_ike_sas()
    await spoke.gateway.has(0)
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    failed = await spoke.attempt_failed(since)
    assert failed.code is ReasonCode.PROPOSAL_MISMATCH_CHILD
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    changed = await spoke.converged(since)
    assert [sa.cipher for sa in changed.status.link.children] == ["aes256gcm16"]


async def test_sas_that_both_ends_made_by_altered_proposals_are_found_and_made_again(ends: Ends) -> None:
    hub, spoke = ends
    await put(hub, spoke)
    for me, peer, initiator in ((hub, spoke, False), (spoke, hub, True)):
        await load_by_hand(me, peer, initiator, child={"proposals": ["chacha20poly1305"]})
    await spoke.gateway.close_ike_sas()
    await spoke.gateway.has(0)
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    changed = await spoke.converged(since)
    assert [sa.cipher for sa in changed.status.link.children] == ["chacha20poly1305"]
    for end in ends:
        since = len(end.events)
        await end.driver.list_tunnels()
        found = await drift_of(end, since=since)
        assert found.corrected
        assert "chacha20poly1305" in found.detail
    since = len(spoke.events)
    await spoke.driver.start_tunnel(NAME)
    await spoke.wait_for(partial(has_cipher, "aes256gcm16"), LIMIT, since)
    await hub.gateway.has(1)
    await spoke.gateway.has(1)


def has_cipher(cipher: str, event: DriverEvent) -> bool:
    return isinstance(event, DaemonTunnelChanged) and [sa.cipher for sa in event.status.link.children] == [cipher]

"""Who is who to charon: a second peer never removes the first one's IKE_SA, however it spells what it may announce.

charon ends the IKE_SAs of an identity when a peer of the same identity says INITIAL_CONTACT (RFC 7296, 2.4), which it says
with its first IKE_SA as that identity. So the registry must take two texts for one identity wherever charon does.
"""

from datetime import UTC, datetime

import pytest

from warren_agent.drivers.port import DaemonTunnelChanged
from warren_contracts.identities import canonical
from warren_contracts.peers import Announcement
from warren_contracts.problems import InvalidInputError
from warren_registry.peers.address_claims import AddressClaims
from warren_registry.peers.announcement import check_announcement
from warren_registry.peers.model import Peer
from warren_testkit.lab.gateways import Ends, Watched, raw_key

pytestmark = [pytest.mark.root, pytest.mark.interop]

VICTIM = "spoke"
EVIL = Peer("evil", "U" + "A" * 55, (), 1, "t", datetime(2026, 1, 1, tzinfo=UTC))
ALLOWED = (
    "evil", "spoke.", "spoke.example.org", "spoke@example.org", "keyid:spoke", "keyid:@spoke",
    "198.51.100.7", "2001:db8::7", "::ffff:198.51.100.8",
)  # fmt: skip


def may_announce(identity: str) -> bool:
    """Whether the registry takes it of another peer."""
    if canonical(identity) == canonical(VICTIM):
        return False  # by the unique index: see test_registry_rows.py
    try:
        check_announcement(EVIL, Announcement(identity=identity), AddressClaims())
    except InvalidInputError:
        return False
    return True


async def up(hub: Watched, spoke: Watched, name: str, number: int, identity: str) -> int:
    """A tunnel of the spoke's charon under an identity; its IKE_SA at the hub."""
    own, peer = {"local_ts": [f"10.{number}.1.0/24"]}, {"remote_ts": [f"10.{number}.1.0/24"]}
    auth = raw_key(identity, spoke.gateway)
    at_hub = hub.tunnel(spoke, initiator=False, name=name, link={"remote_auth": auth}, child=peer)
    at_spoke = spoke.tunnel(hub, initiator=True, name=name, link={"local_auth": auth}, child=own)
    spoke.gateway.add_address(f"10.{number}.1.1/24")
    await hub.driver.create_tunnel(at_hub)
    await spoke.driver.create_tunnel(at_spoke)
    since = len(hub.events)
    await spoke.driver.start_tunnel(name)

    def is_up(event: object) -> bool:
        return isinstance(event, DaemonTunnelChanged) and event.converged and event.status.name == name

    await hub.wait_for(is_up, since=since)
    return next(sa.unique_id for sa in await hub.gateway.ike_sas() if sa.handle and sa.handle.tunnel == name)


async def test_no_other_peer_removes_the_ike_sa_of_the_first(ends: Ends) -> None:
    hub, spoke = ends
    first = await up(hub, spoke, "hub+spoke", 101, VICTIM)
    accepted = [identity for identity in ALLOWED if may_announce(identity)]
    assert len(accepted) == len(ALLOWED) - 1  # the trailing dot alone is the victim's
    for number, identity in enumerate(accepted, start=102):
        await up(hub, spoke, f"hub+evil{number}", number, identity)
        held = {sa.unique_id for sa in await hub.gateway.ike_sas()}
        assert first in held, identity
        assert len(held) == number - 100, identity
    assert "destroying duplicate IKE_SA" not in hub.gateway.log
    # With each of them charon said that it knows of no other IKE_SA as this identity: what would have ended the victim's.
    assert hub.gateway.log.count("N(INIT_CONTACT)") == len(accepted) + 1


@pytest.mark.parametrize(
    "spelling", ["SPOKE", "@spoke", "@Spoke", "fqdn:spoke", "dns:SPOKE", "*", "::", "0::0", "fqdn:*"]
)
def test_what_charon_takes_for_the_victim_is_not_announced_by_another(spelling: str) -> None:
    assert not may_announce(spelling)

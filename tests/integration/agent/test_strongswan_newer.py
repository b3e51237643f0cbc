"""What only a newer strongSwan can do: reasons by VICI's `alert` (6.0.3) and ML-KEM (Debian from 6.1 on)."""

from pathlib import Path

import pytest

from warren_agent.drivers.port import DaemonTunnelChanged
from warren_agent.drivers.strongswan.capabilities import parse_version
from warren_agent.drivers.strongswan.errors import ViciUnknownEventError
from warren_agent.drivers.strongswan.vici_client import ViciConnection
from warren_agent.errors import ConfigRefusedError
from warren_contracts.status import ReasonCode
from warren_testkit.lab.gateways import Ends

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.strongswans]

NAME = "hub+spoke"
REFUSED = {"ike": {"proposals": ["aes256gcm16-prfsha512-ecp384"]}}
POST_QUANTUM = {
    "ike": {"proposals": ["aes256gcm16-prfsha384-x25519-ke1_mlkem768"]},
    "child": {"proposals": ["aes256gcm16-x25519-ke1_mlkem768"]},
}


async def knows_alert(socket: Path) -> bool:
    link = await ViciConnection.open(socket)
    try:
        await link.register("alert")
    except ViciUnknownEventError:
        return False
    finally:
        link.close()
    return True


async def test_reasons_come_by_alert_from_6_0_3_on_and_by_error_notify_before(ends: Ends, tmp_path: Path) -> None:
    hub, spoke = ends
    version = (await spoke.driver.capabilities()).version
    assert await knows_alert(spoke.gateway.vici) is (parse_version(version) >= (6, 0, 3))
    if parse_version(version) >= (6, 0, 3):
        await spoke.restart(notify=tmp_path / "missing")
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **REFUSED))
    await spoke.driver.start_tunnel(NAME)
    event = await spoke.attempt_failed()
    assert event.code is ReasonCode.PROPOSAL_MISMATCH_IKE
    # neither is a line of charon's log, which would begin with "received NO_PROPOSAL_CHOSEN"
    assert not event.detail.startswith("received")


async def test_ml_kem_is_negotiated_and_reported_where_charon_has_it_and_refused_elsewhere(
    ends: Ends,
) -> None:
    hub, spoke = ends
    capabilities = await spoke.driver.capabilities()
    if "mlkem768" not in capabilities.ike:
        assert parse_version(capabilities.version) < (6, 1, 0)
        with pytest.raises(ConfigRefusedError, match="mlkem768"):
            await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **POST_QUANTUM))
        return
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, **POST_QUANTUM))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True, **POST_QUANTUM))
    await spoke.driver.start_tunnel(NAME)
    for end in ends:
        changed: DaemonTunnelChanged = await end.converged()
        assert changed.status.link.ike_cipher == POST_QUANTUM["ike"]["proposals"][0]
    assert await spoke.gateway.ping(hub.gateway.protected)

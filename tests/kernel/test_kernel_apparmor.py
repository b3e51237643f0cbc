"""The lab's charon under Debian's AppArmor profile, which confines it by the paths that it sees."""

from pathlib import Path

import pytest

from warren_testkit.lab.gateways import Gateway
from warren_testkit.lab.kernel import KernelFleet, KernelLog
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.usefixtures("confined")]


def profile_of(process_id: int) -> str:
    """The profile that a process is confined by, and its mode (apparmor(7))."""
    return Path(f"/proc/{process_id}/attr/current").read_text().strip("\0\n ")


async def test_charon_is_confined_and_its_tunnel_works(fleet: KernelFleet) -> None:
    hub, spoke, _ = fleet.drivers
    for gateway in fleet.gateways:
        assert profile_of(gateway.charon.process_id) == "/usr/lib/ipsec/charon (enforce)"
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    await spoke.driver.create_tunnel(spoke.tunnel(hub, initiator=True))
    await spoke.driver.start_tunnel("hub+spoke")
    await spoke.converged()
    assert await spoke.gateway.ping(hub.gateway.protected)
    assert "hub+spoke" in hub.gateway.charon.swanctl("--list-sas")


def test_charon_is_denied_nothing_from_its_start_to_its_end(
    gateways: tuple[Gateway, ...], kernel_log: KernelLog
) -> None:
    charon = gateways[2].charon
    charon.restart()
    assert profile_of(charon.process_id) == "/usr/lib/ipsec/charon (enforce)"
    assert "loaded plugins" in charon.swanctl("--stats")
    assert kernel_log.denials() == []


@pytest.mark.denied
async def test_denial_would_be_seen(gateways: tuple[Gateway, ...], kernel_log: KernelLog, tmp_path: Path) -> None:
    """And what was denied before it: the kernel reports in order."""
    forbidden = tmp_path / "swanctl.conf"
    forbidden.write_text("")
    gateways[0].charon.swanctl("--load-conns", "--file", str(forbidden))

    async def received() -> list[str]:
        return kernel_log.denials()

    (line,) = await eventually(received)
    assert str(forbidden) in line

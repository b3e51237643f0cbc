"""The path probe through a real tunnel: answered echoes are evidence, and an address that does not answer degrades it."""

import errno
import socket
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from warren_agent.clocks import Clocks
from warren_agent.domain.health import Contradiction
from warren_agent.path_probe import PROBE_INTERVAL, PathProbe
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel
from warren_testkit.lab.gateways import Watched
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "hub+spoke"


class Prober:
    """The probe of one address at one end, with a clock that a test moves."""

    def __init__(self, end: Watched, config: Tunnel, address: str) -> None:
        self.clock, self._end, self._config = 0.0, end, config
        clocks = Clocks(monotonic=lambda: self.clock, now=lambda: datetime.now(UTC))
        self.probe = PathProbe([ip_address(address)], clocks, self._open)

    def _open(self, version: int) -> socket.socket:
        return self._end.gateway.echo_socket(version)

    async def look(self) -> tuple[TunnelStatus, list[Contradiction]]:
        """One report: the status, and what the probe finds. Each look is a report interval later than the last."""
        status = await self._end.driver.tunnel_status(NAME)
        found = list(self.probe.findings(self._config, status))
        self.clock += PROBE_INTERVAL
        return status, found

    def is_answered(self) -> bool:
        list(self.probe.findings(self._config, TunnelStatus(name=NAME, state=TunnelState.UP)))
        return self.probe.answered_at(self._config) is not None


async def test_echoes_go_through_the_tunnel_and_their_silence_is_found(ends: tuple[Watched, Watched]) -> None:
    hub, spoke = ends
    config = spoke.tunnel(hub, initiator=True)
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    await spoke.driver.create_tunnel(config)
    await spoke.driver.start_tunnel(NAME)
    await spoke.converged(0)
    prober = Prober(spoke, config, hub.gateway.protected)
    try:
        spoke.gateway.allow_echoes()
        _, found = await prober.look()
        assert found == []
        await eventually(prober.is_answered)
        status, _ = await prober.look()
        assert status.traffic.packets_in >= 1  # it came through the CHILD_SA, and not around it
        await hub.gateway.crash()  # the CHILD_SA stays at this end: only the silence shows it
        reasons = [[it.code for it in (await prober.look())[1]] for _ in range(6)]
        assert reasons[0] == []
        assert reasons[-1] == [ReasonCode.PATH_PROBE_FAILED]
    finally:
        prober.probe.close()


async def test_host_that_forbids_echoes_concludes_nothing(ends: tuple[Watched, Watched]) -> None:
    hub, spoke = ends
    config = spoke.tunnel(hub, initiator=True)
    await spoke.driver.create_tunnel(config)
    with pytest.raises(PermissionError) as refused:  # the kernel's default
        spoke.gateway.echo_socket(4)
    assert refused.value.errno == errno.EACCES
    prober = Prober(spoke, config, hub.gateway.protected)
    assert [(await prober.look())[1] for _ in range(6)] == [[]] * 6

"""The health of the tunnels: what drivers report, with what contradicts that packets pass."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from warren_agent.clocks import Clocks
from warren_agent.domain.health import (
    Contradiction,
    PacketFlow,
    advance,
    assessed,
    begin_flow,
    find_duplicates,
    find_narrowed,
    find_one_way,
)
from warren_contracts.status import Evidence, EvidenceKind, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel

ONE_WAY_AFTER = 60.0  # s


class HealthInspector(Protocol):
    """Looks at something outside of the driver that a tunnel depends on."""

    def findings(self, config: Tunnel, status: TunnelStatus) -> Iterable[Contradiction]:
        """What contradicts that packets pass this tunnel; nothing where it is not known."""


class Probe(HealthInspector, Protocol):
    """An Inspector that sends something through the tunnels."""

    def answered_at(self, config: Tunnel) -> datetime | None:
        """When the last probe through a tunnel was answered."""


class TunnelHealth:
    """Assesses the statuses of the applied tunnels. `one_way_after` (s, 0: off) is how long traffic may go one way only."""

    def __init__(
        self,
        clocks: Clocks,
        inspectors: Sequence[HealthInspector] = (),
        one_way_after: float = ONE_WAY_AFTER,
        probe: Probe | None = None,
    ) -> None:
        self._clocks = clocks
        self._inspectors = inspectors if probe is None else (*inspectors, probe)
        self._probe = probe
        self._one_way_after = one_way_after
        self.configs: dict[str, Tunnel] = {}  # of the applied tunnels, by name
        self._flows: dict[str, PacketFlow] = {}

    def watch(self, config: Tunnel) -> None:
        """Compare the tunnel's status with this configuration from now on."""
        self.configs[config.name] = config

    def forget(self, name: str) -> None:
        """The tunnel is deleted."""
        self.configs.pop(name, None)
        self._flows.pop(name, None)

    def assess(self, status: TunnelStatus, converged: bool) -> TunnelStatus:
        """The status as it is reported. A tunnel on an older configuration is not compared with the newest."""
        config = self.configs.get(status.name)
        flow = self._count(status)
        if config is None or status.state is not TunnelState.UP:
            return status
        found = [*find_one_way(flow, self._clocks.monotonic(), self._one_way_after)]
        if converged:
            found += find_narrowed(config, status)
        found += find_duplicates(status, self._clocks.now())
        for inspector in self._inspectors:
            found += inspector.findings(config, status)
        return assessed(self._with_probe(config, status), found)

    def _with_probe(self, config: Tunnel, status: TunnelStatus) -> TunnelStatus:
        """The status with an answered probe as its evidence, unless a later packet is."""
        at = None if self._probe is None else self._probe.answered_at(config)
        if at is None or (status.evidence.at is not None and status.evidence.at > at):
            return status
        return status.model_copy(update={"evidence": Evidence(kind=EvidenceKind.PROBE, at=at)})

    def _count(self, status: TunnelStatus) -> PacketFlow:
        """A tunnel that is not up has no flow: it starts again when it is."""
        clock, before = self._clocks.monotonic(), self._flows.get(status.name)
        if before is None or status.state not in (TunnelState.UP, TunnelState.DEGRADED):
            flow = begin_flow(status.traffic, clock)
        else:
            flow = advance(before, status.traffic, clock)
        self._flows[status.name] = flow
        return flow

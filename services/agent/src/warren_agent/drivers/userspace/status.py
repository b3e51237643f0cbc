"""The daemon's reports as tunnel status. Pure but for the time that is passed in."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import summarize_address_range
from typing import Any

from warren_contracts.selectors import AddressRange
from warren_contracts.selectors import TrafficSelector as Selector
from warren_contracts.status import (
    ChildSaStatus,
    Evidence,
    EvidenceKind,
    IpsecStatus,
    ReasonCode,
    TrafficStats,
    TunnelState,
    TunnelStatus,
)
from warren_contracts.tunnel import Tunnel
from warren_ikev2.daemon.messages import ChildReport, TunnelReport
from warren_ikev2.selectors import TrafficSelector

_REASONS = {
    "": ReasonCode.NONE,
    "NO_PROPOSAL_CHOSEN": ReasonCode.PROPOSAL_MISMATCH_IKE,
    "INVALID_KE_PAYLOAD": ReasonCode.PROPOSAL_MISMATCH_IKE,
    "TS_UNACCEPTABLE": ReasonCode.TS_MISMATCH,
    "FAILED_CP_REQUIRED": ReasonCode.ADDRESS_FAILED,
    "INTERNAL_ADDRESS_FAILURE": ReasonCode.ADDRESS_FAILED,
    "PeerNotRespondingError": ReasonCode.PEER_UNREACHABLE,
    "ConfigurationError": ReasonCode.INSTALL_FAILED,
}


@dataclass
class DaemonTunnelRecord:
    """One tunnel. `config` is None for one that an earlier run of the agent left in the daemon."""

    name: str
    config: Tunnel | None = None
    report: TunnelReport | None = None
    reason: ReasonCode = ReasonCode.NONE  # of the driver's own, while the daemon is unavailable
    detail: str = ""
    last: tuple[object, ...] = ()  # what was last reported
    traffic_at: datetime | None = None  # when the peer's packets were last seen to arrive

    def take(self, report: TunnelReport, now: datetime) -> None:
        """Take what the daemon holds now."""
        if self.report is not None and report.packets_in > self.report.packets_in:
            self.traffic_at = now
        self.report, self.reason, self.detail = report, ReasonCode.NONE, ""

    @property
    def converged(self) -> bool:
        return self.report is not None and self.report.converged

    def key(self) -> tuple[object, ...]:
        """Changes exactly when there is something to report: state, reason, or the SPIs in use."""
        report = self.report
        if report is None:
            return (self.reason, self.detail)
        spis = tuple(sorted((child.spi_in, child.spi_out) for child in report.children))
        return (report.state, report.converged, self.reason, report.reason, report.detail, spis)

    def status(self, now: datetime) -> TunnelStatus:
        """As it is reported."""
        config, report = self.config, self.report
        own: dict[str, Any] = {
            "name": self.name,
            "policy": config.policy if config else None,
            "peer": config.peer if config else None,
            "initiator": config.initiator if config else False,
        }
        if report is None or self.reason is not ReasonCode.NONE:
            return TunnelStatus(state=TunnelState.DOWN, reason=self.reason, detail=self.detail, **own)
        return TunnelStatus(
            state=TunnelState(report.state),
            link=IpsecStatus(
                ike_cipher=report.ike_cipher,
                ike_established_at=None if report.age_seconds is None else now - timedelta(seconds=report.age_seconds),
                local_address=report.local_address,
                remote_address=report.remote_address,
                local_vips=report.local_vips,
                remote_vips=report.remote_vips,
                children=tuple(_child(child, now) for child in report.children),
            ),
            traffic=_traffic(report),
            rekeys=report.rekeys,
            rekey_seconds=report.rekey_seconds,
            reason=reason_of(report),
            detail=report.detail,
            evidence=Evidence(kind=EvidenceKind.TRAFFIC, at=self.traffic_at) if self.traffic_at else Evidence(),
            **own,
        )


def reason_of(report: TunnelReport) -> ReasonCode:
    """Why the last attempt failed."""
    if report.reason == "AUTHENTICATION_FAILED":
        return ReasonCode.LOCAL_AUTH_FAILED if report.by_peer else ReasonCode.PEER_AUTH_FAILED
    return _REASONS.get(report.reason, ReasonCode.OTHER)


def _traffic(counted: TunnelReport | ChildReport) -> TrafficStats:
    return TrafficStats(
        bytes_in=counted.bytes_in,
        bytes_out=counted.bytes_out,
        packets_in=counted.packets_in,
        packets_out=counted.packets_out,
    )


def _child(child: ChildReport, now: datetime) -> ChildSaStatus:
    return ChildSaStatus(
        child=child.name,
        spi_in=f"{child.spi_in:08x}",
        spi_out=f"{child.spi_out:08x}",
        cipher=child.cipher,
        key_exchange=child.key_exchange,
        esn=child.esn,
        udp_encapsulated=True,
        established_at=now - timedelta(seconds=child.age_seconds),
        local_ts=tuple(_selector(selector) for selector in child.local_ts),
        remote_ts=tuple(_selector(selector) for selector in child.remote_ts),
        traffic=_traffic(child),
    )


def _selector(selector: TrafficSelector) -> Selector:
    bounds: Any = (selector.start, selector.end)  # both have one version; the stub is typed for one version each
    networks = list(summarize_address_range(*bounds))
    addresses = networks[0] if len(networks) == 1 else AddressRange(selector.start, selector.end)
    return Selector(addresses, selector.protocol, (selector.start_port, selector.end_port))

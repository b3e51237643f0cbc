"""What the driver hears, read and told on: events of charon, SAs as it lists them, reasons; one Tracked a tunnel."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from warren_agent.drivers.port import AttemptFailed, DriverEvent, TunnelChanged
from warren_agent.drivers.strongswan.connections import parse_handle
from warren_agent.drivers.strongswan.convergence import has_surplus
from warren_agent.drivers.strongswan.error_notify import Notification, NotifyType
from warren_agent.drivers.strongswan.reader import is_loss
from warren_agent.drivers.strongswan.reasons import parse_log_line
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.sas import CONNECTING, IkeSa
from warren_agent.drivers.strongswan.tracking import TunnelRecord, is_final
from warren_agent.drivers.strongswan.vici_codec import Section, subsections, text
from warren_contracts.status import ReasonCode

# s; ike-updown comes by another socket than the record that says why
EXPLANATION_GRACE = 0.1
SURPLUS_CHECK = 1.05  # s


class TunnelTable:
    """All tunnels of one driver by name, and the queue of what is told of them."""

    def __init__(self, refresher: Refresher, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.tunnels: dict[str, TunnelRecord] = {}
        self.events: asyncio.Queue[DriverEvent | BaseException] = asyncio.Queue()
        self._refresher = refresher
        self._clock = clock
        self._now = now

    def all_away(self, detail: str) -> None:
        """charon is unreachable, and with it every SA."""
        for tracked in self.tunnels.values():
            tracked.observe([], self._clock())
            tracked.clear_reason()
            tracked.explain(ReasonCode.DAEMON_UNREACHABLE, detail)
            self._tell(tracked)

    def heard(self, event: str, message: Section) -> None:
        if event == "log":
            self._heard_log(message)
            return
        for name, section in subsections(message).items():
            handle = parse_handle(name)
            tracked = self.tunnels.get(handle.tunnel) if handle else None
            if tracked is None:
                continue
            if event == "child-rekey":
                tracked.rekeys += 1
            if event == "ike-updown" and "up" not in message and text(section, "state") in CONNECTING:
                asyncio.get_running_loop().call_later(EXPLANATION_GRACE, self._attempt_ended, tracked)
            self._refresher.mark(tracked.name)

    def _heard_log(self, message: Section) -> None:
        reason = parse_log_line(text(message, "msg"))
        handle = parse_handle(text(message, "ikesa-name"))
        tracked = self.tunnels.get(handle.tunnel) if handle else None
        if reason is not None and tracked is not None:
            self._failed(tracked, reason.code, reason.detail)

    def notified(self, notification: Notification) -> None:
        tracked = self._tunnel_of(notification)
        if tracked is None:
            return
        if notification.type is NotifyType.RETRANSMIT_SEND_CLEARED and tracked.reason is ReasonCode.PEER_UNREACHABLE:
            tracked.clear_reason()
            self._refresher.mark(tracked.name)
        elif notification.reason is not ReasonCode.NONE:
            self._failed(tracked, notification.reason, notification.text, is_final(notification))

    def _tunnel_of(self, notification: Notification) -> TunnelRecord | None:
        handle = parse_handle(notification.connection)
        if handle is not None and handle.tunnel in self.tunnels:
            return self.tunnels[handle.tunnel]
        host = notification.address.partition("[")[0]
        candidates = [
            tracked
            for tracked in self.tunnels.values()
            if (notification.connection and str(tracked.wanted.connection).startswith(notification.connection))
            or (
                not notification.connection
                and tracked.config
                and host in {str(it.host) for it in tracked.config.remote_endpoints}
            )
        ]
        return candidates[0] if len(candidates) == 1 else None

    def _failed(self, tracked: TunnelRecord, code: ReasonCode, detail: str, final: bool = True) -> None:
        if tracked.explain(code, detail, over=final):
            self.events.put_nowait(AttemptFailed(tracked.name, tracked.reason, tracked.detail, final))
            self._tell(tracked)
        if final or tracked.settled:  # of a settled one: which SAs there are, since one of them is what it is about
            self._refresher.mark(tracked.name)

    def _attempt_ended(self, tracked: TunnelRecord) -> None:
        """charon gave up on an IKE_SA; should nothing have said why, this does."""
        if not tracked.settled and self.tunnels.get(tracked.name) is tracked:
            tracked.explain(ReasonCode.OTHER, "the negotiation ended without a reason; charon's log says more")
            self.events.put_nowait(AttemptFailed(tracked.name, tracked.reason, tracked.detail))
            self._tell(tracked)

    def observe_all(self, sas: list[IkeSa], partial: bool = False) -> None:
        """`partial`: charon left out what was busy, so that absence is looked at once more before it is believed."""
        by_name: dict[str, list[IkeSa]] = {}
        for sa in sas:
            if sa.handle is not None:
                by_name.setdefault(sa.handle.tunnel, []).append(sa)
        for name, tracked in list(self.tunnels.items()):
            found = by_name.get(name, [])
            gone = {sa.unique_id for sa in tracked.sas} - {sa.unique_id for sa in found}
            if partial and (gone or is_loss(tracked.sas, found, tracked.wanted)):
                self._refresher.mark(name)
            else:
                self.observe(tracked, found)

    def observe(self, tracked: TunnelRecord, sas: list[IkeSa]) -> None:
        tracked.observe(sas, self._clock())
        self._tell(tracked)
        if has_surplus(tracked.sas, tracked.wanted):
            self._refresher.mark(tracked.name, after=SURPLUS_CHECK)

    def _tell(self, tracked: TunnelRecord) -> None:
        facts = tracked.fingerprint()
        if facts != tracked.told:
            tracked.told = facts
            self.events.put_nowait(TunnelChanged(tracked.name, tracked.status(self._now()), tracked.settled))

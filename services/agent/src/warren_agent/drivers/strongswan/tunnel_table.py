"""The tunnels of a driver: charon's events, its list of SAs and its reasons become events of the driver."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from warren_agent.drivers.port import AttemptFailed, DaemonTunnelChanged, DriverEvent
from warren_agent.drivers.strongswan.connections import parse_handle
from warren_agent.drivers.strongswan.convergence import has_surplus
from warren_agent.drivers.strongswan.error_notify import ErrorNotifyType, Notification
from warren_agent.drivers.strongswan.reader import is_loss
from warren_agent.drivers.strongswan.reasons import parse_log_line
from warren_agent.drivers.strongswan.refresher import Refresher
from warren_agent.drivers.strongswan.sas import CONNECTING, IkeSa
from warren_agent.drivers.strongswan.tunnel_record import TunnelRecord, is_final
from warren_agent.drivers.strongswan.vici_codec import Section, number, subsection, subsections, text
from warren_contracts.status import ReasonCode

# s; ike-updown comes by another socket than the record that says why
EXPLANATION_GRACE = 0.1
SURPLUS_CHECK = 1.05  # s
_SILENT = frozenset({ReasonCode.PEER_UNREACHABLE, ReasonCode.PEER_NOT_ANSWERING})
_REFUSED_PROPOSALS = frozenset({ReasonCode.PROPOSAL_MISMATCH_IKE, ReasonCode.PROPOSAL_MISMATCH_CHILD})
# charon names the proposals only, and the answer is the same where the peer has no connection for these addresses.
_REFUSED_INIT = (
    "the peer answered IKE_SA_INIT with NO_PROPOSAL_CHOSEN: it has no connection that matches these addresses,"
    " or none of these proposals"
)


class TunnelTable:
    """All tunnels of one driver by name, and the queue of their events."""

    def __init__(self, refresher: Refresher, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.tunnels: dict[str, TunnelRecord] = {}
        self.events: asyncio.Queue[DriverEvent | BaseException] = asyncio.Queue()
        self._refresher = refresher
        self.clock = clock
        self._now = now

    def all_unreachable(self, detail: str) -> None:
        """charon is unreachable, and with it every SA."""
        for record in self.tunnels.values():
            record.observe([], self.clock())
            record.clear_reason()
            record.silence = None
            record.explain(ReasonCode.DAEMON_UNREACHABLE, detail)
            self._report_change(record)

    def handle_event(self, event: str, message: Section) -> None:
        if event == "log":
            self._handle_log(message)
            return
        for name, section in subsections(message).items():
            handle = parse_handle(name)
            record = self.tunnels.get(handle.tunnel) if handle else None
            if record is None:
                continue
            for kind, unique_id in _rekeyed(event, section):
                record.rekeyed(kind, unique_id, self.clock())
            if event == "ike-updown" and "up" not in message and text(section, "state") in CONNECTING:
                if number(section, "uniqueid") in record.given_up:
                    record.given_up.discard(number(section, "uniqueid"))  # its end is not a result of the next attempt
                else:
                    asyncio.get_running_loop().call_later(EXPLANATION_GRACE, self._attempt_ended, record)
            self._refresher.mark(record.name)

    def _handle_log(self, message: Section) -> None:
        reason = parse_log_line(text(message, "msg"))
        handle = parse_handle(text(message, "ikesa-name"))
        record = self.tunnels.get(handle.tunnel) if handle else None
        if reason is not None and record is not None:
            final = reason.code is not ReasonCode.PEER_NOT_ANSWERING
            self._failed(record, reason.code, _in_full(reason.code, reason.detail, record), final)

    def handle_notification(self, notification: Notification) -> None:
        record = self._tunnel_of(notification)
        if record is None:
            return
        if notification.type is ErrorNotifyType.RETRANSMIT_SEND_CLEARED:
            record.silence = None
            if record.reason in _SILENT:
                record.clear_reason()
            self._refresher.mark(record.name)
        elif notification.reason is not ReasonCode.NONE:
            # On the responder's side of an IKE_SA_INIT there is no connection yet.
            text = (
                _in_full(notification.reason, notification.text, record)
                if notification.connection
                else notification.text
            )
            self._failed(record, notification.reason, text, is_final(notification))

    def _tunnel_of(self, notification: Notification) -> TunnelRecord | None:
        handle = parse_handle(notification.connection)
        if handle is not None and handle.tunnel in self.tunnels:
            return self.tunnels[handle.tunnel]
        host = notification.address.partition("[")[0]
        candidates = [
            record
            for record in self.tunnels.values()
            if (notification.connection and str(record.desired.connection).startswith(notification.connection))
            or (
                not notification.connection
                and record.config
                and host in {str(it.host) for it in record.config.remote_endpoints}
            )
        ]
        return candidates[0] if len(candidates) == 1 else None

    def _failed(self, record: TunnelRecord, code: ReasonCode, detail: str, final: bool = True) -> None:
        record.doubtful |= code in _REFUSED_PROPOSALS
        if code in _SILENT and record.converged:
            record.suspect(detail, final, self.clock(), self._now())
        elif record.explain(*record.silence_of_attempt(detail) if code in _SILENT else (code, detail), over=final):
            self.events.put_nowait(AttemptFailed(record.name, record.reason, record.detail, final))
            self._report_change(record)
        # Of a converged one: which SAs there are, since one of them is what it is about. Of a silent peer: how far it has come.
        if final or record.converged or code in _SILENT:
            self._refresher.mark(record.name)

    def _attempt_ended(self, record: TunnelRecord) -> None:
        """charon gave up on an IKE_SA; should nothing have said why, this does."""
        if not record.converged and self.tunnels.get(record.name) is record:
            was_over = record.attempt_over
            detail = "the negotiation ended without a reason; charon's log says more"
            if record.explain(ReasonCode.OTHER, detail, over=True) or not was_over:
                record.attempt_over = True
                self.events.put_nowait(AttemptFailed(record.name, record.reason, record.detail))
            self._report_change(record)

    def observe_all(self, sas: list[IkeSa], partial: bool = False) -> None:
        """`partial`: charon left out what was busy, so that absence is looked at once more before it is believed."""
        by_name: dict[str, list[IkeSa]] = {}
        for sa in sas:
            if sa.handle is not None:
                by_name.setdefault(sa.handle.tunnel, []).append(sa)
        for name, record in list(self.tunnels.items()):
            found = by_name.get(name, [])
            gone = {sa.unique_id for sa in record.sas} - {sa.unique_id for sa in found}
            if partial and (gone or is_loss(record.sas, found, record.desired)):
                self._refresher.mark(name)
            else:
                self.observe(record, found)

    def observe(self, record: TunnelRecord, sas: list[IkeSa]) -> None:
        record.observe(sas, self.clock())
        record.note_traffic(self._now())
        if record.judge_silence(self.clock()):
            self.events.put_nowait(AttemptFailed(record.name, record.reason, record.detail, record.attempt_over))
        self._report_change(record)
        if has_surplus(record.sas, record.desired):
            self._refresher.mark(record.name, after=SURPLUS_CHECK)

    def _report_change(self, record: TunnelRecord) -> None:
        facts = record.fingerprint()
        if facts != record.last_reported:
            record.last_reported = facts
            self.events.put_nowait(DaemonTunnelChanged(record.name, record.status(self._now()), record.converged))


def _rekeyed(event: str, section: Section) -> list[tuple[str, int]]:
    """The kinds and unique ids of the SAs that an event says were replaced (vici's README, "ike-rekey" and "child-rekey")."""
    if event == "ike-rekey":
        return [("ike", number(subsection(section, "old"), "uniqueid"))]
    if event == "child-rekey":
        children = subsections(subsection(section, "child-sas")).values()
        return [("child", number(subsection(child, "old"), "uniqueid")) for child in children]
    return []


def _in_full(code: ReasonCode, detail: str, record: TunnelRecord) -> str:
    """What charon says, with what it leaves open: a refused IKE_SA_INIT has two causes."""
    if code is not ReasonCode.PROPOSAL_MISMATCH_IKE or record.converged:
        return detail
    proposals = detail.partition("did not match: ")[2]
    return f"{_REFUSED_INIT}: {proposals}" if proposals else _REFUSED_INIT

"""The accounts of the server: its sessions with their traffic, and what it refused, by kind. No I/O.

The data process reports each CHILD_SA by itself, and a last time when it is removed; a session's totals are those of all that it
has had.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from warren_ikev2.admission import NO_CONNECTION
from warren_ikev2.aio.session import Session
from warren_ikev2.constants import NotifyType
from warren_ikev2.dataplane.control import ChildStatistics
from warren_ikev2.events import (
    AuthenticationFailed,
    ChildSaDeleted,
    ChildSaEstablished,
    ChildSaFailed,
    ChildSaRekeyed,
    DatagramDropped,
    Event,
    HandshakeFailed,
    IkeSaDeleted,
    IkeSaEstablished,
    RequestRefused,
    SessionId,
)
from warren_ikev2.exchanges.uniqueness import CONNECTED_ALREADY

_CHILD_KINDS: dict[int, str] = {
    NotifyType.INTERNAL_ADDRESS_FAILURE: "pool-exhausted",
    NotifyType.FAILED_CP_REQUIRED: "no-address-requested",
    NotifyType.TS_UNACCEPTABLE: "selectors",
    NotifyType.NO_PROPOSAL_CHOSEN: "algorithms",
}
MAX_KINDS = 64
"""Of one counter: the engine's words are few, and none is a peer's."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was carried, from the client and to it."""

    bytes_in: int = 0
    packets_in: int = 0
    bytes_out: int = 0
    packets_out: int = 0

    def plus(self, child: ChildStatistics) -> "Traffic":
        """With what a CHILD_SA has carried."""
        return Traffic(
            self.bytes_in + child.bytes_in, self.packets_in + child.packets_in,
            self.bytes_out + child.bytes_out, self.packets_out + child.packets_out,
        )  # fmt: skip


@dataclass(slots=True, eq=False)
class Account:
    """One session. `session` is the engine's view of it."""

    id: SessionId
    user: str
    """Its name, whatever identity the client has proved."""
    info: IkeSaEstablished
    since: datetime
    session: Session | None = None
    rekeys: int = 0
    children: dict[int, ChildStatistics] = field(default_factory=dict)
    """The last report of each CHILD_SA that is there, by inbound SPI."""
    ended: Traffic = Traffic()
    """Of CHILD_SAs that are gone."""

    @property
    def traffic(self) -> Traffic:
        """Since the session began."""
        total = self.ended
        for child in self.children.values():
            total = total.plus(child)
        return total

    def settle(self, spi_in: int) -> None:
        """A CHILD_SA is gone: no report of it will come."""
        child = self.children.pop(spi_in, None)
        if child is not None:
            self.ended = self.ended.plus(child)


class Accounts:
    """See the module. `now` is the wall clock; `later(seconds, call)` calls once after that time."""

    def __init__(self, now: Callable[[], datetime], later: Callable[[float, Callable[[], None]], object]) -> None:
        self._now, self._later = now, later
        self.sessions: dict[SessionId, Account] = {}
        self.logins = 0
        self.refusals: Counter[str] = Counter()
        self.datagrams: Counter[str] = Counter()
        self.on_closed: Callable[[Account, str], None] | None = None
        """Called with a session that is over, once its traffic is known, and the reason."""
        self._by_spi: dict[int, Account] = {}

    def of_user(self, name: str) -> list[Account]:
        """The sessions of a user."""
        return [account for account in self.sessions.values() if account.user == name]

    def take_event(self, event: Event) -> None:
        """Take an event of the engine."""
        match event:
            case IkeSaEstablished():
                self.sessions[event.session] = Account(event.session, event.user, event, self._now())
                self.logins += 1
            case ChildSaEstablished():
                self._add(event.session, event.child.spi_in)
            case ChildSaRekeyed():
                account = self._add(event.session, event.new.spi_in)
                if account is not None:
                    account.rekeys += 1
            case ChildSaDeleted():
                self._later(SETTLED_SECONDS, lambda: self._settle(event.child.spi_in))
            case IkeSaDeleted():
                self._close(event)
            case DatagramDropped():
                self._count(self.datagrams, event.reason)
            case _:
                kind = kind_of_refusal(event)
                if kind:
                    self._count(self.refusals, kind)

    def take_statistics(self, children: Iterable[ChildStatistics]) -> None:
        """Take reports of the data process."""
        for child in children:
            account = self._by_spi.get(child.spi_in)
            if account is not None:
                account.children[child.spi_in] = child

    def _add(self, session: SessionId, spi_in: int) -> Account | None:
        account = self.sessions.get(session)
        if account is not None:
            self._by_spi[spi_in] = account
        return account

    def _settle(self, spi_in: int) -> None:
        account = self._by_spi.pop(spi_in, None)
        if account is not None:
            account.settle(spi_in)

    def _close(self, event: IkeSaDeleted) -> None:
        account = self.sessions.pop(event.session, None)
        if account is not None and self.on_closed is not None:
            # its last report is on the way from the data process
            self._later(LAST_REPORT_SECONDS, lambda: self._report_closed(account, event.reason.value))

    def _report_closed(self, account: Account, reason: str) -> None:
        if self.on_closed is not None:
            self.on_closed(account, reason)

    def _count(self, counter: Counter[str], kind: str) -> None:
        if kind in counter or len(counter) < MAX_KINDS:
            counter[kind] += 1


LAST_REPORT_SECONDS = 1.0
SETTLED_SECONDS = 10.0
"""After a CHILD_SA was deleted: packets on the way are accepted for 5 s, and reported a second later."""


def kind_of_refusal(event: Event) -> str:
    """The kind of a refusal, as a label; empty for events that are none."""
    kind = ""
    match event:
        case AuthenticationFailed(reason=reason) if reason.endswith(CONNECTED_ALREADY):
            kind = "connected-already"
        case AuthenticationFailed(connection=connection):
            kind = "unknown-identity" if connection is None else "authentication"
        case HandshakeFailed(reason=reason) if reason == NO_CONNECTION:
            kind = "address-not-allowed"
        case HandshakeFailed(notify=notify):
            kind = "algorithms" if notify == NotifyType.NO_PROPOSAL_CHOSEN else "handshake"
        case ChildSaFailed(notify=notify):
            kind = _CHILD_KINDS.get(notify, "child-sa")
        case RequestRefused():
            kind = "request"
    return kind

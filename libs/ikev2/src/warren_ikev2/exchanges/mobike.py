"""MOBIKE (RFC 4555): an established IKE_SA changes its addresses; the initiator decides.

    we change as initiator    the IKE_SA's path at once, ESP's when the response returns our COOKIE2 (3.5)
    the peer changes          the IKE_SA's path at once, ESP's when the peer has returned a COOKIE2 from there (3.7)
    the path fails            the initiator sends its requests over every path, and updates to one that is answered (3.10)

The responder uses the initiator's other addresses only to announce that its own have changed (3.6).
"""

from collections.abc import Sequence
from typing import ClassVar

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.addresses import IPAddress, Path
from warren_ikev2.constants import ExchangeType, NotifyType
from warren_ikev2.errors import CommandError
from warren_ikev2.events import AddressChanged, AddressRefused, DeleteReason, SessionRole, State
from warren_ikev2.exchanges.address_lists import build_list, nat_is_unexpected, parse_list, prohibit_nats
from warren_ikev2.exchanges.nat import build_detection, detect
from warren_ikev2.ike_sa import IkeSa, Task
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import NotifyPayload, Payload

_COOKIE2_SIZE = 16  # RFC 4555, 4.2.5: 8 to 64
MAX_COOKIE2 = 64
NAT_RETRIES = 3  # new requests after UNEXPECTED_NAT_DETECTED (3.9)


def move(sa: IkeSa, path: Path) -> None:
    """Use another path for the IKE_SA and all CHILD_SAs, and report it."""
    session = sa.session
    old, session.old_path = session.esp_path, None
    encapsulated = session.udp_encapsulation
    session.path = path
    same = all(c.sa.path == path and c.sa.udp_encapsulation == encapsulated for c in session.children.values())
    if old == path and same:
        return
    moved = tuple(child.move(path, encapsulated) for child in session.children.values())
    sa.host.emit(AddressChanged(session.id, old, path, moved))


def start_move(sa: IkeSa, path: Path, now: float, *, announce_addresses: bool = False) -> None:
    """As initiator: change the path. Outstanding requests must be answered first, so they are sent again there (3.5)."""
    session, current = sa.session, _current(sa)
    session.old_path, session.path = session.esp_path, path
    current.queue.appendleft(UpdateAddresses(path, announce_addresses=announce_addresses))
    current.resend(now)
    current.pump(now)
    sa.host.touch(current)


def _current(sa: IkeSa) -> IkeSa:
    """The IKE_SA itself, or the successor that carries its session."""
    return sa.session.ike_sa or sa


def paths(sa: IkeSa) -> list[Path]:
    """Return every path between both sides' addresses, the current one first."""
    return sa.session.mobility.paths(sa.session.path, sa.host.configuration.remote_natt_port)


class UpdateAddresses:
    """UPDATE_SA_ADDRESSES (3.5): announce our path to the responder, and check it by COOKIE2 (3.7)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def __init__(self, path: Path, *, announce_addresses: bool = False, attempt: int = 1) -> None:
        self._path = path
        self._announce_addresses = announce_addresses
        self._attempt = attempt
        self._cookie = b""

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: the path has changed since."""
        if sa.session.path != self._path:
            return None
        self._cookie = sa.host.random_bytes(_COOKIE2_SIZE)
        connection = sa.session.connection
        detection: list[Payload] = []
        if connection.allow_nats:
            fake_source = connection.force_udp_encapsulation
            detection += build_detection(sa.spi_i, sa.spi_r, self._path, sa.host.random_bytes, fake_source=fake_source)
        return [
            NotifyPayload(NotifyType.UPDATE_SA_ADDRESSES),
            *detection,
            *(build_list(sa, self._path) if self._announce_addresses else []),
            *prohibit_nats(connection, self._path),
            NotifyPayload(NotifyType.COOKIE2, self._cookie),
        ]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task. A refusal leaves the CHILD_SAs where they were; another cookie than ours ends the IKE_SA (3.7)."""
        if sa.session.path != self._path:
            return  # superseded by a newer update (3.5)
        if payloads.notify(NotifyType.UNEXPECTED_NAT_DETECTED) is not None and self._attempt < NAT_RETRIES:
            sa.queue.appendleft(UpdateAddresses(self._path, announce_addresses=True, attempt=self._attempt + 1))
        elif any(payloads.notify(kind) is not None for kind in _REFUSALS):
            self._refused(sa, now)
        elif _cookie_returned(payloads, self._cookie):
            sa.session.nat = detect(payloads, sa.spi_i, sa.spi_r, self._path) or sa.session.nat
            sa.session.mobility.mapping = mapping_of(payloads)
            sa.session.mobility.refused.clear()
            move(sa, self._path)
        else:
            sa.close(DeleteReason.PROTOCOL_ERROR, "COOKIE2 was not returned", now)

    def _refused(self, sa: IkeSa, now: float) -> None:
        """Use another path that the peer has not refused, else the previous one."""
        session = sa.session
        session.mobility.refused.add(self._path)
        sa.host.emit(AddressRefused(session.id, self._path))
        old, session.old_path = session.old_path, None
        if old is not None:
            session.path = old
        left = [path for path in paths(sa) if path not in session.mobility.refused]
        if left and session.path not in left:
            start_move(sa, left[0], now)


_REFUSALS = (NotifyType.UNACCEPTABLE_ADDRESSES, NotifyType.UNEXPECTED_NAT_DETECTED)


class CheckRoutability:
    """As responder: check that the peer receives at its new address, before ESP is sent there (3.7)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cookie = b""

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: the path has changed since, or ESP uses it already."""
        if sa.session.path != self._path or sa.session.old_path is None:
            return None
        self._cookie = sa.host.random_bytes(_COOKIE2_SIZE)
        return [NotifyPayload(NotifyType.COOKIE2, self._cookie)]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        if not _cookie_returned(payloads, self._cookie):
            sa.close(DeleteReason.PROTOCOL_ERROR, "COOKIE2 was not returned", now)
        elif sa.session.path == self._path:  # otherwise it was sent to several addresses, and proves nothing (3.7)
            move(sa, self._path)


class AnnounceAddresses:
    """Our additional addresses have changed (3.6)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        path = sa.session.path
        return [*build_list(sa, path), *prohibit_nats(sa.session.connection, path)]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """Nothing to do."""


def change_addresses(sa: IkeSa, addresses: tuple[IPAddress, ...], now: float) -> None:
    """Apply a changed list of our addresses. CommandError: no path from them to the peer."""
    session = sa.session
    known, session.mobility.own = session.mobility.own, addresses
    if not addresses or session.path.local.host in addresses:
        sa.enqueue(AnnounceAddresses(), now)
        return
    left = paths(sa)
    if not left:
        session.mobility.own = known
        raise CommandError("no path to the peer from these addresses")
    if session.role == SessionRole.INITIATOR:
        start_move(sa, left[0], now, announce_addresses=True)
        return
    move(sa, left[0])  # the only case in which a responder changes the path (3.5)
    session.mobility.searching = True
    sa.queue.appendleft(AnnounceAddresses())
    sa.resend(now)
    sa.pump(now)


def answer_update(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> list[Payload]:
    """Respond to address updates (3.5 and 3.6), and to NAT detection and COOKIE2 in any INFORMATIONAL (3.7 and 3.8)."""
    session = sa.session
    found: list[Payload] = [n for n in payloads.notifies(NotifyType.COOKIE2)[:1] if len(n.data) <= MAX_COOKIE2]
    nat = detect(payloads, sa.spi_i, sa.spi_r, path)
    if nat is not None:
        fake_source = session.connection.force_udp_encapsulation
        found += build_detection(sa.spi_i, sa.spi_r, path, sa.host.random_bytes, fake_source=fake_source)
    if not session.peer.mobike:
        return found
    asked = payloads.notify(NotifyType.UPDATE_SA_ADDRESSES) is not None and session.role == SessionRole.RESPONDER
    announced = parse_list(payloads)
    if (asked or announced is not None) and nat_is_unexpected(payloads, path):
        return [*found, NotifyPayload(NotifyType.UNEXPECTED_NAT_DETECTED)]
    if asked and sa.answering > sa.newest_update and _is_newest(sa):
        if not _is_acceptable(sa, path):
            return [*found, NotifyPayload(NotifyType.UNACCEPTABLE_ADDRESSES)]
        sa.newest_update = sa.answering
        session.nat = nat or session.nat
        _follow(sa, path, now)
    if announced is not None and sa.answering > sa.newest_list:
        sa.newest_list = sa.answering
        session.mobility.peers = (path.remote.host, *announced)
        _leave_lost_address(sa, path, now)
    return found


def _is_newest(sa: IkeSa) -> bool:
    """Whether no update was received over a successor, which would be newer than any over this IKE_SA."""
    current = _current(sa)
    return current is sa or current.newest_update < 0


def _is_acceptable(sa: IkeSa, path: Path) -> bool:
    networks = sa.session.connection.remote_addresses
    return not networks or any(path.remote.host in network for network in networks)


def _follow(sa: IkeSa, path: Path, now: float) -> None:
    """As responder: change the path of the IKE_SA at once, that of the CHILD_SAs after a return routability check."""
    session = sa.session
    known = session.esp_path
    if not session.connection.return_routability or path.remote == known.remote:
        move(sa, path)
        return
    session.path, session.old_path = path, known
    current = _current(sa)
    current.queue.appendleft(CheckRoutability(path))
    if current is not sa:
        current.pump(now)
        sa.host.touch(current)


def _leave_lost_address(sa: IkeSa, path: Path, now: float) -> None:
    """As initiator: if the responder no longer has the address in use, change to the one that it sends from."""
    if sa.session.role == SessionRole.INITIATOR and sa.session.path.remote.host not in sa.session.mobility.peers:
        start_move(sa, path, now)


def follows_nat(sa: IkeSa, path: Path) -> bool:
    """Whether ESP that came over this path shows a NAT's new mapping (RFC 7296, 2.23; RFC 4555, 3.8).

    With MOBIKE only for another port of the same address: a late packet must not undo a change of the path.
    """
    session = sa.session
    same = not session.peer.mobike or path.remote.host == session.esp_path.remote.host
    return session.nat.remote and session.old_path is None and path.local == session.path.local and same


def follow_probe(sa: IkeSa, task: Task, path: Path, now: float) -> None:
    """Use the path of a response to a request that was sent over every path.

    The responder may have received another copy first, so only a new update shows which path it has accepted.
    """
    session = sa.session
    if sa.state != State.ESTABLISHED or session.ike_sa is not sa:
        return
    if session.role == SessionRole.RESPONDER:
        session.mobility.searching = False
        if isinstance(task, AnnounceAddresses):  # 3.6: its list belongs to another source address
            sa.enqueue(AnnounceAddresses(), now)
    elif path in paths(sa) and (path != session.path or isinstance(task, UpdateAddresses)):
        start_move(sa, path, now)


def mapping_of(payloads: Payloads) -> bytes:
    """Return our address as the peer sees it."""
    notify = payloads.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    return b"" if notify is None else notify.data


def _cookie_returned(payloads: Payloads, cookie: bytes) -> bool:
    notify = payloads.notify(NotifyType.COOKIE2)
    return notify is not None and bytes_eq(notify.data, cookie)

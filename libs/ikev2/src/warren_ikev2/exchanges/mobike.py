"""MOBIKE (RFC 4555): an established IKE_SA moves to other addresses; the initiator decides.

    we move as initiator      the IKE_SA's path at once, ESP's when the answer brings our COOKIE2 back (3.5)
    the peer moves            the IKE_SA's path at once, ESP's when it has answered a COOKIE2 from there (3.7)
    the path falls silent     the initiator repeats its requests over every pair of addresses; what is answered is tried (3.10)

The responder uses the initiator's addresses only to tell that its own have changed (3.6).
"""

from collections.abc import Sequence
from typing import ClassVar

from cryptography.hazmat.primitives.constant_time import bytes_eq

from warren_ikev2.addresses import IPAddress, Path
from warren_ikev2.constants import ExchangeType, NotifyType
from warren_ikev2.errors import CommandError
from warren_ikev2.events import AddressChanged, AddressRefused, DeleteReason, Role, State
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
    """As initiator: go to another path. What is on the way must arrive first, so it is repeated there (3.5)."""
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
    """Every path that both sides' addresses make, the current one first."""
    return sa.session.mobility.paths(sa.session.path, sa.host.configuration.remote_natt_port)


class UpdateAddresses:
    """UPDATE_SA_ADDRESSES (3.5): tell the responder our path, and see whether it hears us there (3.7)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def __init__(self, path: Path, *, announce_addresses: bool = False, attempt: int = 1) -> None:
        self._path = path
        self._announce_addresses = announce_addresses
        self._attempt = attempt
        self._cookie = b""

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: we moved on."""
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
            return  # a newer update says more (3.5)
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
            sa.close(DeleteReason.PROTOCOL_ERROR, "COOKIE2 does not return", now)

    def _refused(self, sa: IkeSa, now: float) -> None:
        """Another path that the peer has not refused, else the one from before."""
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
    """As responder: does the peer get what we send to its new address (3.7)? Only then ESP goes there."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    exclusive: ClassVar[bool] = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cookie = b""

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload] | None:
        """See Task. None: the peer moved on, or is where ESP goes already."""
        if sa.session.path != self._path or sa.session.old_path is None:
            return None
        self._cookie = sa.host.random_bytes(_COOKIE2_SIZE)
        return [NotifyPayload(NotifyType.COOKIE2, self._cookie)]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task."""
        if not _cookie_returned(payloads, self._cookie):
            sa.close(DeleteReason.PROTOCOL_ERROR, "COOKIE2 does not return", now)
        elif sa.session.path == self._path:  # else it went to several addresses, and says nothing (3.7)
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
        """The peer knows."""


def change_addresses(sa: IkeSa, addresses: tuple[IPAddress, ...], now: float) -> None:
    """Our addresses are others now. CommandError: none of them reaches the peer."""
    session = sa.session
    known, session.mobility.own = session.mobility.own, addresses
    if not addresses or session.path.local.host in addresses:
        sa.enqueue(AnnounceAddresses(), now)
        return
    left = paths(sa)
    if not left:
        session.mobility.own = known
        raise CommandError("none of these addresses reaches the peer")
    if session.role == Role.INITIATOR:
        start_move(sa, left[0], now, announce_addresses=True)
        return
    move(sa, left[0])  # the one case in which a responder moves by itself (3.5)
    session.mobility.searching = True
    sa.queue.appendleft(AnnounceAddresses())
    sa.resend(now)
    sa.pump(now)


def answer_update(sa: IkeSa, payloads: Payloads, path: Path, now: float) -> list[Payload]:
    """The peer's addresses (3.5 and 3.6); NAT detection and COOKIE2 in any INFORMATIONAL request (3.7 and 3.8)."""
    session = sa.session
    found: list[Payload] = [n for n in payloads.notifies(NotifyType.COOKIE2)[:1] if len(n.data) <= MAX_COOKIE2]
    nat = detect(payloads, sa.spi_i, sa.spi_r, path)
    if nat is not None:
        fake_source = session.connection.force_udp_encapsulation
        found += build_detection(sa.spi_i, sa.spi_r, path, sa.host.random_bytes, fake_source=fake_source)
    if not session.peer.mobike:
        return found
    asked = payloads.notify(NotifyType.UPDATE_SA_ADDRESSES) is not None and session.role == Role.RESPONDER
    told = parse_list(payloads)
    if (asked or told is not None) and nat_is_unexpected(payloads, path):
        return [*found, NotifyPayload(NotifyType.UNEXPECTED_NAT_DETECTED)]
    if asked and sa.answering > sa.newest_update and _is_newest(sa):
        if not _is_acceptable(sa, path):
            return [*found, NotifyPayload(NotifyType.UNACCEPTABLE_ADDRESSES)]
        sa.newest_update = sa.answering
        session.nat = nat or session.nat
        _follow(sa, path, now)
    if told is not None and sa.answering > sa.newest_list:
        sa.newest_list = sa.answering
        session.mobility.peers = (path.remote.host, *told)
        _leave_lost_address(sa, path, now)
    return found


def _is_newest(sa: IkeSa) -> bool:
    """Whether nothing was heard over a successor yet, which is newer than anything over this IKE_SA."""
    current = _current(sa)
    return current is sa or current.newest_update < 0


def _is_acceptable(sa: IkeSa, path: Path) -> bool:
    networks = sa.session.connection.remote_addresses
    return not networks or any(path.remote.host in network for network in networks)


def _follow(sa: IkeSa, path: Path, now: float) -> None:
    """As responder: the IKE_SA goes along at once, the CHILD_SAs once the peer is known to be there."""
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
    """As initiator: the responder has lost the address that we use; go where it speaks from now."""
    if sa.session.role == Role.INITIATOR and sa.session.path.remote.host not in sa.session.mobility.peers:
        start_move(sa, path, now)


def follows_nat(sa: IkeSa, path: Path) -> bool:
    """Whether ESP that came over this path shows a NAT's new mapping (RFC 7296, 2.23; RFC 4555, 3.8).

    With MOBIKE only for another port of the same address: a straggler must not undo a move.
    """
    session = sa.session
    same = not session.peer.mobike or path.remote.host == session.esp_path.remote.host
    return session.nat.remote and session.old_path is None and path.local == session.path.local and same


def follow_probe(sa: IkeSa, task: Task, path: Path, now: float) -> None:
    """An answer to a request that went over every path: this path works, so use it.

    Whichever copy the responder heard first, only a new update says for sure what it has agreed to.
    """
    session = sa.session
    if sa.state != State.ESTABLISHED or session.ike_sa is not sa:
        return
    if session.role == Role.RESPONDER:
        session.mobility.searching = False
        if isinstance(task, AnnounceAddresses):  # 3.6: it named another source address than the one it came from
            sa.enqueue(AnnounceAddresses(), now)
    elif path in paths(sa) and (path != session.path or isinstance(task, UpdateAddresses)):
        start_move(sa, path, now)


def mapping_of(payloads: Payloads) -> bytes:
    """How the peer sees our address."""
    notify = payloads.notify(NotifyType.NAT_DETECTION_DESTINATION_IP)
    return b"" if notify is None else notify.data


def _cookie_returned(payloads: Payloads, cookie: bytes) -> bool:
    notify = payloads.notify(NotifyType.COOKIE2)
    return notify is not None and bytes_eq(notify.data, cookie)

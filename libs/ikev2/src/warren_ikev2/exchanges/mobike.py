"""MOBIKE (RFC 4555): an established IKE_SA moves to other addresses; the initiator decides."""

from collections.abc import Sequence
from typing import ClassVar

from warren_ikev2.addresses import Path
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import ExchangeType, NotifyType
from warren_ikev2.events import AddressChanged, Role
from warren_ikev2.exchanges.nat import build_detection, detect
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import NotifyPayload, Payload

_COOKIE2_SIZE = 16  # RFC 4555, 3.7: 8 to 64


def announce(connection: ConnectionConfiguration) -> list[Payload]:
    """MOBIKE_SUPPORTED in IKE_AUTH (3.2)."""
    return [NotifyPayload(NotifyType.MOBIKE_SUPPORTED)] if connection.mobike else []


def move(sa: IkeSa, path: Path) -> None:
    """Use another path for the IKE_SA and all CHILD_SAs, and report it."""
    session = sa.session
    old = session.path
    encapsulated = session.udp_encapsulation
    same = all(c.sa.path == path and c.sa.udp_encapsulation == encapsulated for c in session.children.values())
    if old == path and same:
        return
    session.path = path
    moved = tuple(child.move(path, encapsulated) for child in session.children.values())
    sa.host.emit(AddressChanged(session.id, old, path, moved))


class UpdateAddresses:
    """UPDATE_SA_ADDRESSES (3.5): tell the peer our new address, and see whether it hears us there (3.7)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    alone: ClassVar[bool] = False

    def __init__(self, path: Path, old: Path) -> None:
        self._path = path
        self._old = old
        self._cookie = b""

    def build(self, sa: IkeSa, now: float) -> Sequence[Payload]:
        """See Task."""
        self._cookie = sa.host.random(_COOKIE2_SIZE)
        pretend = sa.session.connection.force_udp_encapsulation
        return [
            NotifyPayload(NotifyType.UPDATE_SA_ADDRESSES),
            *build_detection(sa.spi_i, sa.spi_r, self._path, sa.host.random, pretend=pretend),
            NotifyPayload(NotifyType.COOKIE2, self._cookie),
        ]

    def handle(self, sa: IkeSa, payloads: Payloads, now: float) -> None:
        """See Task. A refusal or a wrong cookie leaves the CHILD_SAs where they were."""
        cookie = payloads.notify(NotifyType.COOKIE2)
        if payloads.notify(NotifyType.UNACCEPTABLE_ADDRESSES) is not None:
            return
        if cookie is not None and cookie.data != self._cookie:
            return
        sa.session.nat = detect(payloads, sa.spi_i, sa.spi_r, self._path) or sa.session.nat
        sa.session.path = self._old
        move(sa, self._path)


def answer_update(sa: IkeSa, payloads: Payloads, path: Path) -> list[Payload]:
    """The responder follows (3.5); it answers NAT detection and COOKIE2 in any INFORMATIONAL request (3.6, 3.7)."""
    found: list[Payload] = [*payloads.notifies(NotifyType.COOKIE2)[:1]]
    nat = detect(payloads, sa.spi_i, sa.spi_r, path)
    if nat is not None:
        pretend = sa.session.connection.force_udp_encapsulation
        found += build_detection(sa.spi_i, sa.spi_r, path, sa.host.random, pretend=pretend)
    asked = payloads.notify(NotifyType.UPDATE_SA_ADDRESSES) is not None
    if asked and sa.session.peer.mobike and sa.session.role == Role.RESPONDER:  # the initiator decides (3.5)
        if payloads.notify(NotifyType.NO_NATS_ALLOWED) is not None and nat is not None and nat.any:
            return [NotifyPayload(NotifyType.UNEXPECTED_NAT_DETECTED)]  # RFC 4555, 3.9
        sa.session.nat = nat or sa.session.nat
        move(sa, path)
    return found

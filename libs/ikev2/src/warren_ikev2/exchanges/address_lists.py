"""ADDITIONAL_*_ADDRESS, NO_ADDITIONAL_ADDRESSES and NO_NATS_ALLOWED (RFC 4555, 3.4, 3.6 and 3.9)."""

from ipaddress import ip_address

from warren_ikev2.addresses import IPAddress, Path
from warren_ikev2.configuration import ConnectionConfiguration
from warren_ikev2.constants import NotifyType
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.mobility import MAX_ADDRESSES
from warren_ikev2.wire.message import Payloads
from warren_ikev2.wire.payloads import NotifyPayload, Payload

_KINDS = {4: NotifyType.ADDITIONAL_IP4_ADDRESS, 6: NotifyType.ADDITIONAL_IP6_ADDRESS}
_SIZES = {NotifyType.ADDITIONAL_IP4_ADDRESS: 4, NotifyType.ADDITIONAL_IP6_ADDRESS: 16}


def announce(sa: IkeSa) -> list[Payload]:
    """MOBIKE_SUPPORTED and our addresses, in IKE_AUTH (3.2 and 3.4)."""
    connection = sa.session.connection
    if not connection.mobike:
        return []
    return [NotifyPayload(NotifyType.MOBIKE_SUPPORTED), *build_list(sa, sa.session.path)]


def build_list(sa: IkeSa, path: Path) -> list[Payload]:
    """Return notifies for our addresses in addition to the source of the message."""
    found = sa.session.mobility.additional(path.local.host)
    if not found:
        return [NotifyPayload(NotifyType.NO_ADDITIONAL_ADDRESSES)]
    return [NotifyPayload(_KINDS[address.version], address.packed) for address in found]


def parse_list(payloads: Payloads) -> tuple[IPAddress, ...] | None:
    """Return the peer's additional addresses; None: the message has no list. Addresses that are not unicast are ignored."""
    notifies = [notify for notify in payloads.all(NotifyPayload) if notify.notify in _SIZES]
    if not notifies:
        return None if payloads.notify(NotifyType.NO_ADDITIONAL_ADDRESSES) is None else ()
    found = [ip_address(n.data) for n in notifies if len(n.data) == _SIZES[NotifyType(n.notify)]]
    return tuple(dict.fromkeys(a for a in found if not (a.is_multicast or a.is_unspecified)))[:MAX_ADDRESSES]


def apply_first_list(sa: IkeSa, payloads: Payloads) -> None:
    """Store the peer's list of IKE_AUTH (3.4)."""
    announced = parse_list(payloads)
    if announced is not None and sa.session.peer.mobike:
        sa.session.mobility.peers = (sa.session.path.remote.host, *announced)


def prohibit_nats(connection: ConnectionConfiguration, path: Path) -> list[Payload]:
    """NO_NATS_ALLOWED (3.9 and 4.2.6), if that is the policy: the addresses and ports as we use them."""
    if connection.allow_nats:
        return []
    return [NotifyPayload(NotifyType.NO_NATS_ALLOWED, _addresses(path.local.host, path.remote.host, path))]


def nat_is_unexpected(payloads: Payloads, path: Path) -> bool:
    """Whether the peer prohibits NATs and the IP header was changed on the way."""
    notify = payloads.notify(NotifyType.NO_NATS_ALLOWED)
    return notify is not None and notify.data != _addresses(path.remote.host, path.local.host, _reversed(path))


def _reversed(path: Path) -> Path:
    return Path(path.remote, path.local)


def _addresses(source: IPAddress, destination: IPAddress, path: Path) -> bytes:
    ports = path.local.port.to_bytes(2, "big") + path.remote.port.to_bytes(2, "big")
    return source.packed + destination.packed + ports

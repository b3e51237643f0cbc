"""The messages between the process with the IKEv2 engine and the data process.

They travel over a socket pair of SOCK_SEQPACKET, one message a packet, as JSON: a name and the fields of a dataclass below.
Both sides validate what they receive: a message has exactly its fields, each of its type and within its bounds. Keys
travel to the data process only, and no error quotes a value.
"""

import typing
from dataclasses import dataclass

from warren_ikev2.addresses import Path
from warren_ikev2.children import ChildSa
from warren_ikev2.dataplane.codec import MessageCodec
from warren_ikev2.errors import IkeError

MAX_MESSAGE = 160 * 1024
"""Bytes: an IKE message of 64 KiB in hexadecimal, and more than the statistics of CHILDREN_AT_A_TIME CHILD_SAs."""
CHILDREN_AT_A_TIME = 500
"""CHILD_SAs in one Statistics message."""


class ControlError(IkeError):
    """A control message is invalid: the two processes run different versions, or one of them is compromised."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first message. With it come the descriptors of the TUN device and of the UDP sockets, in this order."""

    path_mtu: int
    vectorised: bool
    """False: as without numpy."""
    udp_gso: bool
    """False: datagrams are sent one at a time, as over a device that cannot segment."""
    user: int | None
    """The user id to change to once everything is open; None: stay."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit that all CHILD_SAs of one session share, each way."""

    session: int
    bytes_per_second: int


@dataclass(frozen=True, slots=True)
class InstallChild:
    """Carry the packets of a CHILD_SA. `waits_for`: see `SaPair`."""

    child: ChildSa
    waits_for: int | None
    limit: RateLimit | None = None


@dataclass(frozen=True, slots=True)
class RemoveChild:
    """Stop sending on a CHILD_SA at once, and accepting on it after `linger` seconds."""

    spi_in: int
    linger: float


@dataclass(frozen=True, slots=True)
class MoveChild:
    """Use another path for a CHILD_SA."""

    spi_in: int
    path: Path


@dataclass(frozen=True, slots=True)
class ReplacePort:
    """A socket for another local address comes with this message, and replaces the one of its IP version."""


@dataclass(frozen=True, slots=True)
class RequestStatistics:
    """Send the statistics now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End."""


@dataclass(frozen=True, slots=True)
class Started:
    """The data process moves packets. `offloads`: TUN_F_* flags; `vectorised`: numpy is there and used."""

    process_id: int
    offloads: int
    vectorised: bool


@dataclass(frozen=True, slots=True)
class IkeReceived:
    """A datagram with an IKE message arrived on the NAT traversal port."""

    datagram: bytes
    path: Path
    tos: int


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """An authentic packet of a CHILD_SA came over another path than its own."""

    spi_in: int
    path: Path


@dataclass(frozen=True, slots=True)
class PathMtuChanged:
    """The path MTU of a CHILD_SA fell. `mtu` is the longest inner packet in bytes now."""

    spi_in: int
    path_mtu: int
    mtu: int


@dataclass(frozen=True, slots=True)
class ChildStatistics:
    """What a CHILD_SA has carried, and the sequence numbers that are left."""

    spi_in: int
    bytes_in: int
    packets_in: int
    bytes_out: int
    packets_out: int
    remaining: int
    removed: bool = False
    """It ends with this report, or is replaced and ends soon."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counters of some CHILD_SAs, and the totals of the process by name."""

    children: tuple[ChildStatistics, ...]
    totals: dict[str, int]


@dataclass(frozen=True, slots=True)
class TunRemoved:
    """The TUN device is gone; the data process ends."""


Message = (
    Start
    | InstallChild
    | RemoveChild
    | MoveChild
    | ReplacePort
    | RequestStatistics
    | Stop
    | Started
    | IkeReceived
    | SourceChanged
    | PathMtuChanged
    | Statistics
    | TunRemoved
)
_CODEC = MessageCodec(*typing.get_args(Message))


def build(message: Message) -> bytes:
    """The bytes of a message. Raises `ControlError` if it is too long."""
    data = _CODEC.build(message)
    if len(data) > MAX_MESSAGE:
        raise ControlError(f"{type(message).__name__} is longer than {MAX_MESSAGE} bytes")
    return data


def parse(data: bytes) -> Message:
    """The message of these bytes. Raises `ControlError` for anything that `build` does not produce."""
    if len(data) > MAX_MESSAGE:
        raise ControlError(f"a message is longer than {MAX_MESSAGE} bytes")
    try:
        [message] = _CODEC.parse(data)
    except ValueError as error:
        raise ControlError(str(error)) from None
    return typing.cast(Message, message)

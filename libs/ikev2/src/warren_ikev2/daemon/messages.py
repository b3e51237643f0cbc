"""The messages between the agent's driver and the daemon: JSON lines over a UNIX socket.

A line is `[number, name, fields]`. The driver numbers its commands, and each is answered once under its number by `Done` or
`Refused`; `TunnelReport` comes under 0 whenever something of a tunnel changed, and for each tunnel before the answer to `List`.
"""

import typing
from dataclasses import dataclass, field

from warren_ikev2.addresses import IPAddress
from warren_ikev2.dataplane.codec import MessageCodec
from warren_ikev2.errors import IkeError
from warren_ikev2.selectors import TrafficSelector

MAX_LINE = 1 << 20
"""Bytes: a tunnel with 16 children of 64 selectors on each side takes 300 kB."""


class DaemonMessageError(IkeError):
    """A line of the daemon's control socket is invalid: the driver and the daemon have different versions."""


@dataclass(frozen=True, slots=True)
class ChildSpecification:
    """One CHILD_SA. Empty selectors stand for the address of the end itself. None: no such limit."""

    name: str
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    proposals: tuple[tuple[str, ...], ...]
    """The names of each proposal's algorithms (`warren_ikev2.suites.ALGORITHMS`), best first."""
    rekey_seconds: float
    life_seconds: float
    rekey_bytes: int | None
    life_bytes: int | None
    rekey_packets: int | None
    life_packets: int | None


@dataclass(frozen=True, slots=True)
class TunnelSpecification:
    """One tunnel, authenticated by raw Ed25519 keys."""

    name: str
    local_identity: str
    remote_identity: str
    remote_key: bytes
    """32 bytes."""
    local: tuple[IPAddress, ...]
    """Addresses to send from; empty: the kernel's choice."""
    remote: tuple[IPAddress, ...]
    """Addresses of the peer; empty: this end only responds."""
    remote_port: int
    ike_proposals: tuple[tuple[str, ...], ...]
    rekey_seconds: float
    reauth_seconds: float | None
    over_seconds: float
    dpd_delay: float | None
    mobike: bool
    fragment_size: int | None
    children: tuple[ChildSpecification, ...]
    vips: tuple[IPAddress, ...] = ()
    """Virtual addresses to request, at most one of each IP version; the unspecified one requests any."""
    pools: tuple[TrafficSelector, ...] = ()
    """Networks from which the peer gets virtual addresses."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first command: our private Ed25519 key (32 bytes). Another one than before closes every tunnel."""

    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Put:
    """Let a tunnel have this specification; what is up stays until the tunnel is started. The outcome is in `Done`."""

    tunnel: TunnelSpecification


@dataclass(frozen=True, slots=True)
class Remove:
    """Close a tunnel and forget it; harmless if there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class StartTunnel:
    """Try once to bring a tunnel up on its newest specification."""

    name: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Let the next start make new SAs next to those that are up."""

    name: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Give up the attempt under way. The outcome is `no`, and nothing is done, if the peer has answered, unless `force`."""

    name: str
    force: bool


@dataclass(frozen=True, slots=True)
class StopTunnel:
    """Close a tunnel's SAs; its specification stays."""

    name: str


@dataclass(frozen=True, slots=True)
class Rekey:
    """Give the IKE_SA of a tunnel new keys, or the CHILD_SAs of some children, as far as they are up."""

    name: str
    ike: bool
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CloseChildren:
    """Close the CHILD_SAs of some children of a tunnel; its IKE_SA stays."""

    name: str
    children: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestoreRoutes:
    """Put back what others have removed of the TUN device's state, addresses and routes. The outcome names what was missing, as one
    line for each tunnel: its name and its networks."""


@dataclass(frozen=True, slots=True)
class List:
    """Report every tunnel."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Close every tunnel and end."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command was carried out. `outcome`: the version for Hello; created, updated or unchanged for Put."""

    outcome: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A command was refused, and changed nothing. `code` is stable: `unknown-tunnel`, `invalid`."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChildReport:
    """One CHILD_SA that carries traffic."""

    name: str
    spi_in: int
    spi_out: int
    cipher: str
    key_exchange: str
    esn: bool
    age_seconds: float
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int


@dataclass(frozen=True, slots=True)
class TunnelReport:
    """What the daemon holds of a tunnel."""

    name: str
    state: str
    """`up`, `connecting`, `down` or `error`."""
    converged: bool
    """Up on its newest specification and on nothing else."""
    reason: str
    """Why the last attempt failed: an error code of `warren_ikev2.errors`; empty: it did not."""
    by_peer: bool
    """Whether the peer refused us."""
    detail: str
    ike_cipher: str
    age_seconds: float | None
    local_address: str
    remote_address: str
    children: tuple[ChildReport, ...]
    bytes_in: int
    """Totals since the tunnel exists; they survive rekeying."""
    bytes_out: int
    packets_in: int
    packets_out: int
    rekeys: int
    rekey_seconds: float | None = None
    """How long the last of them took; None: the peer began it, or there was none."""
    local_vips: tuple[IPAddress, ...] = ()
    """Virtual addresses that we got."""
    remote_vips: tuple[IPAddress, ...] = ()
    """Virtual addresses that the peer got from us."""


Command = (
    Hello
    | Put
    | Remove
    | StartTunnel
    | Renew
    | GiveUp
    | StopTunnel
    | Rekey
    | CloseChildren
    | RestoreRoutes
    | List
    | Shutdown
)
Answer = Done | Refused
Message = Command | Answer | TunnelReport
_CODEC = MessageCodec(*typing.get_args(Command), *typing.get_args(Answer), TunnelReport)


def build(number: int, message: Message) -> bytes:
    """One line."""
    return _CODEC.build(message, number) + b"\n"


def parse(line: bytes) -> tuple[int, Message]:
    """The number and the message of a line. Raises `DaemonMessageError`."""
    try:
        number, message = _CODEC.parse(line, head_size=1)
    except ValueError:
        raise DaemonMessageError from None
    if type(number) is not int or not 0 <= number < 1 << 32:
        raise DaemonMessageError
    return number, message

"""The path probe: ICMP echoes through a tunnel's selectors, to addresses behind the peers that the host's settings name.

It needs no privilege: Linux lets a user send echoes by a datagram socket of ICMP (icmp(7), `net.ipv4.ping_group_range`), and the
kernel chooses the source address by charon's route, so that the packets match the selectors. One echo goes to each address
in PROBE_INTERVAL, and every SIZE_ROUNDS-th time larger ones that must not be fragmented; answers are read at the next look.
Nothing waits for them.
"""

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

import structlog

from warren_agent.clocks import Clocks
from warren_agent.domain.health import Contradiction
from warren_agent.paths.echo import build_echo, open_echo_socket, parse_echo_reply, prepare_echo_socket
from warren_contracts.addresses import IPAddress
from warren_contracts.status import ReasonCode, TunnelStatus
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger("warren_agent")

PROBE_INTERVAL = 10.0  # s
UNANSWERED_LIMIT = 3  # echoes in a row
SIZE_ROUNDS = 6  # every minute
MISSED_LIMIT = 3  # rounds in which a size was not answered and a smaller one was
# Bytes of the IP packet, the largest first. 1,400 passes ESP in UDP over a path of 1,500 and of 1,492 (PPPoE).
SIZES = (1_400, 1_280, 1_100, 900, 576)
SMALL = 64
TCP_IP_HEADERS = 40

OpenSocket = Callable[[int], socket.socket]


@dataclass
class _Target:
    """One address: what was sent to it, and what came back."""

    address: IPAddress
    waiting: dict[int, int] = field(default_factory=dict)  # size by sequence number
    unanswered: int = 0  # small echoes in a row
    silent_since: datetime | None = None
    answered_at: datetime | None = None
    missed: dict[int, int] = field(default_factory=dict)  # rounds in a row by size
    answered_sizes: set[int] = field(default_factory=set)  # of the last round
    rounds: int = 0


class PathProbe:
    """Probes tunnels whose remote selectors contain one of the addresses (an Inspector of `warren_agent.health`)."""

    def __init__(
        self, addresses: Iterable[IPAddress], clocks: Clocks, open_socket: OpenSocket = open_echo_socket
    ) -> None:
        self._targets = [_Target(address) for address in addresses]
        self._clocks = clocks
        self._open_socket = open_socket
        self._sockets: dict[int, socket.socket] = {}
        self._refused = False
        self._sequence = 0
        self._sent_at = dict.fromkeys((target.address for target in self._targets), float("-inf"))

    def findings(self, config: Tunnel, status: TunnelStatus) -> Iterable[Contradiction]:
        """Read the answers, report what they contradict, and send the next echo if it is due."""
        targets = self._targets_of(config)
        if not targets:
            return
        self._read()
        for target in targets:
            if self._clocks.monotonic() - self._sent_at[target.address] >= PROBE_INTERVAL:
                self._sent_at[target.address] = self._clocks.monotonic()
                self._probe(target)
            yield from _judge(target)

    def answered_at(self, config: Tunnel) -> datetime | None:
        """When the last echo through a tunnel was answered."""
        return max((it.answered_at for it in self._targets_of(config) if it.answered_at), default=None)

    def close(self) -> None:
        """Close the sockets."""
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    def _targets_of(self, config: Tunnel) -> list[_Target]:
        networks = [network for child in config.link.children for it in child.remote_ts for network in it.networks]
        return [target for target in self._targets if any(target.address in network for network in networks)]

    def _probe(self, target: _Target) -> None:
        if any(size == SMALL for size in target.waiting.values()):
            target.unanswered += 1
            target.silent_since = target.silent_since or self._clocks.now()
        if target.rounds and target.rounds % SIZE_ROUNDS == 0:
            _count_sizes(target)
        target.waiting.clear()
        target.rounds += 1
        sizes: Sequence[int] = (SMALL, *SIZES) if target.rounds % SIZE_ROUNDS == 0 else (SMALL,)
        for size in sizes:
            self._send(target, size)

    def _send(self, target: _Target, size: int) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFF
        packet = build_echo(target.address, self._sequence, size)
        try:
            self._socket(target.address.version).sendto(packet, (str(target.address), 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                target.missed.pop(size, None)  # the kernel knows the path MTU, and so does every sender: no black hole
                return
            if isinstance(error, PermissionError) and not self._refused:
                self._refused = True
                log.warning(
                    "probe.refused", error="let the agent's group send echoes: sysctl net.ipv4.ping_group_range"
                )
            if self._refused:
                return
        target.waiting[self._sequence] = size

    def _socket(self, version: int) -> socket.socket:
        if version not in self._sockets:
            opened = self._open_socket(version)
            prepare_echo_socket(opened, version)
            self._sockets[version] = opened
        return self._sockets[version]

    def _read(self) -> None:
        for version, opened in self._sockets.items():
            while True:
                try:
                    data, sender = opened.recvfrom(2_048)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an ICMP error of an earlier echo
                if (sequence := parse_echo_reply(version, data)) is not None:
                    self._answered(ip_address(str(sender[0]).partition("%")[0]), sequence)

    def _answered(self, sender: IPAddress, sequence: int) -> None:
        for target in self._targets:
            if target.address == sender and (size := target.waiting.pop(sequence, None)) is not None:
                target.answered_at = self._clocks.now()
                if size == SMALL:
                    target.unanswered, target.silent_since = 0, None
                else:
                    target.answered_sizes.add(size)


def _count_sizes(target: _Target) -> None:
    """After a round of sizes: those that were sent and not answered, while a smaller one was."""
    unanswered = {size for size in target.waiting.values() if size != SMALL}
    for size in SIZES:
        if size in target.answered_sizes:
            target.missed.pop(size, None)
        elif size in unanswered and any(other < size for other in target.answered_sizes):
            target.missed[size] = target.missed.get(size, 0) + 1
    target.answered_sizes.clear()


def _judge(target: _Target) -> Iterable[Contradiction]:
    if target.unanswered >= UNANSWERED_LIMIT:
        since = f"{target.silent_since:%Y-%m-%d %H:%M:%S} UTC" if target.silent_since else "the start"
        yield Contradiction(
            ReasonCode.PATH_PROBE_FAILED,
            f"{target.unanswered} echoes to {target.address} were not answered since {since}",
        )
        return
    lost = [size for size, rounds in target.missed.items() if rounds >= MISSED_LIMIT]
    if lost:
        passes = next((size for size in SIZES if size < min(lost)), SIZES[-1])
        yield Contradiction(
            ReasonCode.PATH_MTU,
            f"packets of {min(lost)} bytes to {target.address} get lost, and {passes} pass: clamp TCP's MSS to"
            f" {passes - TCP_IP_HEADERS}",
        )

"""Whether packets pass the tunnel of the way in use: echoes between the gateways through its selectors.

IKE and ESP are different packets, and a filter may drop only one of them: then IKE probes are answered, the tunnel is up, and
nothing passes. An echo goes from an address of this host within the tunnel's local selectors to an address of the peer itself
within the remote ones (`PeerRecord.echo_addresses`), so that it never travels in clear if the tunnel is protected.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import structlog

from warren_agent.paths.choice import PathChoice, Way
from warren_agent.paths.echo import build_echo, open_echo_socket, parse_echo_reply, prepare_echo_socket
from warren_contracts.addresses import IPAddress
from warren_contracts.selectors import TrafficSelector
from warren_contracts.tunnel import Tunnel

log = structlog.get_logger("warren_agent")

ECHO_EVERY = 2.0  # s between two echoes through a tunnel that has an alternative
DOUBTFUL_EVERY = 0.5  # s between two of them while the answers are missing
ECHO_TIMEOUT = 1.0  # s
ECHO_BYTES = 64
_ICMP = {4: 1, 6: 58}  # IP protocol numbers

OwnAddresses = Callable[[], tuple[IPAddress, ...]]
EchoAddresses = Mapping[str, tuple[IPAddress, ...]]  # of the peer of each tunnel


class EchoEnds(NamedTuple):
    """A local address and one of the peer that belong to the selectors of one tunnel."""

    source: IPAddress
    target: IPAddress


def echo_ends(tunnel: Tunnel, own: Iterable[IPAddress], peers: Iterable[IPAddress]) -> EchoEnds | None:
    """The ends of echoes through a tunnel; None if an end has no address in it, or the tunnel carries no ICMP."""
    own, peers = tuple(own), tuple(peers)
    for child in tunnel.link.children:
        for target in peers:
            if not _carries(child.remote_ts, target):
                continue
            for source in own:
                if source.version == target.version and source != target and _carries(child.local_ts, source):
                    return EchoEnds(source, target)
    return None


def _carries(selectors: Iterable[TrafficSelector], address: IPAddress) -> bool:
    return any(
        it.protocol in (0, _ICMP[address.version]) and any(address in network for network in it.networks)
        for it in selectors
    )


class EchoProber:
    """Sends echoes and waits for their answers: one socket for each source address, opened with the first echo."""

    def __init__(self, open_socket: Callable[[int], socket.socket] = open_echo_socket) -> None:
        self._open_socket = open_socket
        self._opening = asyncio.Lock()
        self._sockets: dict[IPAddress, _EchoSocket] = {}
        self._is_refused = False

    async def probe(self, ends: EchoEnds) -> bool | None:
        """Whether an echo is answered in time. None if none could be sent, so that nothing is known."""
        try:
            async with self._opening:
                opened = await self._opened(ends.source)
        except OSError as error:
            if isinstance(error, PermissionError) and not self._is_refused:
                self._is_refused = True
                log.warning(
                    "path.echoes_refused", error="let the agent's group send echoes: sysctl net.ipv4.ping_group_range"
                )
            return None
        return await opened.ask(ends.target)

    async def _opened(self, source: IPAddress) -> "_EchoSocket":
        known = self._sockets.get(source)
        if known is None or known.transport.is_closing():
            opened = self._open_socket(source.version)
            try:
                prepare_echo_socket(opened, source.version)
                opened.bind((str(source), 0))
            except OSError:
                opened.close()
                raise
            answers = _Answers(source.version)
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: answers, sock=opened)
            known = self._sockets[source] = _EchoSocket(transport, answers)
        return known

    def close(self) -> None:
        """Close the sockets."""
        for opened in self._sockets.values():
            opened.transport.close()
        self._sockets.clear()


class _Answers(asyncio.DatagramProtocol):
    """The echoes of one socket that wait for their answers, by sequence number."""

    def __init__(self, version: int) -> None:
        self._version = version
        self.waiting: dict[int, tuple[str, asyncio.Future[bool]]] = {}

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        target, answer = self.waiting.get(parse_echo_reply(self._version, data) or 0, ("", None))
        if answer is not None and not answer.done() and str(addr[0]).partition("%")[0] == target:
            answer.set_result(True)

    def error_received(self, exc: Exception) -> None:
        """No route, a filter, or an ICMP error: the time-out follows."""


class _EchoSocket:
    """One socket of one source address."""

    def __init__(self, transport: asyncio.DatagramTransport, answers: _Answers) -> None:
        self.transport = transport
        self._answers = answers
        self._sequence = 0

    async def ask(self, target: IPAddress) -> bool:
        """Send one echo; whether it is answered in ECHO_TIMEOUT."""
        self._sequence = sequence = self._sequence % 0xFFFF + 1
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._answers.waiting[sequence] = str(target), answer
        try:
            self.transport.sendto(build_echo(target, sequence, ECHO_BYTES), (str(target), 0))
            async with asyncio.timeout(ECHO_TIMEOUT):
                return await answer
        except TimeoutError:
            return False
        finally:
            del self._answers.waiting[sequence]


class DataPathProbe:
    """Echoes through the tunnels that have an alternative; `own` are the addresses of this host.

    `more` are addresses of settings: they are used where the peer has announced none, as a foreign gateway does.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        own: OwnAddresses,
        prober: EchoProber | None = None,
        more: tuple[IPAddress, ...] = (),
    ) -> None:
        self._more = more
        self._monotonic = monotonic
        self._own = own
        self._prober = prober or EchoProber()
        self._ends: dict[str, EchoEnds] = {}  # by tunnel
        self._answering: set[IPAddress] = set()  # addresses that have answered an echo
        self._sent_at: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def desire(self, tunnels: Iterable[Tunnel], peers: EchoAddresses) -> None:
        """Take the tunnels that have alternatives, and the addresses of their peers."""
        own: tuple[IPAddress, ...] | None = None
        found: dict[str, EchoEnds] = {}
        for tunnel in tunnels:
            if addresses := (*peers.get(tunnel.name, ()), *self._more):
                own = self._own() if own is None else own
                if (ends := echo_ends(tunnel, own, addresses)) is not None:
                    found[tunnel.name] = ends
        self._ends = found
        self._sent_at = {name: at for name, at in self._sent_at.items() if name in found}

    def probe_due(self, choice: PathChoice, now: float) -> None:
        """Send the next echo through the tunnel in use if it is due; its answer goes into the choice."""
        way = choice.current
        ends = self._ends.get(way.tunnel)
        if ends is None or way.tunnel not in choice.up or way.tunnel in self._tasks:
            return
        every = DOUBTFUL_EVERY if choice.health[way].lost_since is not None else ECHO_EVERY
        if now - self._sent_at.get(way.tunnel, float("-inf")) >= every:
            self._sent_at[way.tunnel] = now
            self._tasks[way.tunnel] = asyncio.create_task(self._probe(choice, way, ends), name=f"echo:{ends.target}")

    async def _probe(self, choice: PathChoice, way: Way, ends: EchoEnds) -> None:
        sent = self._monotonic()
        try:
            answered = await self._prober.probe(ends)
        finally:
            self._tasks.pop(way.tunnel, None)
        if answered:
            self._answering.add(ends.target)
        if answered is not None:
            at = self._monotonic() if answered else sent
            choice.echoed(way, answered, at, known=ends.target in self._answering)

    def close(self) -> None:
        """Stop and close the sockets."""
        for task in self._tasks.values():
            task.cancel()
        self._prober.close()

"""Two engines and a simulated network between them, for tests of the engine and of programs that use it.

The network has a clock of its own. It can drop, repeat, delay and reorder datagrams, translate addresses like a NAT, and cut
datagrams off at a size. Nothing here touches a socket or sleeps.
"""

import heapq
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address
from itertools import count
from typing import Any, TypeVar

from warren_ikev2.addresses import Datagram, IPAddress, Path, SocketAddress
from warren_ikev2.children import ChildSa
from warren_ikev2.configuration import (
    ChildConfiguration,
    ConnectionConfiguration,
    EndpointConfiguration,
    IkeLifetime,
    Lifetime,
    Limits,
)
from warren_ikev2.credentials import PskAuth
from warren_ikev2.endpoint import Endpoint
from warren_ikev2.errors import CommandError
from warren_ikev2.events import (
    ChildSaDeleted,
    ChildSaEstablished,
    ChildSaRekeyed,
    Event,
    IkeSaEstablished,
    LoginRequested,
    SessionId,
)
from warren_ikev2.identity import Identity
from warren_ikev2.ike_sa import IkeSa, IkeSession
from warren_ikev2.selectors import TrafficSelector
from warren_testkit.ikev2.logins import Verify
from warren_testkit.ikev2.proposals import parse_esp_proposals, parse_ike_proposals

E = TypeVar("E", bound=Event)
MOON_NET, SUN_NET = TrafficSelector.parse("10.1.0.0/16"), TrafficSelector.parse("10.2.0.0/16")
LATENCY = 0.01  # seconds one way


def counting_bytes(seed: str) -> Callable[[int], bytes]:
    """A reproducible stream for tests; never for anything else."""
    numbers = count()

    def draw(size: int) -> bytes:
        blocks = (sha256(f"{seed} {next(numbers)}".encode()).digest() for _ in range(-(-size // 32)))
        return b"".join(blocks)[:size]

    return draw


def address(host: str, port: int = 500) -> SocketAddress:
    """Short for tests."""
    return SocketAddress(ip_address(host), port)


@dataclass(slots=True, eq=False)
class Host:
    """An engine at an address, with everything that it has reported."""

    name: str
    address: SocketAddress
    endpoint: Endpoint
    more: list[IPAddress] = field(default_factory=list)
    """Other addresses where it is reached."""
    events: list[Event] = field(default_factory=list)
    verify: Verify | None = None
    """Decides on logins as soon as they are requested."""

    def take_events(self, now: float) -> bool:
        """Take the engine's events, and give the verdicts on logins; whether there were events."""
        new = list(iter(self.endpoint.next_event, None))
        self.events += new
        for event in new:
            if isinstance(event, LoginRequested) and self.verify is not None:
                verdict = self.verify(event.attempt)
                if verdict is not None:
                    self.endpoint.commands.answer_login(event.session, verdict, now)
        return bool(new)

    def all(self, kind: type[E]) -> list[E]:
        """The events of a class, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[E]) -> E:
        """The newest event of a class; fails if there is none."""
        found = self.all(kind)
        assert found, f"{self.name}: no {kind.__name__} among {[type(event).__name__ for event in self.events]}"
        return found[-1]

    @property
    def children(self) -> list[ChildSa]:
        """The CHILD_SAs that exist, by the events."""
        found: dict[int, ChildSa] = {}
        for event in self.events:
            if isinstance(event, ChildSaEstablished):
                found[event.child.spi_in] = event.child
            elif isinstance(event, ChildSaRekeyed):
                found[event.new.spi_in] = event.new
            elif isinstance(event, ChildSaDeleted):
                found.pop(event.child.spi_in, None)
        return list(found.values())


def session_of(host: Host) -> IkeSession:
    """The engine's own session of the newest established IKE_SA."""
    return host.endpoint.state.sessions[host.last(IkeSaEstablished).session]


def sa_of(host: Host) -> IkeSa:
    """The engine's own IKE_SA of that session."""
    found = session_of(host).ike_sa
    assert found is not None
    return found


def oldest_sa(host: Host) -> IkeSa:
    """The oldest IKE_SA that the engine holds, half open or not."""
    return next(iter(host.endpoint.state.ike_sas.values()))


def make_host(name: str, host: str, *connections: ConnectionConfiguration, limits: Limits | None = None) -> Host:
    """A host with reproducible randomness, but for ephemeral keys and signatures, which the library makes."""
    configuration = EndpointConfiguration(connections=connections, limits=limits or Limits())
    return Host(name, address(host), Endpoint(configuration, counting_bytes(name), lambda: datetime.now(UTC)))


Fate = Callable[[Datagram], Sequence[float]]
"""The delays of a datagram in seconds, one for each copy; none: dropped."""


class Wire:
    """Connects hosts. `fate` decides about each datagram, `translate` may rewrite its path (as the receiver will see it)."""

    def __init__(self, *hosts: Host, now: float = 1000.0) -> None:
        self.hosts = list(hosts)
        self.now = now
        self.fate: Fate = lambda datagram: (LATENCY,)
        self.translate: Callable[[Path], Path] = lambda path: path
        self.sent: list[Datagram] = []
        self._queue: list[tuple[float, int, Datagram]] = []
        self._order = count()

    def initiate(self, own: Host, peer: Host, connection: str) -> SessionId:
        """Begin a connection and put its first message on the wire."""
        session = own.endpoint.commands.initiate(connection, Path(own.address, peer.address), self.now)
        self.collect()
        return session

    def collect(self) -> None:
        """Take what the engines want to send, and their events."""
        for host in self.hosts:
            self._send(host)
            while host.take_events(self.now):
                self._send(host)

    def _send(self, host: Host) -> None:
        for datagram in host.endpoint.datagrams_to_send(self.now):
            self.sent.append(datagram)
            for delay in self.fate(datagram):
                heapq.heappush(self._queue, (self.now + delay, next(self._order), datagram))

    def step(self) -> bool:
        """The next arrival or timer; False if nothing will happen any more."""
        times = [at for host in self.hosts if (at := host.endpoint.get_timer()) is not None]
        arrival = self._queue[0][0] if self._queue else None
        if arrival is not None and all(arrival <= at for at in times):
            self.now = max(self.now, arrival)
            self._deliver(heapq.heappop(self._queue)[2])
        elif times:
            self.now = max(self.now, min(times))
            for host in self.hosts:
                host.endpoint.handle_timer(self.now)
        else:
            return False
        self.collect()
        return True

    def run(self, seconds: float = 1.0, steps: int = 10_000) -> None:
        """Advance the clock; fails if the engines never become idle."""
        self.collect()
        end = self.now + seconds
        for _ in range(steps):
            if self._next() > end:
                self.now = end
                return
            self.step()
        raise AssertionError(f"the engines are not idle after {steps} steps")

    def _next(self) -> float:
        times = [at for host in self.hosts if (at := host.endpoint.get_timer()) is not None]
        return min([*times, *(at for at, _, _ in self._queue[:1])], default=float("inf"))

    def _deliver(self, datagram: Datagram) -> None:
        path = self.translate(Path(datagram.path.remote, datagram.path.local))
        for host in self.hosts:
            if path.local.host in (host.address.host, *host.more):
                host.endpoint.receive_datagram(datagram.data, path, self.now)


def make_connection(local: str, remote: str | None, **changes: Any) -> ConnectionConfiguration:
    """A connection with a shared secret, without lifetimes and liveness checks; `changes` are fields."""
    own, peer = (MOON_NET, SUN_NET) if local == "moon" else (SUN_NET, MOON_NET)
    plain = ConnectionConfiguration(
        name="gw",
        local_identity=Identity.parse(local),
        remote_identity=None if remote is None else Identity.parse(remote),
        local_auth=PskAuth(b"correct horse"),
        remote_auth=PskAuth(b"correct horse"),
        children=(make_child(own, peer),),
        ike_proposals=parse_ike_proposals("aes256gcm16-prfsha384-x25519"),
        lifetime=IkeLifetime(rekey_seconds=None),
        dpd_delay=None,
        keepalive_interval=None,
    )
    return replace(plain, **changes)


def make_child(
    own: TrafficSelector, peer: TrafficSelector, esp: str = "aes256gcm16", **changes: Any
) -> ChildConfiguration:
    """A CHILD_SA without lifetime; `changes` are fields."""
    plain = ChildConfiguration("net", (own,), (peer,), parse_esp_proposals(esp), Lifetime(None, None))
    return replace(plain, **changes)


@dataclass(slots=True, eq=False)
class Pair:
    """Two engines, moon and sun, and the wire between them."""

    moon: Host
    sun: Host
    wire: Wire
    session: SessionId | None = None
    """Moon's, once established."""

    def start(self) -> SessionId:
        """Moon initiates; nothing is delivered yet."""
        self.session = self.wire.initiate(self.moon, self.sun, "gw")
        return self.session

    def establish(self) -> "Pair":
        """Moon initiates; both sides must agree on everything."""
        self.start()
        self.wire.run(1)
        assert self.moon.last(IkeSaEstablished).suite == self.sun.last(IkeSaEstablished).suite
        self.check_children()
        return self

    def check_children(self) -> None:
        """Check that each CHILD_SA exists on both sides with the same keys."""
        assert len(self.moon.children) == len(self.sun.children)
        for own in self.moon.children:
            peer = next(child for child in self.sun.children if child.spi_in == own.spi_out)
            assert (own.spi_in, own.suite) == (peer.spi_out, peer.suite)
            assert (own.keys_in, own.keys_out) == (peer.keys_out, peer.keys_in)
            assert (own.local_ts, own.remote_ts) == (peer.remote_ts, peer.local_ts)

    @property
    def moon_session(self) -> SessionId:
        """Of the newest established IKE_SA."""
        return self.moon.last(IkeSaEstablished).session

    @property
    def sun_session(self) -> SessionId:
        """Of the newest established IKE_SA."""
        return self.sun.last(IkeSaEstablished).session


def make_pair(
    moon: dict[str, Any] | None = None,
    sun: dict[str, Any] | None = None,
    limits: Limits | None = None,
    verify: Verify | None = None,
) -> Pair:
    """`moon` and `sun` are fields of the two connections; the limits, and the verdicts on logins, are sun's."""
    own = make_host("moon", "192.0.2.1", make_connection("moon", "sun", **(moon or {})))
    peer = make_host("sun", "192.0.2.2", make_connection("sun", "moon", **(sun or {})), limits=limits)
    peer.verify = verify
    return Pair(own, peer, Wire(own, peer))


def act(pair: Pair, side: str, action: str) -> None:
    """Call one command by its name; one that the state does not allow is refused, without further effects."""
    host = pair.moon if side == "moon" else pair.sun
    if not host.all(IkeSaEstablished):
        return
    engine, session, now = host.endpoint, host.last(IkeSaEstablished).session, pair.wire.now
    spis = [child.spi_in for child in host.children] or [0]
    with suppress(CommandError):
        match action:
            case "check":
                engine.commands.check_liveness(session, now)
            case "create_child":
                engine.commands.create_child(session, "net", now)
            case "rekey_child":
                engine.commands.rekey_child(session, spis[-1], now)
            case "rekey_ike":
                engine.commands.rekey_ike(session, now)
            case "delete_child":
                engine.commands.delete_child(session, spis[0], now)
            case "change_path":
                engine.commands.change_path(session, session_of(host).path, now)
            case "delete":
                engine.commands.delete(session, now)
            case _:
                raise AssertionError(f"unknown action: {action}")

"""Our endpoint and a charon, each in a namespace of its own, joined by a veth pair.

203.0.113.1 is ours, with a TUN device for 10.91.1.1; 203.0.113.2 is charon's, which protects 10.91.2.1.
"""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any, TypeVar

import vici

from warren_ikev2.aio import Client, ClientBuilder, Server, ServerBuilder, Session, TunDevice
from warren_ikev2.aio.builder import ConnectionBuilder
from warren_ikev2.children import ChildSa
from warren_ikev2.credentials import PrivateKey
from warren_lab.charon import Charon
from warren_lab.charon_conf import Settings, charon_settings, render
from warren_lab.lab import Lab
from warren_lab.loop import NamespaceLoop
from warren_lab.namespace import Namespace
from warren_lab.ping import ping_command
from warren_lab.process import wait_until
from warren_testkit.ikev2.keys import Authority, certificate_pem, make_key, private_pem, public_pem
from warren_testkit.ikev2.proposals import names
from warren_testkit.lab.vici_control import Vici

Sides = tuple[dict[str, Any], dict[str, Any]]
"""How charon proves itself, and what it wants of us, in VICI's words."""
BuilderT = TypeVar("BuilderT", bound=ConnectionBuilder)

OURS, PEERS = "203.0.113.1", "203.0.113.2"
OUR_INNER, PEER_INNER = "10.91.1.1", "10.91.2.1"
OUR_ID, PEER_ID = "ours.warren.test", "charon.warren.test"
SECRET = b"the lab's shared secret"
IKE, ESP = "aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519"
"""The proposals of tests that are about something else."""
KEY_KINDS = ("ecdsa-p256", "rsa-3072", "ed25519")
LIMIT_SECONDS = 60.0
"""For a handshake, or a change that a test waits for."""
SETTINGS: Settings = {"rsa_pss": "yes", "delete_rekeyed_delay": "1"}
"""charon's, over those of the lab: PSS signatures, and old inbound SAs that do not outlive a test by much."""


@dataclass(frozen=True)
class Credentials:
    """One kind of key: both sides' keys, and certificates of one authority."""

    authority: Authority
    our_key: PrivateKey
    peer_key: PrivateKey

    @classmethod
    def make(cls, kind: str) -> "Credentials":
        return cls(Authority.make(f"Root {kind}", kind), make_key(kind), make_key(kind))

    def pubkey_sides(self) -> Sides:
        """Both sides of a connection of charon's, by certificates of the authority."""
        certificate = certificate_pem(self.authority.issue(PEER_ID, self.peer_key)).decode()
        authority = certificate_pem(self.authority.certificate).decode()
        return (
            {"auth": "pubkey", "id": PEER_ID, "certs": [certificate]},
            {"auth": "pubkey", "id": OUR_ID, "cacerts": [authority]},
        )

    def raw_sides(self) -> Sides:
        """Both sides of a connection of charon's, by raw keys."""
        return (
            {"auth": "pubkey", "id": PEER_ID, "pubkeys": [public_pem(self.peer_key).decode()]},
            {"auth": "pubkey", "id": OUR_ID, "pubkeys": [public_pem(self.our_key).decode()]},
        )


def psk_sides() -> Sides:
    """Both sides of a connection of charon's, by the bed's secret."""
    return {"auth": "psk", "id": PEER_ID}, {"auth": "psk", "id": OUR_ID}


@dataclass
class Bed:
    """Everything a test needs."""

    lab: Lab
    ours: Namespace
    peer: Namespace
    charon: Charon
    vici: Vici
    loop: NamespaceLoop
    tun: TunDevice
    credentials: dict[str, Credentials]

    our_id, peer_id, secret = OUR_ID, PEER_ID, SECRET
    our_inner, peer_inner = OUR_INNER, PEER_INNER
    ours_address, peers = OURS, PEERS

    # Our side

    def configure(self, builder: BuilderT, ike: str = IKE, esp: str = ESP) -> BuilderT:
        """Identities, proposals and networks, as both roles have them; how the ends prove themselves is still to say."""
        builder.with_local_id(OUR_ID).with_remote_id(PEER_ID).with_proposals([names(ike)], [names(esp)])
        return builder.with_networks([f"{OUR_INNER}/32"], [f"{PEER_INNER}/32"])

    def client(self, ike: str = IKE, esp: str = ESP) -> ClientBuilder:
        """Our side as initiator, with the bed's secret."""
        return self.configure(Client.builder(), ike, esp).with_psk(SECRET)

    def server(self, ike: str = IKE, esp: str = ESP) -> ServerBuilder:
        """Our side as responder, with the bed's secret."""
        return self.configure(Server.builder(), ike, esp).with_psk(SECRET)

    def builder(self, role: str, ike: str = IKE, esp: str = ESP) -> ClientBuilder | ServerBuilder:
        """Our side as `initiator` or `responder`, with the bed's secret."""
        return self.client(ike, esp) if role == "initiator" else self.server(ike, esp)

    @contextlib.contextmanager
    def connected(self, builder: ClientBuilder) -> Iterator[Client]:
        """Our client, its session joined to the TUN device."""
        own = builder.build()
        try:
            self.attach(self.loop.run(own.connect(PEERS, timeout=LIMIT_SECONDS)))
            yield own
        finally:
            self.detach()
            self.loop.run(own.shutdown())

    @contextlib.contextmanager
    def accepted(self, builder: ServerBuilder, name: str, address: str = OURS) -> Iterator[Session]:
        """Our server's session, after charon initiated its connection to it; joined to the TUN device."""
        own = self.loop.run(builder.bind(address))
        try:
            self.vici.initiate(name)
            session = self.loop.run(own.accept(), LIMIT_SECONDS)
            self.attach(session)
            yield session
        finally:
            self.detach()
            self.loop.run(own.close())

    @contextlib.contextmanager
    def up(self, own: ClientBuilder | ServerBuilder, name: str) -> Iterator[Session]:
        """Connected by us if we are the client, by charon if we are the server."""
        if isinstance(own, ClientBuilder):
            with self.connected(own) as client:
                yield client.session
        else:
            with self.accepted(own, name) as session:
                yield session

    def refusals_of_charon(self, builder: ServerBuilder, name: str) -> int:
        """Let charon initiate its connection to our server; how many handshakes were refused and counted, 0 or 1."""
        own = self.loop.run(builder.bind(OURS))

        async def count() -> tuple[int, int]:
            return own.metrics.ike_handshake_failures, len(own.sessions)

        try:
            with contextlib.suppress(vici.exception.CommandException):
                self.vici.initiate(name)
            # charon receives our response before our loop has handled its events, so the loop runs the count
            failures, sessions = self.loop.run(count())
        finally:
            self.loop.run(own.close())
        assert sessions == 1 - failures
        return failures

    def wait(self, session: Session, check: Callable[[], bool]) -> None:
        """Wait until something is so; it is looked at whenever the session changed."""
        self.loop.run(_until(session, check), LIMIT_SECONDS)

    def wait_for_replacement(self, session: Session, spi_in: int) -> ChildSa:
        """Wait until the session has one CHILD_SA, and no longer this one."""
        self.wait(session, lambda: spi_in not in session.children and len(session.children) == 1)
        (child,) = session.children.values()
        return child

    def attach(self, session: Session) -> None:
        """Let the session carry the TUN device's packets."""

        async def attach() -> None:
            self.tun.attach(session)

        self.loop.run(attach())

    def detach(self) -> None:
        async def detach() -> None:
            self.tun.detach()

        self.loop.run(detach())

    # charon's side

    def charon_connection(self, ike: str, esp: str, sides: Sides, **more: Any) -> dict[str, Any]:
        """A connection of charon's, in VICI's words; `child` merges into its only child `net`."""
        child = {
            "local_ts": [f"{PEER_INNER}/32"], "remote_ts": [f"{OUR_INNER}/32"], "esp_proposals": [esp], "mode": "tunnel",
            "rekey_time": "0", "life_time": "0", **more.pop("child", {}),
        }  # fmt: skip
        local, remote = sides
        return {
            "version": "2", "local_addrs": [PEERS], "remote_addrs": [OURS], "proposals": [ike], "local": local,
            "remote": remote, "rekey_time": "0", "children": {"net": child}, **more,
        }  # fmt: skip

    @contextlib.contextmanager
    def connection(
        self, name: str, sides: Sides | None = None, ike: str = IKE, esp: str = ESP, **more: Any
    ) -> Iterator[str]:
        """A connection of charon's by its name, removed at the end; without `sides` by the bed's secret."""
        self.vici.load(name, self.charon_connection(ike, esp, sides or psk_sides(), **more))
        try:
            yield name
        finally:
            self.vici.terminate(name)
            self.vici.unload(name)

    def charon_log(self) -> str:
        return self.charon.log()

    def wait_for_log(self, text: str, times: int, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Wait until charon's log holds a text so many times."""
        wait_until(
            lambda: self.charon_log().count(text) >= times, f"{times} x {text!r}", limit_seconds, self.charon.process_id
        )

    def reload_charon(self, settings: dict[str, str]) -> None:
        """Give charon other settings; those that it reads for each IKE_SA take effect at once."""
        conf = self.charon.folder / "etc" / "warren.conf"
        conf.write_text(render(charon_settings(extra={"charon": {**SETTINGS, **settings}})))
        with self.vici.session() as session:
            session.reload_settings()

    def restart_charon(self) -> None:
        """Stopped and started, with its secrets."""
        self.charon.start()
        _load_secrets(self.vici, self.credentials)

    @contextlib.contextmanager
    def second_charon(self, namespace: Namespace) -> Iterator[Vici]:
        """Another charon, with the same secrets."""
        charon = self.lab.charon(namespace, charon_settings(extra={"charon": SETTINGS}))
        charon.start()
        try:
            control = Vici(charon)
            _load_secrets(control, self.credentials)
            yield control
        finally:
            charon.stop()

    # Between both

    @contextlib.contextmanager
    def nft(self, table: str, *rules: str) -> Iterator[None]:
        """Rules of nftables at our end for a while, in a table `ip <table>` of their own."""
        for rule in (f"add table ip {table}", *rules):
            self.ours.run("nft", rule)
        try:
            yield
        finally:
            self.ours.run("nft", f"delete table ip {table}")

    def ping(self, count: int = 3, source: str = OUR_INNER, target: str = PEER_INNER, size: int = 56) -> None:
        """Ping through the tunnel; every request must be answered."""
        out = self.ours.run(*ping_command(target, source, count, "-s", str(size)), check=False)
        assert f" {count} received" in out, out

    def wait_for_pings(self, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Wait until both ends carry packets on their present paths: the peer's ESP follows its IKE a moment later."""

        def answered() -> bool:
            return " 1 received" in self.ours.run(*ping_command(PEER_INNER, OUR_INNER, 1), check=False)

        wait_until(answered, "an answered ping", limit_seconds, self.charon.process_id)

    def iperf(self, *, reverse: bool = False, seconds: int = 1) -> str:
        """iperf3 through the tunnel, the server on charon's side; what the client prints."""
        server = self.peer.spawn("iperf3", "-s", "-1", "-B", PEER_INNER, "--forceflush", stdout=subprocess.PIPE)
        assert server.stdout is not None
        while b"listening" not in (line := server.stdout.readline()):
            assert line, "iperf3 ended before it listened"
        try:
            return self.ours.run(
                "iperf3", "-c", PEER_INNER, "-B", OUR_INNER, "-t", str(seconds), *(["-R"] if reverse else []),
                limit_seconds=LIMIT_SECONDS,
            )  # fmt: skip
        finally:
            server.stdout.close()
            server.terminate()
            server.wait(LIMIT_SECONDS)


@contextlib.contextmanager
def make_bed(make_charon: Callable[[Lab, Namespace], Charon]) -> Iterator[Bed]:
    """A bed with the charon that `make_charon` returns for a namespace."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab("ike"))
        ours, peer = lab.namespace("ours"), lab.namespace("peer")
        lab.link(ours, "wan", f"{OURS}/24", peer, "wan", f"{PEERS}/24")
        peer.add_address("lo", ip_interface(f"{PEER_INNER}/32"))
        peer.add_default_route(OURS)
        charon = make_charon(lab, peer)
        charon.start()
        stack.callback(charon.stop)
        loop = stack.enter_context(NamespaceLoop(ours))
        tun = loop.run(_open_tun())
        stack.callback(tun.close)
        for command in (
            ["ip", "address", "add", f"{OUR_INNER}/32", "dev", tun.name],
            ["ip", "link", "set", tun.name, "up", "mtu", "1400"],
            ["ip", "route", "add", "10.91.2.0/24", "dev", tun.name, "src", OUR_INNER],
        ):
            ours.run(*command)
        credentials = {kind: Credentials.make(kind) for kind in KEY_KINDS}
        bed = Bed(lab, ours, peer, charon, Vici(charon), loop, tun, credentials)
        _load_secrets(bed.vici, bed.credentials)
        yield bed


async def _open_tun() -> TunDevice:
    return TunDevice("warren%d")


def _load_secrets(control: Vici, credentials: dict[str, Credentials]) -> None:
    control.load_shared("lab", "IKE", SECRET, OUR_ID, PEER_ID)
    with control.session() as session:
        for kind in credentials.values():
            session.load_key({"type": "any", "data": private_pem(kind.peer_key).decode()})


async def _until(session: Session, check: Callable[[], bool]) -> None:
    while not check():
        assert not session.closed, await session.wait_closed()
        await session.changed()

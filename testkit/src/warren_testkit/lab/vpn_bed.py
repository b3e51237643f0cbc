"""A VPN server as its own process, clients and a host outside, each in a namespace of its own.

The server is 203.0.113.1 (2001:db8:1::1) for its clients and 192.0.2.1 (2001:db8:2::1) for the host outside, which is 192.0.2.2 and
knows no route to the pools. A client `n` is behind a link of its own: 203.0.113.n+10. Inside, the pools are 10.66.0.0/24 and fd66::/64.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel

from warren_ikev2.aio import Client, OffloadTun, Session
from warren_ikev2.aio.client import ClientBuilder
from warren_ikev2.credentials import EapGtcAuth, RawKeyAuth, RawKeyTrust, RemoteAuth
from warren_lab.errors import CommandFailedError, TimedOutError
from warren_lab.lab import Lab
from warren_lab.loop import NamespaceLoop
from warren_lab.namespace import Namespace
from warren_lab.process import stop_process, wait_until
from warren_testkit.lab.transfers import Host
from warren_vpn.server.control import Request, ServerStatus, StatusRequest
from warren_vpn.server.control_client import ask
from warren_vpn.server.errors import ControlSocketError
from warren_vpn.server.folder import make_folder, public_text
from warren_vpn.server.settings import control_path

SERVER = "203.0.113.1"
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8:2::2"}
INSIDE = {4: "10.66.0.1", 6: "fd66::1"}
IDENTITY = "vpn.warren.test"
CERTIFICATE_LINES = 'certificate = "server.crt"\ncertificate_key = "server-certificate.key"\nclient_ca = "ca.crt"\n'
POOLS = ("10.66.0.0/24", "fd66::/64")
LIMIT_SECONDS = 60.0
GOODBYE_SECONDS = 1.0
"""A server that was killed does not confirm the end of a session."""
Answer = TypeVar("Answer", bound=BaseModel)


@dataclass
class VpnClient:
    """One client: its namespace, its session, and its addresses inside by IP version."""

    name: str
    namespace: Namespace
    loop: NamespaceLoop
    client: Client
    session: Session
    tun: OffloadTun

    @property
    def addresses(self) -> dict[int, IPv4Address | IPv6Address]:
        """Inside the tunnel."""
        return {address.version: address for address in self.session.info.network.addresses}

    def reaches(self, target: str, *, within_s: int = 20) -> bool:
        """Whether the target answers through the tunnel; where it must not, `within_s` is short."""
        own = self.addresses[6 if ":" in target else 4]
        try:
            self.namespace.run("ping", "-c", "1", "-W", str(within_s), "-I", str(own), target)
        except CommandFailedError:
            return False
        return True

    def host(self, version: int = 4) -> Host:
        """Its end of the tunnel."""
        return Host(self.namespace, str(self.addresses[version]))


@dataclass
class VpnBed:
    """Made by `make_vpn_bed`."""

    lab: Lab
    namespace: Namespace
    outside: Namespace
    folder: Path
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)
    """Of each user."""
    clients: dict[str, Namespace] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def settings(self) -> Path:
        """The server's configuration."""
        return self.folder / "server.toml"

    @property
    def server_key(self) -> Ed25519PublicKey:
        """The server's raw key, by which clients know it unless they trust a CA."""
        key = load_pem_private_key((self.folder / "server.key").read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        return key.public_key()

    @property
    def log(self) -> str:
        """What the servers have logged."""
        return (self.folder / "log").read_text()

    def write_settings(
        self, limits: str = "", users: Mapping[str, str] | None = None, pools: Sequence[str] = POOLS, tunnel: str = ""
    ) -> None:
        """Write server.toml: further lines of its tables, and the users with what is particular to each."""
        text = CERTIFICATE_LINES if (self.folder / "server.crt").exists() else ""
        text += f'identity = "{IDENTITY}"\n[tunnel]\npools = {list(pools)}\n{tunnel}\n[limits]\n{limits}\n'
        for name, more in (users or {}).items():
            key = self.keys.setdefault(name, Ed25519PrivateKey.generate())
            text += f'[[user]]\nname = "{name}"\npublic_key = "{public_text(key.public_key())}"\n{more}\n'
        self.settings.write_text(text)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with (self.folder / "log").open("ab") as log:
            self.process = self.namespace.spawn(
                sys.executable, "-m", "warren_vpn", "server", "run", "--config", str(self.settings), "--json",
                env=environment, stdout=log,
            )  # fmt: skip
        try:
            wait_until(self.answers, "the VPN server answers", LIMIT_SECONDS, self.process.pid)
        except Exception as error:
            raise AssertionError(f"{error}: {self.log[-2000:]}") from error

    def answers(self) -> bool:
        """Whether the newest process answers on its control socket."""
        try:
            return self.status().process_id == (self.process.pid if self.process else 0)
        except ControlSocketError:
            return False

    def stop(self) -> int:
        """End the server by SIGTERM; returns its exit code."""
        assert self.process is not None
        return stop_process(self.process, limit_seconds=LIMIT_SECONDS)

    def kill(self) -> None:
        """End the server by SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(LIMIT_SECONDS)

    def ask(self, request: Request, kind: type[Answer]) -> Answer:
        """Ask the server over its control socket."""
        return ask(control_path(self.settings), request, kind)

    def status(self) -> ServerStatus:
        """The server's status."""
        return self.ask(StatusRequest(), ServerStatus)

    def wait_for(self, what: str, check: Callable[[ServerStatus], object]) -> ServerStatus:
        """Wait until `check(status)` is true; returns that status. TimedOutError has the last one."""
        found: list[ServerStatus] = []

        def ready() -> bool:
            try:
                found[:] = [self.status()]
            except ControlSocketError:
                return False
            return bool(check(found[0]))

        try:
            wait_until(ready, what, LIMIT_SECONDS)
        except TimedOutError as error:
            raise TimedOutError(f"{error}: {found}") from None
        return found[0]

    def address_of(self, name: str) -> str:
        """The outer address of a client's namespace."""
        self.namespace_of(name)
        return f"203.0.113.{list(self.clients).index(name) + 10}"

    def namespace_of(self, name: str) -> Namespace:
        """The namespace of a client, with a link to the server."""
        known = self.clients.get(name)
        if known is not None:
            return known
        number = len(self.clients) + 10
        space = self.clients[name] = self.lab.namespace(name)
        self.lab.link(space, "wan", f"203.0.113.{number}/24", self.namespace, f"to-{name}"[:15], f"{SERVER}/32")
        self.namespace.run("ip", "route", "add", f"203.0.113.{number}/32", "dev", f"to-{name}"[:15])
        return space

    @contextlib.contextmanager
    def client(
        self,
        name: str,
        *,
        key: Ed25519PrivateKey | None = None,
        password: str = "",
        place: str | None = None,
        trust: RemoteAuth | None = None,
    ) -> Iterator[VpnClient]:
        """A connected client, with addresses and routes to the host outside and to the server inside."""
        space = self.namespace_of(place or name)
        with contextlib.ExitStack() as stack:
            loop = stack.enter_context(NamespaceLoop(space))
            tun = loop.run(_open_tun())
            stack.callback(tun.close)
            client = self._builder(name, key, password, trust).with_data_plane(tun).build()
            stack.callback(lambda: loop.run(client.shutdown(GOODBYE_SECONDS)))
            session = loop.run(client.connect(SERVER, LIMIT_SECONDS), LIMIT_SECONDS + 5)
            made = VpnClient(name, space, loop, client, session, tun)
            _configure(made)
            yield made

    @contextlib.contextmanager
    def packet_client(
        self, name: str, *, place: str | None = None
    ) -> Iterator[tuple[Session, Callable[[bytes], None]]]:
        """A connected client without a TUN device: its session, and a function that sends any bytes as an ESP packet."""
        with NamespaceLoop(self.namespace_of(place or name)) as loop:
            client = self._builder(name, None).build()
            try:
                session = loop.run(client.connect(SERVER, LIMIT_SECONDS), LIMIT_SECONDS + 5)
                yield session, lambda packet: loop.run(_send(session, packet))
            finally:
                loop.run(client.shutdown())

    def _builder(
        self, name: str, key: Ed25519PrivateKey | None, password: str = "", trust: RemoteAuth | None = None
    ) -> ClientBuilder:
        return (
            Client.builder()
            .with_local_id(name)
            .with_remote_id(IDENTITY)
            .with_auth(
                EapGtcAuth(name, password) if password else RawKeyAuth(key or self.keys[name]),
                trust or RawKeyTrust((self.server_key,)),
            )
            .with_virtual_address(4, 6)
        )


async def _send(session: Session, packet: bytes) -> None:
    session._transport.send_esp(session, packet, 0)


def _configure(client: VpnClient) -> None:
    space, device = client.namespace, client.tun.name
    space.run("ip", "link", "set", device, "up", "mtu", "1400")
    for version, address in client.addresses.items():
        space.add_address(device, ip_interface(address))
        for target in (INSIDE[version], OUTSIDE[version]):
            space.run("ip", f"-{version}", "route", "replace", target, "dev", device, "src", str(address))


async def _open_tun() -> OffloadTun:
    return OffloadTun("vpn%d")


@contextlib.contextmanager
def make_vpn_bed(*, certificate: bool = False) -> Iterator[VpnBed]:
    """The namespaces and the server's folder, with a CA if it gets a `certificate`; the server is not started."""
    with Lab("vpn") as lab:
        server, outside = lab.namespace("server"), lab.namespace("outside")
        lab.link(server, "uplink", "192.0.2.1/24", outside, "uplink", f"{OUTSIDE[4]}/24")
        for space, number in ((server, 1), (outside, 2)):
            space.add_address("uplink", ip_interface(f"2001:db8:2::{number}/64"))
        server.run("ip", "route", "add", "default", "via", OUTSIDE[4])
        server.run("ip", "-6", "route", "add", "default", "via", OUTSIDE[6])
        folder = lab.folder / "server"
        make_folder(folder, IDENTITY, certificate=certificate)
        bed = VpnBed(lab, server, outside, folder)
        try:
            yield bed
        finally:
            if bed.process is not None:
                stop_process(bed.process, limit_seconds=LIMIT_SECONDS)

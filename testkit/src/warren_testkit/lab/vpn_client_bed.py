"""A VPN client between two servers, in namespaces: client, a router, servers `one` and `two`, and hosts behind the servers.

    client 192.0.2.2, 2001:db8:2::2    router    one 198.51.100.2, 2001:db8:51::2    two 203.0.113.2, 2001:db8:113::2

Behind each server are 10.50.0.1 and fd50::1; the client also has an address on the network of its link, 192.168.7.2, with a
neighbour 192.168.7.1 on the router. The client is the real process, `warren vpn client`, with a resolv.conf of its own.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from warren_ikev2.aio import OffloadTun, Server, ServerBuilder
from warren_ikev2.credentials import PrivateKey
from warren_lab.capture import Capture
from warren_lab.errors import TimedOutError
from warren_lab.lab import Lab
from warren_lab.loop import NamespaceLoop
from warren_lab.namespace import Namespace
from warren_lab.process import wait_until
from warren_testkit.ikev2.keys import private_pem
from warren_testkit.lab.vpn_client_process import LIMIT_S, ClientProcess

CLIENT_HOST, CLIENT_HOST6 = "192.0.2.2", "2001:db8:2::2"
SERVERS = {"one": ("198.51.100.2", "2001:db8:51::2"), "two": ("203.0.113.2", "2001:db8:113::2")}
BOTH = [{"host": host} for host, _ in SERVERS.values()]
"""Of a profile: both servers, `one` first."""
BEHIND, BEHIND6 = "10.50.0.1", "fd50::1"
LOCAL, NEIGHBOUR = "192.168.7.2", "192.168.7.1"
POOL, POOL6 = "10.77.0.0/24", "fd77::/64"
RESOLV_CONF = "# the test's own\nnameserver 192.0.2.53\nsearch before.example\n"
_CLIENT = "from warren_vpn.commands import app; app()"


@dataclass
class VpnServer:
    """A server in its namespace. `stop` ends it without a message, as kill -9 does."""

    space: Namespace
    loop: NamespaceLoop
    tun: OffloadTun
    key: Ed25519PrivateKey
    server: Server

    def stop(self) -> None:
        """End at once."""
        self.loop.run(_call(self.server.stop))

    def rekey(self) -> None:
        """Replace the SAs of every session, from this side."""
        for session in self.server.sessions:
            self.loop.run(session.rekey())


async def _call(function: Callable[[], None]) -> None:
    function()


@dataclass
class VpnBed:
    """See the module."""

    lab: Lab
    client: Namespace
    router: Namespace
    servers: dict[str, VpnServer]
    identity: Ed25519PrivateKey
    folder: Path
    state: Path
    started: list[ClientProcess] = field(default_factory=list)

    def profile(self, **changes: Any) -> Path:
        """A profile of a full tunnel to server one by raw keys, with changes; a None removes a field."""
        self.write_key("client.pem", self.identity)
        values: dict[str, Any] = {
            "version": 1,
            "name": "bed",
            "servers": [{"host": SERVERS["one"][0]}],
            "server_identity": "vpn.example",
            "server_trust": {"kind": "raw-key", "public_key": _public(self.servers["one"].key)},
            "identity": "alice@example",
            "login": {"kind": "raw-key", "key_file": "client.pem"},
        }
        values = {name: value for name, value in (values | changes).items() if value is not None}
        path = self.folder / f"profile-{len(list(self.folder.glob('profile-*')))}.json"
        path.write_text(json.dumps(values))
        return path

    def write_key(self, name: str, key: PrivateKey) -> str:
        """Write a private key next to the profiles; returns the file's name."""
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(private_pem(key))
        return name

    @property
    def resolv_conf(self) -> Path:
        """The client's."""
        return self.folder / "etc" / "resolv.conf"

    def command(self, *arguments: str, program: Sequence[str] = (_CLIENT,), before: Sequence[str] = ()) -> list[str]:
        """A verb of `warren vpn` in the client's namespace. `program`: other code that runs it; `before`: what starts it."""
        return self.client.argv([*before, sys.executable, "-c", *program, *arguments, "--state", str(self.state)])

    def start(
        self,
        profile: Path,
        *options: str,
        stdin: bytes = b"",
        program: Sequence[str] = (_CLIENT,),
        before: Sequence[str] = (),
    ) -> ClientProcess:
        """Start the client."""
        number = len(self.started)
        output, errors = self.folder / f"out-{number}", self.folder / f"err-{number}"
        feed, write = os.pipe()
        os.write(write, stdin)
        os.close(write)
        with output.open("wb") as out, errors.open("wb") as err, open(feed, "rb") as given:
            argv = ["client", "--profile", str(profile), "--json", "--resolv-conf", str(self.resolv_conf), *options]
            process = subprocess.Popen(
                self.command(*argv, program=program, before=before), stdin=given, stdout=out, stderr=err, start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        client = ClientProcess(process, output, errors)
        self.started.append(client)
        return client

    def verb(self, *arguments: str) -> str:
        """Run another verb to its end; returns its output."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ping(self, target: str, *options: str) -> bool:
        """Whether a packet and its answer pass within a second: for what must not pass. See `wait_for_ping`."""
        argv = self.client.argv(["ping", "-n", "-c", "1", "-W", "1", *options, target])
        return subprocess.run(argv, capture_output=True, check=False, timeout=LIMIT_S).returncode == 0

    def wait_for_ping(self, target: str) -> None:
        """Until a packet and its answer pass."""
        wait_until(lambda: self.ping(target), f"an answer of {target}", LIMIT_S)

    def assert_put_back(self, before: dict[str, str]) -> None:
        """The host is as it was. The device of a client that was killed goes with its data process, a moment later."""
        with contextlib.suppress(TimedOutError):
            wait_until(lambda: self.snapshot() == before, "the host as before", LIMIT_S)
        assert self.snapshot() == before

    def snapshot(self) -> dict[str, str]:
        """The client's rules, routes and ruleset, and its resolv.conf."""
        run = self.client.run
        return {
            "rules4": run("ip", "-4", "rule"),
            "rules6": run("ip", "-6", "rule"),
            "routes4": run("ip", "-4", "route", "show", "table", "all"),
            "routes6": _settled(run("ip", "-6", "route", "show", "table", "all")),
            "links": run("ip", "-br", "link"),
            "nft": run("nft", "list", "ruleset"),
            "resolv.conf": self.resolv_conf.read_text(),
        }

    def capture(self, *more: str) -> Capture:
        """Watches the client's link for packets in clear between the client and what is behind the servers."""
        inner = {CLIENT_HOST, CLIENT_HOST6, BEHIND, BEHIND6, *more}
        return Capture(self.client, "wan", frozenset(map(_address, inner)))

    def restart(self, name: str, builder: ServerBuilder | None = None, host: str = "") -> None:
        """Stop a server as if it were killed, and start it, with another configuration or on its IPv6 address."""
        server = self.servers[name]
        server.stop()
        wanted = builder or server_builder(server.key, self.identity)
        server.server = start_server(server.loop, server.tun, wanted, host or SERVERS[name][0])

    def share_key(self) -> None:
        """Let both servers have one key, so that one profile fits both."""
        if self.servers["two"].key is not self.servers["one"].key:
            self.servers["two"].key = self.servers["one"].key
            self.restart("two")

    def end_clients(self) -> None:
        """End what still runs. A server that has a session of a killed client starts again, so that each test finds its first address."""
        for client in self.started:
            if client.process.poll() is None:
                client.end()
        self.started.clear()
        if (self.state / "client.json").exists():
            self.verb("restore")
        for name, server in self.servers.items():
            if server.server.sessions:
                self.restart(name)


def _settled(routes: str) -> str:
    """Without the kernel's routes of link-local addresses, which appear some time after a link is up."""
    return "\n".join(line for line in routes.splitlines() if "fe80::" not in line and "multicast" not in line)


def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def _public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


async def _open_tun() -> OffloadTun:
    return OffloadTun("vpn%d")


def server_builder(
    key: Ed25519PrivateKey, client: Ed25519PrivateKey, pools: Sequence[str] = (POOL, POOL6)
) -> ServerBuilder:
    """A server as the tests want it by default."""
    builder = Server.builder().with_raw_key(key).with_peer_keys(client.public_key())
    return with_defaults(builder, pools)


def with_defaults(
    builder: ServerBuilder, pools: Sequence[str] = (POOL, POOL6), identity: str | None = "alice@example"
) -> ServerBuilder:
    """Identities, pools and DNS servers of a server with other credentials. `identity`: the client's; None: any."""
    builder.with_local_id("vpn.example")
    if identity is not None:
        builder.with_remote_id(identity)
    return builder.with_address_pool(*pools, dns=[BEHIND, BEHIND6]).with_dpd(None)


@contextlib.contextmanager
def make_vpn_bed() -> Iterator[VpnBed]:
    """The namespaces and both servers."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab("vpn"))
        client, router = lab.namespace("client"), lab.namespace("router")
        lab.link(client, "wan", f"{CLIENT_HOST}/24", router, "client", "192.0.2.1/24")
        client.add_address("wan", ip_interface(f"{CLIENT_HOST6}/64"))
        client.add_address("wan", ip_interface(f"{LOCAL}/24"))
        router.add_address("client", ip_interface("2001:db8:2::1/64"))
        router.add_address("client", ip_interface(f"{NEIGHBOUR}/24"))
        client.add_default_route("192.0.2.1")
        client.run("ip", "-6", "route", "add", "default", "via", "2001:db8:2::1")
        router.enable_forwarding()
        identity = Ed25519PrivateKey.generate()
        servers = {}
        for name, (host, host6) in SERVERS.items():
            servers[name] = _make_server(stack, lab, router, name, host, host6, identity)
        folder = lab.folder / "client"
        (folder / "etc").mkdir(parents=True)
        bed = VpnBed(lab, client, router, servers, identity, folder, folder / "state")
        bed.resolv_conf.write_text(RESOLV_CONF)
        yield bed
        bed.end_clients()


def _make_server(
    stack: contextlib.ExitStack,
    lab: Lab,
    router: Namespace,
    name: str,
    host: str,
    host6: str,
    client: Ed25519PrivateKey,
) -> VpnServer:
    space = lab.namespace(name)
    near, near6 = host.rsplit(".", 1)[0] + ".1", host6.rsplit("::", 1)[0] + "::1"
    lab.link(router, name, f"{near}/24", space, "wan", f"{host}/24")
    router.add_address(name, ip_interface(f"{near6}/64"))
    space.add_address("wan", ip_interface(f"{host6}/64"))
    space.add_default_route(near)
    space.run("ip", "-6", "route", "add", "default", "via", near6)
    for address in (f"{BEHIND}/32", f"{BEHIND6}/128"):
        space.add_address("lo", ip_interface(address))
    loop = NamespaceLoop(space)
    loop.start()
    stack.callback(loop.close)
    tun = loop.run(_open_tun())
    stack.callback(tun.close)
    space.run("ip", "link", "set", tun.name, "up", "mtu", "1400")
    for network in (POOL, POOL6):
        space.run("ip", "route", "add", network, "dev", tun.name)
    key = Ed25519PrivateKey.generate()
    made = VpnServer(space, loop, tun, key, start_server(loop, tun, server_builder(key, client), host))
    stack.callback(lambda: loop.run(made.server.close()))
    return made


def start_server(loop: NamespaceLoop, tun: OffloadTun, builder: ServerBuilder, host: str) -> Server:
    """Bind it in its namespace."""
    return loop.run(builder.with_data_plane(tun).bind(host))

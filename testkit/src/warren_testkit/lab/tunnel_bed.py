"""Two of our endpoints, each with a data process and a TUN device with offloads, in namespaces of their own.

203.0.113.1 is the client's, 203.0.113.2 the server's (2001:db8::1 and ::2 over IPv6); the client protects 10.91.1.1 and fd91:1::1,
the server 10.91.2.1 and fd91:2::1.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface

from warren_ikev2.aio import Client, OffloadTun, Server, Session
from warren_ikev2.aio.builder import ConnectionBuilder
from warren_ikev2.aio.data_plane import DataPlane
from warren_ikev2.aio.offload import OffloadSession
from warren_ikev2.dataplane.tun import ip_arguments, link_settings
from warren_lab.lab import Lab
from warren_lab.loop import NamespaceLoop
from warren_lab.namespace import Namespace
from warren_testkit.ikev2.proposals import names
from warren_testkit.lab.transfers import Host

OUTER = {4: ("203.0.113.1", "203.0.113.2"), 6: ("2001:db8::1", "2001:db8::2")}
INNER = {4: ("10.91.1.1", "10.91.2.1"), 6: ("fd91:1::1", "fd91:2::1")}
SECRET = b"the tunnel bed's shared secret"
LIMIT_SECONDS = 60.0


@dataclass(frozen=True)
class TunnelOptions:
    """What the tunnel is made of."""

    esp: str = "aes256gcm16"
    outer_version: int = 4
    vectorised: bool = True
    udp_gso: bool = True
    link_mtu: int = 1500


@dataclass
class End:
    """One end of the tunnel: its namespace, the loop of its IKE endpoint, its TUN device and its session."""

    namespace: Namespace
    loop: NamespaceLoop
    tun: OffloadTun
    side: int
    session: Session

    def host(self, version: int = 4) -> Host:
        """This end's address inside the tunnel."""
        return Host(self.namespace, INNER[version][self.side])

    @property
    def plane(self) -> DataPlane:
        """Its data process."""
        assert isinstance(self.session, OffloadSession)
        return self.session.plane


@dataclass
class TunnelBed:
    """The tunnel."""

    lab: Lab
    client: Client
    server: Server
    left: End
    right: End
    options: TunnelOptions

    @contextlib.contextmanager
    def another_client(self, address: str) -> Iterator[End]:
        """A second client next to the first one, with an IPv4 address of 10.91.0.0/16 inside."""
        space, loop = self.left.namespace, self.left.loop
        with loop.run(_open_tun()) as tun:
            space.add_address(tun.name, ip_interface(f"{address}/32"))
            space.run("ip", "link", "set", tun.name, "up", "mtu", "1400")
            space.run("ip", "route", "add", INNER[4][1], "dev", tun.name, "src", address, "table", "91")
            space.run("ip", "rule", "add", "from", address, "lookup", "91")
            self.right.namespace.run("ip", "route", "add", address, "dev", self.right.tun.name, "src", INNER[4][1])
            builder = Client.builder().with_data_plane(tun)
            configure(builder, 0, self.options)
            builder.with_local_id(f"{address}.warren.test").with_networks([f"{address}/32"], [f"{INNER[4][1]}/32"])
            client = builder.build()
            try:
                session = loop.run(client.connect(OUTER[self.options.outer_version][1], timeout=LIMIT_SECONDS))
                loop.run(self.server.accept())
                yield End(space, loop, tun, 0, session)
            finally:
                loop.run(client.shutdown())
                space.run("ip", "rule", "del", "from", address, "lookup", "91")


def configure(builder: ConnectionBuilder, side: int, options: TunnelOptions) -> None:
    """Identities, secret, proposals and networks of one side."""
    ids = ("left.warren.test", "right.warren.test")
    builder.with_local_id(ids[side]).with_psk(SECRET)
    if side == 0:
        builder.with_remote_id(ids[1])
    builder.with_proposals([names("aes256gcm16-prfsha384-x25519")], [names(options.esp)]).with_path_mtu(
        options.link_mtu
    )
    own = [f"{INNER[4][side]}/32", f"{INNER[6][side]}/128"]
    peers = [f"{INNER[4][1]}/32", f"{INNER[6][1]}/128"] if side == 0 else ["10.91.0.0/16", "fd91:1::/32"]
    builder.with_networks(own, peers)


@contextlib.contextmanager
def make_tunnel(options: TunnelOptions = TunnelOptions()) -> Iterator[TunnelBed]:
    """A tunnel that is up, with addresses and routes."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab("tun"))
        spaces = [lab.namespace("left"), lab.namespace("right")]
        lab.link(spaces[0], "wan", f"{OUTER[4][0]}/24", spaces[1], "wan", f"{OUTER[4][1]}/24")
        for side, space in enumerate(spaces):
            space.add_address("wan", ip_interface(f"{OUTER[6][side]}/64"))
            space.run("ip", "link", "set", "wan", "mtu", str(options.link_mtu))
        loops = [stack.enter_context(NamespaceLoop(space)) for space in spaces]
        tuns = []
        for side, (space, loop) in enumerate(zip(spaces, loops, strict=True)):
            tun = loop.run(_open_tun())
            stack.callback(tun.close)
            _set_up(space, tun.name, side)
            tuns.append(tun)
        remote = OUTER[options.outer_version][1]
        accept = Server.builder().with_data_plane(tuns[1], vectorised=options.vectorised, udp_gso=options.udp_gso)
        configure(accept, 1, options)
        server = loops[1].run(accept.bind("::" if options.outer_version == 6 else "0.0.0.0"))  # noqa: S104
        stack.callback(lambda: loops[1].run(server.close()))
        connect = Client.builder().with_data_plane(tuns[0], vectorised=options.vectorised, udp_gso=options.udp_gso)
        configure(connect, 0, options)
        client = connect.build()
        stack.callback(lambda: loops[0].run(client.shutdown()))
        sessions = [loops[0].run(client.connect(remote, timeout=LIMIT_SECONDS), LIMIT_SECONDS + 5)]
        sessions.append(loops[1].run(server.accept(), LIMIT_SECONDS))
        ends = [End(spaces[side], loops[side], tuns[side], side, sessions[side]) for side in (0, 1)]
        for end in ends:
            end.namespace.run("ip", "link", "set", end.tun.name, "mtu", str(end.session.mtu))
        assert ip_address(remote).version == options.outer_version
        yield TunnelBed(lab, client, server, ends[0], ends[1], options)


def _set_up(space: Namespace, tun: str, side: int) -> None:
    for version in (4, 6):
        own, peer = INNER[version][side], INNER[version][1 - side]
        space.add_address(tun, ip_interface(f"{own}/{32 if version == 4 else 128}"))
    space.run("ip", "link", "set", tun, "up", *ip_arguments(link_settings(1400)))
    for version in (4, 6):
        own, peer = INNER[version][side], INNER[version][1 - side]
        space.run("ip", f"-{version}", "route", "add", peer, "dev", tun, "src", own)


async def _open_tun() -> OffloadTun:
    return OffloadTun("esp%d")

"""With charon: our client behind a NAT, and charon behind one."""

import contextlib
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_interface

import pytest

from warren_ikev2.aio import Session, TunDevice
from warren_lab.loop import NamespaceLoop
from warren_lab.namespace import Namespace
from warren_lab.ping import ping_command
from warren_testkit.lab.ike_bed import ESP, IKE, LIMIT_SECONDS, Bed, psk_sides

pytestmark = [pytest.mark.root, pytest.mark.interop]


@pytest.fixture(scope="module")
def inside(bed: Bed) -> Iterator[tuple[NamespaceLoop, Namespace]]:
    """A host behind a NAT: `ours` masquerades it."""
    host = bed.lab.namespace("inside")
    bed.lab.link(host, "lan", "192.168.77.2/24", bed.ours, "lan", "192.168.77.1/24")
    host.add_default_route("192.168.77.1")
    bed.ours.enable_forwarding()
    rules = (
        "add chain ip masq post { type nat hook postrouting priority 100; }",
        "add rule ip masq post ip saddr 192.168.77.0/24 masquerade",
    )
    with bed.nft("masq", *rules), NamespaceLoop(host) as loop:
        yield loop, host


def test_our_client_behind_a_nat(bed: Bed, inside: tuple[NamespaceLoop, Namespace]) -> None:
    loop, host = inside
    tun = loop.run(open_tun())
    own = bed.client().with_networks(["10.91.1.9/32"]).with_options(keepalive_interval=0.2).build()
    try:
        host.run("ip", "address", "add", "10.91.1.9/32", "dev", tun.name)
        host.run("ip", "link", "set", tun.name, "up")
        host.run("ip", "route", "add", f"{bed.peer_inner}/32", "dev", tun.name)
        with bed.connection("nat", remote_addrs=["%any"], child={"remote_ts": ["10.91.1.9/32"]}) as name:
            session = loop.run(own.connect(bed.peers, timeout=LIMIT_SECONDS))
            assert session.info.nat.local
            loop.run(join(tun, session))
            out = host.run(*ping_command(bed.peer_inner, "10.91.1.9"))
            assert " 3 received" in out
            (sa,) = bed.vici.sas(name)
            assert sa["nat-remote"] == "yes"
            assert sa["remote-host"] == bed.ours_address
            loop.run(own.shutdown())
    finally:
        loop.run(close_tun(tun))


async def open_tun() -> TunDevice:
    return TunDevice("nat%d")


async def join(tun: TunDevice, session: Session) -> None:
    tun.attach(session)


async def close_tun(tun: TunDevice) -> None:
    tun.close()


def test_charon_behind_a_nat(bed: Bed, inside: tuple[NamespaceLoop, Namespace]) -> None:
    """A second charon, inside, initiates to our server on the outside.

    It starts after its address was added: charon reports a change of addresses to its peers, at a time of its own.
    """
    _, host = inside
    host.add_address("lo", ip_interface("10.91.3.1/32"))
    with bed.second_charon(host) as vici, contextlib.ExitStack() as stack:
        connection = bed.charon_connection(IKE, ESP, psk_sides(), child={"local_ts": ["10.91.3.1/32"]})
        vici.load("out", connection | {"local_addrs": ["192.168.77.2"], "remote_addrs": [bed.peers]})
        peer_loop = stack.enter_context(NamespaceLoop(bed.peer))
        own = bed.server().with_networks(["10.91.1.1/32"], ["10.91.3.1/32"])
        bed.charon.stop()
        stack.callback(bed.restart_charon)
        gateway = peer_loop.run(own.bind(bed.peers))
        stack.callback(lambda: peer_loop.run(gateway.close()))
        vici.initiate("out")
        session = peer_loop.run(gateway.accept(), LIMIT_SECONDS)
        assert session.info.nat.remote
        assert session.path.remote.host == IPv4Address(bed.ours_address)
        host.spawn("ping", "-n", "-c", "1", "-W", "1", "-I", "10.91.3.1", "10.91.1.1")
        packet = peer_loop.run(session.recv_packet(), LIMIT_SECONDS)
        assert packet[12:20] == bytes((10, 91, 3, 1, 10, 91, 1, 1))

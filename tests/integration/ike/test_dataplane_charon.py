"""The data process against strongSwan's charon with kernel-libipsec: an ESP implementation that is not ours."""

import contextlib
import random
from collections.abc import Iterator
from ipaddress import ip_interface

import pytest

from warren_ikev2.aio import OffloadTun, Session
from warren_ikev2.aio.offload import OffloadSession
from warren_lab.process import wait_until
from warren_testkit.lab.ike_bed import IKE, LIMIT_SECONDS, PEERS, Bed
from warren_testkit.lab.transfers import Host, exchange_datagrams, transfer

pytestmark = [pytest.mark.root, pytest.mark.interop]
DATA = random.Random(2).randbytes(4 << 20)
OUR_INNER6, PEER_INNER6 = "fd91:1::1", "fd91:2::1"


@contextlib.contextmanager
def offload_tun(bed: Bed) -> Iterator[OffloadTun]:
    """A TUN device with offloads that the route to charon's network leads to, instead of the bed's own."""

    async def make() -> OffloadTun:
        return OffloadTun("esp%d")

    with bed.loop.run(make()) as tun:
        bed.ours.run("ip", "link", "set", tun.name, "up", "mtu", "1400")
        bed.ours.run("ip", "route", "replace", "10.91.2.0/24", "dev", tun.name, "src", bed.our_inner)
        try:
            yield tun
        finally:
            bed.ours.run("ip", "route", "replace", "10.91.2.0/24", "dev", bed.tun.name, "src", bed.our_inner)


@contextlib.contextmanager
def tunnel(bed: Bed, role: str, esp: str) -> Iterator[Session]:
    """Our end with a data process, as initiator or responder."""
    with offload_tun(bed) as tun, bed.connection("data-plane", esp=esp) as name:
        if role == "initiator":
            client = bed.client(IKE, esp).with_data_plane(tun).build()
            try:
                yield bed.loop.run(client.connect(PEERS, timeout=LIMIT_SECONDS))
            finally:
                bed.loop.run(client.shutdown())
        else:
            server = bed.loop.run(bed.server(IKE, esp).with_data_plane(tun).bind(bed.ours_address))
            try:
                bed.vici.initiate(name)
                yield bed.loop.run(server.accept(), LIMIT_SECONDS)
            finally:
                bed.loop.run(server.close())


def ends(bed: Bed) -> tuple[Host, Host]:
    return Host(bed.ours, bed.our_inner), Host(bed.peer, bed.peer_inner)


@pytest.mark.parametrize(
    ("role", "esp"),
    [
        ("initiator", "aes256gcm16-x25519"),
        ("responder", "aes256gcm16-x25519"),
        ("initiator", "chacha20poly1305-x25519"),
        ("responder", "aes256-sha256-x25519"),
    ],
)
def test_streams_and_datagrams_arrive_unchanged(bed: Bed, role: str, esp: str) -> None:
    with tunnel(bed, role, esp):
        ours, peer = ends(bed)
        for mss in (None, 1201, 536):
            data = DATA if mss is None else DATA[: 1 << 20]
            transfer(data, ours, peer, mss=mss)
            transfer(data, peer, ours, mss=mss)
        sizes = [0, 1, 7, 1300, 1372, 5000, 65000]
        assert exchange_datagrams(sizes, ours, peer) == sizes
        assert exchange_datagrams(sizes, peer, ours) == sizes


def test_single_datagrams_of_a_sender_without_offload_are_joined(bed: Bed) -> None:
    """kernel-libipsec sends one packet at a time; they are joined while they are read."""
    with tunnel(bed, "initiator", "aes256gcm16-x25519") as session:
        assert isinstance(session, OffloadSession)
        ours, peer = ends(bed)

        def are_merged() -> bool:  # as many as are there when they are read
            transfer(DATA, peer, ours)
            return session.plane.totals.get("merged", 0) > 100

        wait_until(are_merged, "merged packets", LIMIT_SECONDS, bed.charon.process_id)
        assert session.plane.totals["drops_integrity"] == session.plane.totals["drops_malformed"] == 0


def test_ipv6_inside(bed: Bed) -> None:
    bed.peer.add_address("lo", ip_interface(f"{PEER_INNER6}/128"))
    child = {"local_ts": [f"{PEER_INNER6}/128"], "remote_ts": [f"{OUR_INNER6}/128"]}
    with offload_tun(bed) as tun, bed.connection("data-plane-6", child=child):
        bed.ours.add_address(tun.name, ip_interface(f"{OUR_INNER6}/128"))
        bed.ours.run("ip", "-6", "route", "add", f"{PEER_INNER6}/128", "dev", tun.name, "src", OUR_INNER6)
        builder = bed.client().with_networks([f"{OUR_INNER6}/128"], [f"{PEER_INNER6}/128"]).with_data_plane(tun)
        client = builder.build()
        try:
            bed.loop.run(client.connect(PEERS, timeout=LIMIT_SECONDS))
            ours, peer = Host(bed.ours, OUR_INNER6), Host(bed.peer, PEER_INNER6)
            transfer(DATA, ours, peer)
            transfer(DATA, peer, ours)
            sizes = [0, 1, 1400, 20000]
            assert exchange_datagrams(sizes, ours, peer) == sizes
        finally:
            bed.loop.run(client.shutdown())


def test_charon_rekeys_under_load(bed: Bed) -> None:
    with tunnel(bed, "initiator", "aes256gcm16-x25519") as session:
        ours, peer = ends(bed)
        (old,) = session.children
        bed.vici.rekey(child="net")
        transfer(DATA, ours, peer)
        bed.wait_for_replacement(session, old)
        transfer(DATA, peer, ours)
        bed.ping(20)

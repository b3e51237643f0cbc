"""What clients of the VPN server reach: their networks, and nothing that is the server's alone."""

import re
import socket
from collections.abc import Iterator

import pytest

from warren_lab.process import wait_until
from warren_testkit.lab.vpn_bed import INSIDE, LIMIT_SECONDS, OUTSIDE, VpnBed, make_vpn_bed

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]


@pytest.fixture(scope="module")
def bed() -> Iterator[VpnBed]:
    with make_vpn_bed() as made:
        made.write_settings(users={"alice": "", "narrow": 'networks = ["10.66.0.1/32"]'})
        made.start()
        yield made


def test_a_user_reaches_only_the_networks_that_it_may(bed: VpnBed) -> None:
    with bed.client("narrow") as client:
        assert client.reaches(INSIDE[4])
        assert not client.reaches(OUTSIDE[4], within_s=1)


@pytest.mark.parametrize("version", [4, 6])
def test_clients_reach_neither_services_of_the_server_nor_the_metadata_of_its_cloud(bed: VpnBed, version: int) -> None:
    """The metadata service knows a machine by its address, which with masquerading is the server's."""
    metadata = {4: "169.254.169.254", 6: "fd00:ec2::254"}[version]
    bits = 32 if version == 4 else 128
    bed.outside.run("ip", "address", "add", f"{metadata}/{bits}", "dev", "lo", *(["nodad"] if version == 6 else []))
    bed.namespace.run("ip", f"-{version}", "route", "add", f"{metadata}/{bits}", "via", OUTSIDE[version])
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def dropped() -> int:
        chain = bed.namespace.run("nft", "list", "chain", "inet", "warren_vpn", "services")
        (packets,) = re.findall(r"counter packets (\d+)", chain)
        return int(packets)

    try:
        before = dropped()
        bed.namespace.run("ping", "-c", "1", "-W", "5", metadata)
        with bed.client("alice") as alice, bed.namespace.socket(family, socket.SOCK_STREAM) as service:
            alice.namespace.run("ip", f"-{version}", "route", "replace", metadata, "dev", alice.tun.name)
            assert not alice.reaches(metadata, within_s=1)
            service.bind((INSIDE[version], 8080))
            service.listen()
            with alice.namespace.socket(family, socket.SOCK_STREAM) as visitor:
                visitor.bind((str(alice.addresses[version]), 0))
                visitor.setblocking(False)
                visitor.connect_ex((INSIDE[version], 8080))
                wait_until(lambda: dropped() > before, "the connection is dropped and counted", LIMIT_SECONDS)
            assert alice.reaches(INSIDE[version])
            assert alice.reaches(OUTSIDE[version])
    finally:
        bed.namespace.run("ip", f"-{version}", "route", "del", f"{metadata}/{bits}")
        bed.outside.run("ip", "address", "del", f"{metadata}/{bits}", "dev", "lo")

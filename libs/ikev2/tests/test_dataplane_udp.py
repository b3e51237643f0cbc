"""The socket with offloads, on the loopback device: trains out, trains and single datagrams in."""

import select
import socket
from ipaddress import ip_address

import pytest

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.dataplane.inbound import Arrival
from warren_ikev2.dataplane.sendmmsg import DatagramBatch
from warren_ikev2.dataplane.udp import OffloadPort, Sent

VERSIONS = {4: ("127.0.0.1", socket.AF_INET), 6: ("::1", socket.AF_INET6)}


def make_port(version: int, *, any_address: bool = False, **options: bool) -> OffloadPort:
    host, family = VERSIONS[version]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if any_address:
        host = "0.0.0.0" if version == 4 else "::"  # noqa: S104
    sock.setsockopt(*((socket.IPPROTO_IP, socket.IP_RECVTOS) if version == 4 else (41, socket.IPV6_RECVTCLASS)), 1)
    if any_address:
        sock.setsockopt(*((socket.IPPROTO_IP, 8) if version == 4 else (41, socket.IPV6_RECVPKTINFO)), 1)
    sock.bind((host, 0))
    return OffloadPort(sock, **options)


@pytest.fixture(params=[4, 6])
def version(request: pytest.FixtureRequest) -> int:
    host, family = VERSIONS[request.param]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        pytest.skip("no such address family here")
    assert isinstance(request.param, int)
    return request.param


def path_between(left: OffloadPort, right: OffloadPort, version: int) -> Path:
    host = ip_address(VERSIONS[version][0])
    return Path(SocketAddress(host, left.address.port), SocketAddress(host, right.address.port))


def receive_all(port: OffloadPort, size: int) -> tuple[list[bytes], list[Arrival]]:
    """Datagrams until so many bytes have arrived."""
    buffer = memoryview(bytearray(65536))
    datagrams: list[bytes] = []
    arrivals: list[Arrival] = []
    while sum(map(len, datagrams)) < size:
        assert select.select([port], [], [], 60)[0]
        while (arrival := port.receive_into(buffer)) is not None:
            arrivals.append(arrival)
            stride = arrival.stride or arrival.length
            datagrams += [
                bytes(buffer[at : min(at + stride, arrival.length)]) for at in range(0, arrival.length, stride)
            ]
    return datagrams, arrivals


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("any_address", [True, False])
def test_a_train_arrives_as_its_datagrams(version: int, gso: bool, any_address: bool) -> None:
    left = make_port(version, any_address=any_address, gso=gso)
    right = make_port(version, any_address=any_address)
    try:
        rows = [bytes([number]) * 1000 for number in range(30)] + [b"short"]
        path = path_between(left, right, version)
        target = left.destination(path)
        assert left.send(target, (b"".join(rows[:30]), rows[30]), 1000, 31, 0xB8) is Sent.TAKEN
        datagrams, arrivals = receive_all(right, 30005)
        assert datagrams == rows
        assert {arrival.tos for arrival in arrivals} == {0xB8}
        if gso:
            assert len(arrivals) < 31
        answer_path = path_between(right, left, version)
        assert {right.path(arrival.source) for arrival in arrivals} == {answer_path}
        assert {arrival.source for arrival in arrivals} == {right.destination(answer_path)}
    finally:
        left.close()
        right.close()


def test_trains_of_several_sizes_to_several_peers_arrive_without_segmentation_offload(version: int) -> None:
    left = make_port(version, any_address=True, gso=False)
    rights = [make_port(version, any_address=True) for _ in range(2)]
    try:
        for number, (stride, count, last, tos) in enumerate(
            [(1000, 5, 7, 0), (1000, 64, 1000, 2), (33, 9, 1, 2), (1000, 3, 999, 0), (1400, 2, 1400, 0xB8)]
        ):
            right = rights[number % 2]
            rows = [bytes([number + at]) * stride for at in range(count - 1)] + [bytes(last)]
            target = left.destination(path_between(left, right, version))
            assert left.send(target, rows, stride, count, tos) is Sent.TAKEN
            datagrams, arrivals = receive_all(right, sum(map(len, rows)))
            assert datagrams == rows
            assert {arrival.tos for arrival in arrivals} == {tos}
            assert {right.path(arrival.source) for arrival in arrivals} == {path_between(right, left, version)}
    finally:
        for port in (left, *rights):
            port.close()


def test_a_batch_takes_no_more_than_one_train() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        batch = DatagramBatch(sock)
        for parts, stride in (([bytes(100)] * 65, 100), ([bytes(1400)] * 48, 1400)):
            with pytest.raises(ValueError, match="too long"):
                batch.fill(parts, stride, "127.0.0.1", 9, [])
        with pytest.raises(OSError, match="address"):
            batch.fill([bytes(10)], 10, "::1", 9, [])


def test_a_packet_longer_than_the_path_is_too_big(version: int) -> None:
    port = make_port(version)
    try:
        target = port.destination(path_between(port, port, version))
        assert port.path_mtu(target) >= 16384
        assert port.send(target, (bytes(70000),), 70000, 1) is Sent.TOO_BIG
    finally:
        port.close()

"""The parts of the asyncio front without an engine: sockets, sessions, counters, log lines."""

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.aio.logs import fields_of, log_event
from warren_ikev2.aio.metrics import Metrics
from warren_ikev2.aio.session import QUEUE, Session
from warren_ikev2.aio.udp import UdpPort, local_address_for
from warren_ikev2.children import ChildSa, EspKeys
from warren_ikev2.errors import (
    AuthenticationError,
    HandshakeError,
    NotConnectedError,
    SessionClosedError,
    TsUnacceptableError,
    error_of_notify,
)
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.events import (
    ChildSaEstablished,
    DatagramDropped,
    IkeSaEstablished,
    NatSituation,
    SessionId,
    SessionRole,
    State,
    StateChanged,
)
from warren_ikev2.identity import Identity
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import esp_suite, ike_suite
from warren_testkit.ikev2.proposals import parse_esp_proposal, parse_ike_proposal

LEFT, RIGHT = (TrafficSelector.parse("10.1.0.0/24"),), (TrafficSelector.parse("10.2.0.0/24"),)
HERE, THERE = (SocketAddress(ip_address(f"192.0.2.{number}"), 4500) for number in (1, 2))
SECRET = bytes(range(100, 116))
SUITE = esp_suite(parse_esp_proposal("aes128gcm16"))
INFO = IkeSaEstablished(
    SessionId(1), "c", SessionRole.INITIATOR, b"i" * 8, b"r" * 8, ike_suite(parse_ike_proposal("aes256gcm16-prfsha384-x25519")),
    Identity.parse("left"), Identity.parse("right"), Path(HERE, THERE), NatSituation(), "psk", "psk",
)  # fmt: skip


def child(number: int, *, left: bool) -> ChildSa:
    one, two = EspKeys(SECRET, b"abcd", b""), EspKeys(bytes([number]) * 16, b"abcd", b"")
    if left:
        return ChildSa("c", number, 100 + number, SUITE, one, two, LEFT, RIGHT, Path(HERE, THERE), True)
    return ChildSa("c", 100 + number, number, SUITE, two, one, RIGHT, LEFT, Path(THERE, HERE), True)


class Wire:
    """Carries one session's packets into the other: the driver's part, without sockets."""

    def __init__(self) -> None:
        self.peer: Session | None = None
        self.drops: Counter[DropReason] = Counter()
        self.sent: list[bytes] = []
        self.rekeys = 0
        self.closed: list[Session] = []

    def send_esp(self, session: Session, packet: bytes, tos: int) -> None:
        self.sent.append(packet)
        if self.peer is not None:
            self.peer.deliver(self.peer.table.open(packet, tos & 3))

    def count_drop(self, reason: DropReason) -> None:
        self.drops[reason] += 1

    def rekey_session(self, session: Session, spi_in: int | None) -> None:
        self.rekeys += 1

    def export_keys(self, session: Session) -> str:
        return ""

    def close_session(self, session: Session) -> None:
        self.closed.append(session)
        session.mark_closed(SessionClosedError("closed"))


def make_pair() -> tuple[Session, Session, Wire]:
    wire = Wire()
    left, right = (Session(wire, SessionId(number), INFO, 1500) for number in (1, 2))
    left.install(child(1, left=True))
    right.install(child(1, left=False))
    wire.peer = right
    return left, right, wire


def packet(size: int = 64, **fields: Any) -> bytes:
    return bytes(IP(src="10.1.0.1", dst="10.2.0.1", **fields) / UDP() / Raw(bytes(size - 28)))


async def test_packets_pass_in_both_directions() -> None:
    left, right, _ = make_pair()
    await left.send_packet(packet())
    assert await right.recv_packet() == packet()


async def test_recv_waits() -> None:
    left, right, _ = make_pair()
    waiting = asyncio.create_task(right.recv_packet())
    await asyncio.sleep(0)
    await left.send_packet(packet())
    assert await waiting == packet()


async def test_a_packet_without_an_sa_is_dropped_and_counted() -> None:
    left, _, wire = make_pair()
    with pytest.raises(PacketDroppedError):
        await left.send_packet(bytes(IP(src="10.1.0.1", dst="8.8.8.8") / UDP()))
    assert wire.drops == {DropReason.NO_SA: 1}


async def test_long_packets_are_fragmented_before_encryption() -> None:
    left, right, wire = make_pair()
    await left.send_packet(packet(3000))
    pieces = [IP(await right.recv_packet()) for _ in wire.sent]
    assert [str(piece.flags) for piece in pieces] == ["MF", "MF", ""]
    assert all(20 + 8 + len(sent) <= 1500 for sent in wire.sent)


async def test_long_packets_with_df_are_answered_by_icmp() -> None:
    left, _, wire = make_pair()
    await left.send_packet(packet(1490, flags="DF"))
    answer = IP(await left.recv_packet())
    assert answer[ICMP].nexthopmtu == left.mtu
    assert wire.drops == {DropReason.TOO_BIG: 1}
    await left.send_packet(packet(left.mtu, flags="DF"))
    assert len(wire.sent) == 1
    assert len(wire.sent[0]) + 28 <= 1500


async def test_a_full_queue_drops_the_newest() -> None:
    left, right, _ = make_pair()
    one = packet()
    for _ in range(QUEUE + 10):
        left.send_nowait(one)
    assert sum(1 for _ in iter(lambda: right._packets.empty() or right._packets.get_nowait(), True)) == QUEUE


async def test_close_ends_every_reader_and_writer() -> None:
    left, _, wire = make_pair()
    readers = [asyncio.create_task(left.recv_packet()) for _ in range(3)]
    await asyncio.sleep(0)
    await left.close()
    await left.close()
    for result in await asyncio.gather(*readers, return_exceptions=True):
        assert isinstance(result, SessionClosedError)
    with pytest.raises(SessionClosedError):
        await left.send_packet(packet())
    with pytest.raises(SessionClosedError):
        await left.rekey()
    assert wire.closed == [left]
    assert left.closed
    assert isinstance(await left.wait_closed(), SessionClosedError)


async def test_packets_received_before_the_end_are_still_read() -> None:
    left, right, _ = make_pair()
    await left.send_packet(packet())
    await right.close()
    assert await right.recv_packet() == packet()
    with pytest.raises(SessionClosedError):
        await right.recv_packet()


async def test_rekey_waits_for_the_end_or_the_failure() -> None:
    left, _, wire = make_pair()
    done = asyncio.create_task(left.rekey())
    await asyncio.sleep(0)
    assert (wire.rekeys, done.done()) == (1, False)
    left.mark_rekeyed()
    await done
    failed = asyncio.create_task(left.rekey())
    await asyncio.sleep(0)
    left.mark_rekeyed(TsUnacceptableError())
    with pytest.raises(TsUnacceptableError):
        await failed
    with pytest.raises(TimeoutError):
        await left.rekey(timeout=0.01)


async def test_usage_counts_both_directions() -> None:
    left, right, _ = make_pair()
    await left.send_packet(packet(100))
    assert (left.usage()[1].packets_out, left.usage()[1].bytes_out) == (1, 100)
    assert (right.usage()[101].packets_in, right.usage()[101].bytes_in) == (1, 100)
    assert left.nearly_exhausted() == []
    next(iter(left.table)).outbound.sequence = 2**32 - 2**29
    assert left.nearly_exhausted() == [1]


async def test_the_path_moves_with_the_peer() -> None:
    left, _, _ = make_pair()
    moved = Path(HERE, SocketAddress(ip_address("192.0.2.9"), 1024))
    left.move(moved, (replace(child(1, left=True), path=moved),))
    assert left.path == left.children[1].path == moved


async def test_mtu_needs_a_child() -> None:
    left, _, _ = make_pair()
    left.remove(left.children[1], now=0.0)
    left.table.handle_timer(100.0)
    with pytest.raises(NotConnectedError):
        _ = left.mtu


def receive(port: UdpPort) -> tuple[bytes, Path, int]:
    import select

    assert select.select([port.fileno()], [], [], 60)[0]
    received = port.receive()
    assert received is not None
    return received


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])  # noqa: S104  the wildcard is what is tested
def test_udp_reports_path_and_tos(host: str) -> None:
    loopback = ip_address("127.0.0.1" if "." in host else "::1")
    server, client = UdpPort(ip_address(host), 0), UdpPort(loopback, 0)
    try:
        there = SocketAddress(loopback, server.address.port)
        assert client.send(b"hello", Path(client.address, there), tos=0xB9)
        data, path, tos = receive(server)
        assert (data, tos) == (b"hello", 0xB9)
        assert path == Path(there, client.address)
        assert server.send(b"back", path)
        assert receive(client) == (b"back", Path(client.address, there), 0)
        assert server.receive() is None
    finally:
        server.close()
        client.close()


def test_a_closed_port_loses_the_packet_without_an_error() -> None:
    gone, port = UdpPort(ip_address("127.0.0.1"), 0), UdpPort(ip_address("127.0.0.1"), 0)
    gone.close()
    try:
        path = Path(port.address, gone.address)
        for _ in range(3):
            port.send(b"x", path)
            assert port.receive() is None
    finally:
        port.close()


def test_the_local_address_is_the_kernel_s_choice() -> None:
    assert local_address_for(SocketAddress(ip_address("127.0.0.1"), 500)) == ip_address("127.0.0.1")


def test_metrics_have_their_documented_names() -> None:
    metrics = Metrics(ike_handshakes_total=3)
    metrics.drops[DropReason.REPLAY] += 2
    snapshot = metrics.snapshot()
    assert {
        "ike_handshakes_total", "ike_handshake_failures", "esp_packets_encrypted", "esp_packets_decrypted",
        "esp_replay_detected", "ike_sa_rekeyed", "dpd_timeout",
    } <= set(snapshot)  # fmt: skip
    assert (snapshot["ike_handshakes_total"], snapshot["esp_replay_detected"]) == (3, 2)


def test_metrics_are_valid_for_prometheus() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    metrics = Metrics(dpd_timeout=1)
    metrics.drops[DropReason.NO_SA] += 4
    families = {family.name: family for family in text_string_to_metric_families(metrics.prometheus())}
    assert families["dpd_timeout"].samples[0].value == 1
    assert {s.labels["reason"]: s.value for s in families["esp_packets_dropped"].samples}["no_sa"] == 4


def test_log_lines_are_structured_and_contain_no_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "warren_ikev2")
    for event in (
        INFO,
        ChildSaEstablished(SessionId(1), child(1, left=True)),
        StateChanged(SessionId(1), b"i" * 8, b"r" * 8, State.INIT_SENT, State.INIT_DONE, "IKE_SA_INIT response"),
        DatagramDropped(Path(HERE, THERE), "malformed"),
    ):
        log_event(event)
    text = caplog.text + repr([record.__dict__ for record in caplog.records])
    for encoding in (SECRET.hex(), repr(SECRET)[2:-1], str(list(SECRET))[1:-1]):
        assert encoding not in text
    assert caplog.records[2].fields == {  # type: ignore[attr-defined]  # put there by extra=
        "session": "1", "spi_i": "69" * 8, "spi_r": "72" * 8, "old": "init-sent", "new": "init-done",
        "trigger": '"IKE_SA_INIT response"',
    }  # fmt: skip
    assert caplog.records[1].message.startswith(
        "child_sa_established session=1 child=c:00000001_i:00000065_o:aes128gcm16"
    )
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "INFO", "DEBUG"]
    assert "peer_certificate" not in fields_of(INFO)


@pytest.mark.parametrize(
    ("notify", "kind", "code"),
    [(24, AuthenticationError, "AUTHENTICATION_FAILED"), (38, TsUnacceptableError, "TS_UNACCEPTABLE"),
     (99, HandshakeError, "HandshakeError"), (None, HandshakeError, "HandshakeError")],
)  # fmt: skip
def test_errors_carry_codes(notify: int | None, kind: type[Exception], code: str) -> None:
    error = error_of_notify(notify, "why")
    assert type(error) is kind
    assert (error.error_code, str(error)) == (code, "why")

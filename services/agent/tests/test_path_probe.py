"""The path probe with a socket in memory: answers, silence, and a path on which large packets get lost."""

import errno
import socket
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from structlog.testing import capture_logs

from warren_agent.clocks import Clocks
from warren_agent.health import TunnelHealth
from warren_agent.path_probe import PROBE_INTERVAL, SIZE_ROUNDS, PathProbe
from warren_agent.paths.echo import TTL
from warren_contracts.status import ChildSaStatus, EvidenceKind, IpsecStatus, ReasonCode, TunnelState, TunnelStatus
from warren_intent.expand import expand
from warren_testkit.intent import directory, published, record

STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
(TUNNEL,) = expand([STAR], directory(record("hub", 1, "hub"), record("spoke", 2, "branch")), "spoke")
(CHILD,) = TUNNEL.link.children
TARGET = ip_address(str(CHILD.remote_ts[0].networks[0][1]))
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Path:
    """A socket whose other end answers echoes of up to `largest` bytes, like a path with a black hole."""

    largest: int = 65_535
    refusal: int = 0  # errno of every send
    too_long: int = 65_536  # EMSGSIZE from here on: the kernel knows the path MTU
    replies: list[tuple[bytes, tuple[str, int]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    options: dict[tuple[int, int], int] = field(default_factory=dict)

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def sendto(self, packet: bytes, address: tuple[str, int]) -> None:
        if self.refusal:
            raise OSError(self.refusal, "refused")
        size = len(packet) + 20
        if size >= self.too_long:
            raise OSError(errno.EMSGSIZE, "Message too long")
        self.sizes.append(size)
        kind, code, checksum, number, sequence = struct.unpack_from("!BBHHH", packet)
        assert (kind, code) == (8, 0)
        if size <= self.largest:
            self.replies.append((struct.pack("!BBHHH", 0, 0, checksum, number, sequence) + packet[8:], address))

    def recvfrom(self, limit: int) -> tuple[bytes, tuple[str, int]]:
        if not self.replies:
            raise BlockingIOError
        return self.replies.pop(0)


class Bench:
    """A probe of one address, and the health that it is a part of; `look` is one report interval."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, 0.0
        clocks = Clocks(monotonic=lambda: self.clock, now=lambda: START + timedelta(seconds=self.clock))
        self.health = TunnelHealth(clocks, probe=PathProbe([TARGET], clocks, lambda version: path))  # type: ignore[arg-type,return-value]
        self.health.watch(TUNNEL)

    def look(self, times: int = 1) -> TunnelStatus:
        sa = ChildSaStatus(
            child=CHILD.name, spi_in="00000001", spi_out="00000002", cipher="aes256gcm16", local_ts=CHILD.local_ts,
            remote_ts=CHILD.remote_ts,
        )  # fmt: skip
        status = TunnelStatus(name=TUNNEL.name, state=TunnelState.UP, link=IpsecStatus(children=(sa,)))
        for _ in range(times):
            found = self.health.assess(status, converged=True)
            self.clock += PROBE_INTERVAL
        return found


def test_answered_echo_is_evidence_and_no_contradiction() -> None:
    bench = Bench(Path())
    assert bench.look().evidence.kind is EvidenceKind.NONE
    found = bench.look(30)
    assert (found.state, found.evidence.kind) == (TunnelState.UP, EvidenceKind.PROBE)
    assert bench.path.options[socket.IPPROTO_IP, socket.IP_TTL] == TTL


def test_three_echoes_without_an_answer_degrade_the_tunnel_until_one_is_answered() -> None:
    bench = Bench(Path())
    bench.look(3)
    bench.path.largest = 0
    states = [bench.look().state for _ in range(4)]
    assert states[-1] is TunnelState.UP or states[-2] is TunnelState.UP  # two lost echoes are not a finding
    found = bench.look(2)
    assert (found.state, found.reason) == (TunnelState.DEGRADED, ReasonCode.PATH_PROBE_FAILED)
    assert f"echoes to {TARGET} were not answered since 2026-01-01" in found.detail
    bench.path.largest = 65_535
    assert bench.look(2).state is TunnelState.UP


def test_path_that_loses_large_packets_is_named_with_an_mss() -> None:
    bench = Bench(Path(largest=1_150))
    assert bench.look(3 * SIZE_ROUNDS).state is TunnelState.UP  # two rounds of sizes, and the third not looked at yet
    found = bench.look(SIZE_ROUNDS)
    assert (found.state, found.reason) == (TunnelState.DEGRADED, ReasonCode.PATH_MTU)
    assert "packets of 1280 bytes" in found.detail
    assert "1100 pass: clamp TCP's MSS to 1060" in found.detail
    bench.path.largest = 65_535
    assert bench.look(SIZE_ROUNDS + 2).state is TunnelState.UP


def test_path_mtu_that_the_kernel_knows_is_no_black_hole() -> None:
    bench = Bench(Path(too_long=1_200))
    assert bench.look(6 * SIZE_ROUNDS).state is TunnelState.UP


def test_large_packets_are_sent_once_a_minute() -> None:
    bench = Bench(Path())
    bench.look(60)
    assert len([size for size in bench.path.sizes if size > 500]) == 60 // SIZE_ROUNDS * 5
    assert len(bench.path.sizes) == 60 + 60 // SIZE_ROUNDS * 5


def test_host_that_may_not_send_echoes_is_logged_once_and_nothing_is_concluded() -> None:
    bench = Bench(Path(refusal=errno.EACCES))
    with capture_logs() as logs:
        found = bench.look(10)
    assert (found.state, [it["event"] for it in logs]) == (TunnelState.UP, ["probe.refused"])


@pytest.mark.parametrize(
    "data", [b"", b"\x00", struct.pack("!BBHHH", 0, 0, 0, 0, 9_999), struct.pack("!BBHHH", 8, 0, 0, 0, 1)]
)
def test_stray_packets_are_no_answer(data: bytes) -> None:
    bench = Bench(Path(largest=0))
    bench.look()
    bench.path.replies += [(data, (str(TARGET), 0)), (struct.pack("!BBHHH", 0, 0, 0, 0, 1), ("192.0.2.9", 0))]
    assert bench.look().evidence.kind is EvidenceKind.NONE


def test_address_that_no_tunnel_contains_is_not_probed() -> None:
    path = Path()
    clocks = Clocks()
    probe = PathProbe([ip_address("203.0.113.7")], clocks, lambda version: path)  # type: ignore[arg-type,return-value]
    assert list(probe.findings(TUNNEL, TunnelStatus(name=TUNNEL.name, state=TunnelState.UP))) == []
    assert path.sizes == []

"""`warren ike decode`: skipped packets are reported; invalid captures and key files are refused in one line."""

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.packet import Packet, Raw
from typer.testing import CliRunner

from warren_cli.ike.decode import CaptureSummary, decode_file
from warren_cli.main import app
from warren_ikev2.constants import ExchangeType, HeaderFlag
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_message
from warren_ikev2.wire.payloads import NoncePayload

SOUND = build_message(
    Header(b"i" * 8, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0), [NoncePayload(bytes(32))]
)
MAIN_MODE = struct.pack("!8s8sBBBBII", b"v" * 8, bytes(8), 1, 0x10, 2, 0, 0, 28)
GCM = f'{"69" * 8},{"72" * 8},{{}},{{}},"AES-GCM-256 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"\n'


ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # given: scapy would ask the network for them


def frame(data: bytes, port: int = 500) -> bytes:
    return bytes(ETHER / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=port, dport=port) / Raw(data))


def pcap(frames: Sequence[bytes], link: int = 1) -> bytes:
    packets = b"".join(struct.pack("<IIII", 1_700_000_000, 5, len(item), len(item)) + item for item in frames)
    return b"\xd4\xc3\xb2\xa1" + struct.pack("<HHiIII", 2, 4, 0, 0, 65535, link) + packets


def pcapng(item: bytes, time: int) -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    packet = struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, len(item), len(item)) + item
    section = block(0x0A0D0D0A, b"\x4d\x3c\x2b\x1a\1\0\0\0" + b"\xff" * 8)
    return section + block(1, struct.pack("<HHI", 1, 0, 0)) + block(6, packet)


def decode(path: Path | str, *options: str) -> Any:
    return CliRunner().invoke(app, ["ike", "decode", str(path), *options])


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap([frame(SOUND)]))
    return path


def test_what_is_malformed_and_what_is_of_version_one_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    frames = [SOUND, SOUND[:-3], MAIN_MODE, b"hello", b"\xff"]
    path.write_bytes(pcap([*map(frame, frames), frame(bytes(4) + SOUND[:-3], 4500), frame(b"\1" * 60, 4500)]))
    result = decode(path)
    lines = [line for line in result.stdout.splitlines() if not line.startswith("    ")]
    assert (result.exit_code, len(lines), result.stderr) == (0, 5, "")
    assert "IKE_SA_INIT request 0, 64 bytes" in lines[0]
    assert "IKE_SA_INIT request 0, malformed: the length field is 64, the datagram has 61 bytes" in lines[1]
    assert lines[2].endswith("192.0.2.2:500 IKEv1, main mode, 28 bytes, SPIs 7676767676767676 0000000000000000")
    assert "malformed: a message shorter than its header, 5 bytes" in lines[3]
    assert "192.0.2.2:4500 IKE_SA_INIT request 0, malformed:" in lines[4]
    problems = [json.loads(line)["message"]["problem"] for line in decode(path, "--json").stdout.splitlines()]
    assert [text.partition(":")[0] for text in problems] == [
        "",
        "malformed",
        "IKEv1, main mode",
        "malformed",
        "malformed",
    ]


def test_other_ports_are_not_accused(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap([frame(b"\0\0\x01\0" + b"d" * 40, 53), frame(SOUND, 5555), frame(bytes(4) + SOUND, 5555)]))
    result = decode(path)
    assert result.stdout.count("IKE_SA_INIT") == 2
    assert "malformed" not in result.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pcap([frame(SOUND)], link=999), "link type 999 is not known: 1 packet(s) were not read"),
        (pcap([]), "no IKE message among 0 UDP datagram(s)"),
        (pcap([frame(b"x" * 40, 53)]), "no IKE message among 1 UDP datagram(s)"),
        (pcap([frame(SOUND)[:-5]]), "1 datagram(s) are cut off in the capture"),
        (pcap([bytes(ETHER / IP(frag=7, proto=17) / Raw(bytes(60)))]), "1 IP fragment(s) were not put together"),
    ],
)
def test_skipped_packets_are_reported(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "capture"
    path.write_bytes(content)
    result = decode(path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert said in result.stderr
    assert "no IKE message" in result.stderr


def test_a_time_beyond_the_calendar_is_unknown_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcapng(frame(SOUND), 0xFFFF_FFFF_FFFF_FFFF))
    assert decode(path).stdout.startswith("at an unknown time 192.0.2.1:500 > 192.0.2.2:500 IKE_SA_INIT")
    assert json.loads(decode(path, "--json").stdout)["time"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            GCM.format("00", "00").encode(),
            "line 1 of the key file: SK_ei and SK_er, including the salt, must have 36 bytes",
        ),
        (
            b"\n" + GCM.format("00" * 36, "00" * 36).replace("69" * 8, "69").encode(),
            "line 2 of the key file: an SPI must",
        ),
        (GCM.format("00" * 36, "00" * 36).replace("NONE [RFC4306]", "HMAC_SHA2_256_128 [RFC4868]").encode(), "AEAD"),
        (b'"' + b"x" * 200_000, "line 1 of the key file: not a line"),
    ],
)
def test_a_line_of_the_key_file_that_cannot_be_used_is_one_remark(
    tmp_path: Path, capture: Path, content: bytes, said: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(content)
    result = decode(capture, "--keys", str(keys))
    assert result.exit_code == 0
    assert result.stdout == decode(capture).stdout
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe\x00\x01", "not text"), (b"#" * 1_000_001, "more than 1,000,000 bytes")],
)
def test_a_key_file_that_is_none_is_one_line(tmp_path: Path, capture: Path, content: bytes, said: str) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(content)
    result = decode(capture, "--keys", str(keys))
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_folders_and_devices_are_refused_at_once(tmp_path: Path, capture: Path) -> None:
    folder = decode(capture, "--keys", str(tmp_path))
    assert "is a directory" in folder.stderr
    assert decode("/dev/zero").stderr.startswith("warren ike decode: The file is not a complete pcap or pcapng.")
    assert "more than 1,000,000 bytes" in decode(capture, "--keys", "/dev/zero").stderr


def test_a_long_capture_is_read_packet_by_packet() -> None:
    """From a source that would end only after 4 GB: nothing is read ahead."""

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.given = 0
            self._packet = pcap([frame(SOUND)])[24:]
            self._rest = pcap([])

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            if not self._rest:
                self._rest = self._packet
            part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
            buffer[: len(part)] = part
            self.given += len(part)
            return len(part)

    source, seen = Endless(), CaptureSummary()
    messages = decode_file(io.BufferedReader(source), seen=seen)
    for _ in range(1000):
        assert next(messages).message.exchange == "IKE_SA_INIT"
    assert seen.messages == 1000
    assert source.given < 300_000


INIT = bytes.fromhex("6970" * 4 + "00" * 8 + "00202208" + "00" * 4 + "0000001c")
"""A header of IKE_SA_INIT without payloads."""


@pytest.mark.parametrize(
    "packet",
    [
        ETHER / Dot1Q(vlan=7) / IP() / UDP(sport=500, dport=500) / Raw(INIT),
        Ether(type=0x8864) / PPPoE(sessionid=1) / PPP() / IP() / UDP(sport=500, dport=500) / Raw(INIT),
        Ether(type=0x8864) / PPPoE(sessionid=1) / PPP() / IPv6() / UDP(sport=500, dport=500) / Raw(INIT),
        ETHER / IPv6() / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=500, dport=500) / Raw(INIT),
        ETHER / IPv6() / IPv6ExtHdrFragment(offset=0, m=0) / UDP(sport=500, dport=500) / Raw(INIT),  # RFC 6946
    ],
)
def test_messages_behind_tags_and_extension_headers_are_read(tmp_path: Path, packet: Packet) -> None:
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap([bytes(packet)]))
    result = decode(path)
    assert "IKE_SA_INIT request" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("packet", "remark"),
    [
        (ETHER / Raw(b"x" * 40), "1 frame(s) of ethertype 0x9000 were not read"),
        (Ether(type=0x8864) / PPPoE() / PPP(proto=0xC021) / Raw(b"x" * 40), "of ethertype 0x8864 were not read"),
        (ETHER / IP() / TCP() / Raw(b"x" * 20), "1 packet(s) of IP protocol 6 are no UDP"),
        (ETHER / IPv6() / IPv6ExtHdrRouting() / TCP(), "1 packet(s) of IP protocol 6 are no UDP"),
        (ETHER / IPv6() / IPv6ExtHdrFragment(offset=8) / UDP() / Raw(b"x" * 40), "1 IP fragment(s)"),
    ],
)
def test_what_is_not_read_is_counted_by_kind(tmp_path: Path, packet: Packet, remark: str) -> None:
    path = tmp_path / "c.pcap"
    path.write_bytes(pcap([bytes(packet)]))
    assert remark in decode(path).stderr

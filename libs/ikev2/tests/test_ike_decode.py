"""Captures, key files and probe answers are not trusted: any bytes cause only typed errors."""

import io
import os
import pathlib
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from scapy.utils import PcapNgWriter, PcapWriter

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.constants import Encr, ExchangeType, HeaderFlag, Integ, KeGroup
from warren_ikev2.crypto.sk import AeadSk
from warren_ikev2.decode import Decoder
from warren_ikev2.errors import MalformedCaptureError
from warren_ikev2.fragments import seal
from warren_ikev2.keylog import DecryptionKeys, build_table, parse_lines
from warren_ikev2.pcap import read_capture
from warren_ikev2.probe import (
    ENCRYPTION,
    GROUPS,
    INTEGRITY,
    MODERN,
    POST_QUANTUM,
    PRF,
    ProbeRequest,
    unaccepted_types,
)
from warren_ikev2.probe_answer import ProbeVerdict
from warren_ikev2.wire.header import Header

PATH = Path(SocketAddress(ip_address("192.0.2.1"), 500), SocketAddress(ip_address("192.0.2.2"), 500))
GCM = DecryptionKeys(b"i" * 8, b"r" * 8, Encr.AES_GCM_16, 256, None, b"e" * 36, b"f" * 36)
CBC = DecryptionKeys(
    b"i" * 8, b"s" * 8, Encr.AES_CBC, 128, Integ.HMAC_SHA2_256_128, b"e" * 16, b"f" * 16, b"a" * 32, b"b" * 32
)
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # given: scapy would ask the network for them
FRAMES = [
    ETHER / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=500, dport=500) / Raw(b"one"),
    ETHER / Dot1Q(vlan=5) / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=4500, dport=4500) / Raw(b"two"),
    ETHER / IP(src="192.0.2.1", dst="192.0.2.2", frag=7) / Raw(b"x" * 40),
    Ether(src=ETHER.src, dst=ETHER.dst, type=0x0806) / Raw(b"arp" * 20),
]


def request() -> bytes:
    return ProbeRequest.complete(MODERN.all(), KeGroup.X25519, os.urandom).build(PATH, os.urandom)


@pytest.mark.parametrize("writer", [PcapWriter, PcapNgWriter])
def test_captures_of_scapy_are_read(writer: type, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "capture"
    with writer(str(file)) as out:
        for frame in FRAMES:
            frame.time = 1_700_000_000.25
            out.write(frame)
    found = list(read_capture(io.BytesIO(file.read_bytes())))
    assert [datagram.data for datagram in found] == [b"one", b"two"]
    assert [str(datagram.path) for datagram in found] == [
        "192.0.2.1:500 <-> 192.0.2.2:500", "[2001:db8::1]:4500 <-> [2001:db8::2]:4500",
    ]  # fmt: skip
    assert found[0].time == pytest.approx(1_700_000_000.25, abs=1e-3)


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\xd4\xc3\xb2\xa1" + bytes(16) + b"\1\0\0\0", b"\x0a\x0d\x0d\x0a"])
)
def test_no_bytes_break_the_reader(junk: bytes, start: bytes) -> None:
    try:
        for _ in read_capture(io.BytesIO(start + junk)):
            pass
    except MalformedCaptureError as error:
        assert "pcap" in str(error)  # noqa: PT017  either outcome is right


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_the_decoder(junk: bytes, whole: bool) -> None:
    decoder = Decoder([GCM, CBC], os.urandom)
    message = request()
    data = message[: len(message) // 2] + junk if whole else junk
    decoder.decode(data, PATH)
    decoder.decode(bytes(4) + data, PATH)


def test_a_request_is_explained() -> None:
    view = Decoder([], os.urandom).decode(request(), PATH)
    assert view is not None
    assert (view.exchange, view.response, view.protection) == ("IKE_SA_INIT", False, "clear")
    texts = {payload.type: payload.text for payload in view.payloads}
    assert texts["KE"] == "X25519, 32 bytes"
    assert "aes256gcm16" in texts["SA"]


def test_key_files_round_trip_and_hide_keys() -> None:
    text = "# a comment\n\n" + build_table([GCM, CBC])
    assert parse_lines(text).keys == (GCM, CBC)
    assert "65656565" not in repr(GCM)
    assert "eeee" not in repr(GCM)


@pytest.mark.parametrize(
    ("line", "remark"),
    [
        ("1,2,3", "not a line of Wireshark's ikev2_decryption_table"),
        ("zz,bb,cc,dd,AES,ee,ff,x", "not a line of Wireshark's ikev2_decryption_table"),
        (
            f'{"01" * 8},{"02" * 8},{"03" * 16},{"04" * 16},"AES-CBC-128 [RFC3602]",{"05" * 20},{"06" * 20},"HMAC_SHA1_96 [RFC2404]"',
            "'HMAC_SHA1_96 [RFC2404]': messages that are protected by this algorithm cannot be opened",
        ),
        (
            '0102,0304,0506,0708,"AES-CBC-128 [RFC3602]",,,"HMAC_SHA2_256_128 [RFC4868]"',
            "an SPI must have 8 bytes here, not 2",
        ),
    ],
)
def test_a_key_line_that_cannot_be_used_is_named_and_the_others_are_used(line: str, remark: str) -> None:
    table = parse_lines(f"{build_table([GCM])}{line}\n{build_table([CBC])}")
    assert table.keys == (GCM, CBC)
    assert table.remarks == (f"line 2 of the key file: {remark}",)


@pytest.mark.parametrize("keyword", [*ENCRYPTION, *PRF, *INTEGRITY, *GROUPS, *POST_QUANTUM])
def test_each_algorithm_can_be_probed_by_itself(keyword: str) -> None:
    question = ProbeRequest.stateless(MODERN.single(keyword), os.urandom)
    assert all(keyword in str(proposal).replace("ke1_", "").split("-") for proposal in question.proposals)
    assert question.build(PATH, os.urandom)


@given(st.binary(max_size=200))
def test_no_answer_breaks_the_probe(junk: bytes) -> None:
    question = ProbeRequest.complete(MODERN.all(), KeGroup.X25519, os.urandom)
    echo = question.build(PATH, os.urandom)  # a request is not an answer
    for data in (junk, echo, echo[:100] + junk):
        found = question.read(data, PATH)
        assert found is not None
        assert found.verdict is ProbeVerdict.MALFORMED


def test_reasons_name_the_types_without_a_common_algorithm() -> None:
    (proposal,) = MODERN.single("x448")[:1]
    reasons = unaccepted_types(proposal, ["aes256gcm16", "prfsha384", "x25519"])
    assert reasons == ["KE: the peer accepts none of x448"]
    assert unaccepted_types(proposal, ["aes256gcm16", "prfsha384", "x448"]) == []


def test_malformed_authentic_messages_are_distinguished_from_wrong_keys() -> None:
    header = Header(GCM.spi_i, GCM.spi_r, ExchangeType.INFORMATIONAL, HeaderFlag.INITIATOR, 2)
    for key, protection, problem in ((GCM.ei, "decrypted", "malformed: "), (b"x" * 36, "wrong keys", "")):
        (data,) = seal(AeadSk(GCM.encryption, key), header, 41, b"\0\0\xff\xff", None)
        view = Decoder([GCM], os.urandom).decode(data, PATH)
        assert view is not None
        assert view.protection == protection
        assert view.problem.startswith(problem)
        assert bool(view.problem) == bool(problem)

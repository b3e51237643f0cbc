"""`warren ike probe` and `warren ike decode` against our own server, charon and tshark."""

import asyncio
import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from warren_cli.ike.decode import decode_file
from warren_cli.ike.policy import requested_proposals
from warren_cli.ike.probe import probe
from warren_cli.ike.probe_report import ProbeReport, render_report
from warren_ikev2.decode import MessageView
from warren_ikev2.errors import MalformedCaptureError
from warren_lab.namespace import in_netns
from warren_lab.process import wait_until
from warren_testkit.lab.ike_bed import LIMIT_SECONDS, Bed

pytestmark = [pytest.mark.root, pytest.mark.interop]

GCM, CBC = "aes256gcm16-prfsha384-x25519", "aes256-sha256-ecp256"


@pytest.fixture
def gateway(bed: Bed) -> Iterator[str]:
    """charon with two IKE proposals."""
    with bed.connection("probed", esp="aes256gcm16", proposals=[GCM, CBC]):
        yield bed.peers


def ask(bed: Bed, host: str, **options: Any) -> ProbeReport:
    settings = {"every": False, "requested": None, "timeout": LIMIT_SECONDS} | options
    return in_netns(bed.ours.path, lambda: probe(host, settings.pop("port", 500), **settings))


def test_probe_reports_what_charon_would_choose(bed: Bed, gateway: str) -> None:
    report = ask(bed, gateway)
    assert report.verdict == "accepted"
    assert report.chosen in ("aes256gcm16-prfsha384-x25519", "aes256-prfsha256-sha256-ecp256")
    assert report.features.fragmentation
    assert report.features.nat is not None
    assert not report.features.nat.local  # charon fakes one on its side, since kernel-libipsec needs UDP encapsulation
    assert "SHA2_256" in report.features.signature_hashes
    assert report.post_quantum.startswith("not ready")
    assert "answers in" in render_report(report)


def test_probe_finds_every_algorithm_without_leaving_state(bed: Bed, gateway: str) -> None:
    report = ask(bed, gateway, every=True)
    assert report.accepted == {
        "encryption": ["aes256gcm16", "aes256"],
        "prf": ["prfsha384", "prfsha256"],
        "integrity": ["sha256"],
        "group": ["x25519", "ecp256"],
        "post_quantum": [],
    }
    left_nothing(bed)


def half_open(bed: Bed) -> int:
    with bed.vici.session() as session:
        return int(session.stats()["ikesas"]["half-open"])


def left_nothing(bed: Bed) -> None:
    """charon has ended the IKE_SAs by itself, long before the 30 s that it keeps a half-open one."""
    wait_until(lambda: half_open(bed) == 0, "the end of the half-open IKE_SA", 25)


def test_probes_leave_nothing_behind_at_charon(bed: Bed, gateway: str) -> None:
    for port in (500, 4500, 500, 4500, 500):
        assert ask(bed, gateway, port=port).verdict == "accepted"
    left_nothing(bed)


def test_probe_finds_legacy_algorithms_on_request(bed: Bed) -> None:
    with bed.connection("old", esp="aes256gcm16", proposals=["aes256-sha1-modp2048"]):
        modern = ask(bed, bed.peers, every=True)
        legacy = ask(bed, bed.peers, every=True, legacy=True)
    assert modern.accepted is not None
    assert set(modern.accepted.values()) == {None}
    assert legacy.chosen == "aes256-sha1-prfsha1-modp2048"
    assert legacy.accepted == {
        "encryption": ["aes256"], "prf": ["prfsha1"], "integrity": ["sha1"], "group": ["modp2048"], "post_quantum": [],
    }  # fmt: skip


def test_probe_works_on_the_nat_traversal_port(bed: Bed, gateway: str) -> None:
    assert ask(bed, gateway, port=4500).verdict == "accepted"


@pytest.mark.parametrize(
    ("keywords", "profile", "outcome", "fails"),
    [
        ([GCM], "", "would negotiate aes256gcm16-prfsha384-x25519", False),
        (["aes128gcm16-prfsha256-ecp521"], "", "ENCR: the peer accepts none of aes128gcm16", True),
        ([], "nist-800-77r1", "would fail with NO_PROPOSAL_CHOSEN because", True),
        ([], "default", "would negotiate aes256gcm16-prfsha384-x25519", False),
    ],
)
def test_probe_compares_with_the_requested_proposals(
    bed: Bed, gateway: str, keywords: list[str], profile: str, outcome: str, fails: bool
) -> None:
    report = ask(bed, gateway, requested=requested_proposals(keywords, profile, None))
    assert outcome in report.comparison
    assert report.would_fail is fails


def test_probe_of_an_unused_address(bed: Bed) -> None:
    report = ask(bed, "203.0.113.99", timeout=0.1)
    assert not report.answered
    assert "no-answer" in render_report(report)


def test_the_command_prints_json(bed: Bed, gateway: str) -> None:
    warren = Path(sys.executable).with_name("warren")
    report = json.loads(bed.ours.run(str(warren), "ike", "probe", gateway, "--json", "--proposal", GCM))
    assert report["comparison"].endswith("would negotiate aes256gcm16-prfsha384-x25519")


# Captures of our own exchange with charon


@pytest.fixture(params=["aes256gcm16-prfsha384-x25519", "aes256-sha256-ecp256"])
def capture(bed: Bed, request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A pcap of a handshake, a ping and a DELETE, and the exported keys."""
    proposal = request.param
    file = tmp_path / "ike.pcap"
    with bed.connection("captured", ike=proposal, esp="aes256gcm16"), tcpdump(bed, file):
        with bed.connected(bed.client(proposal, "aes256gcm16")) as client:
            keys = in_loop(bed, client.session.export_keys)
            bed.ping()
            cause_address_update(bed)
        wait_until(lambda: is_deleted(file, keys), "the DELETE and its response in the capture", LIMIT_SECONDS)
    return file, keys


def cause_address_update(bed: Bed) -> None:
    """Make charon send an INFORMATIONAL of its own before the DELETE: it reports a changed list of addresses (RFC 4555, 3.6)."""
    before = bed.charon_log().count("generating INFORMATIONAL request")
    address = ("address", "{}", "10.91.77.1/32", "dev", "lo")
    for verb in ("add", "del"):
        bed.charon.namespace.run("ip", *(word.format(verb) for word in address))
    bed.wait_for_log("generating INFORMATIONAL request", before + 1)


def delete_of(messages: Iterable[MessageView]) -> MessageView | None:
    """The request that deletes the IKE_SA; either end may send other INFORMATIONALs, such as address updates, before it."""
    return next(
        (m for m in messages if not m.response and any(payload.type == "DELETE" for payload in m.payloads)), None
    )


def is_deleted(file: Path, keys: str) -> bool:
    """Whether the capture holds the DELETE and the response to it."""
    try:
        messages = [captured.message for captured in decode_file(io.BytesIO(file.read_bytes()), keys)]
    except MalformedCaptureError:  # tcpdump is writing
        return False
    request = delete_of(messages)
    return request is not None and any(
        m.response and m.message_id == request.message_id and m.from_initiator != request.from_initiator
        for m in messages
    )


def in_loop(bed: Bed, call: Any) -> Any:
    async def run() -> Any:
        await asyncio.sleep(0)
        return call()

    return bed.loop.run(run())


@contextlib.contextmanager
def tcpdump(bed: Bed, file: Path) -> Iterator[None]:
    """Captures on our side of the link, unbuffered."""
    process = bed.ours.spawn(
        "tcpdump", "-i", "wan", "-U", "--immediate-mode", "-Z", "root", "-w", str(file), "udp", stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    while b"listening" not in (line := process.stderr.readline()):
        assert line, "tcpdump ended before it listened"
    try:
        yield
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)
        process.stderr.close()


def test_decode_lists_the_messages_without_keys(capture: tuple[Path, str]) -> None:
    messages = [captured.message for captured in decode_file(io.BytesIO(capture[0].read_bytes()))]
    assert [message.exchange for message in messages[:4]] == ["IKE_SA_INIT"] * 2 + ["IKE_AUTH"] * 2
    assert [message.protection for message in messages[:4]] == ["clear", "clear", "no keys", "no keys"]
    assert "INFORMATIONAL" in {message.exchange for message in messages[4:]}


def test_decode_opens_the_messages_with_keys(capture: tuple[Path, str]) -> None:
    messages = [captured.message for captured in decode_file(io.BytesIO(capture[0].read_bytes()), capture[1])]
    assert {message.protection for message in messages} == {"clear", "decrypted"}
    request = {payload.type: payload.text for payload in messages[2].payloads}
    assert request["IDI"] == "FQDN ours.warren.test"
    assert request["TSI"] == "10.91.1.1/32"
    delete = delete_of(messages)
    assert delete is not None
    assert (delete.exchange, [(payload.type, payload.text) for payload in delete.payloads]) == (
        "INFORMATIONAL", [("DELETE", "IKE")],
    )  # fmt: skip


def test_decode_reports_wrong_keys(capture: tuple[Path, str]) -> None:
    fields = capture[1].split(",")
    fields[2] = "00" * (len(fields[2]) // 2)
    fields[5] = "00" * (len(fields[5]) // 2)
    messages = [captured.message for captured in decode_file(io.BytesIO(capture[0].read_bytes()), ",".join(fields))]
    assert messages[2].protection == "wrong keys"


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_decodes_and_decrypts(capture: tuple[Path, str], tmp_path: Path) -> None:
    file, keys = capture
    home = tmp_path / "home"
    table = home / ".config" / "wireshark" / "ikev2_decryption_table"
    table.parent.mkdir(parents=True)

    def identities() -> str:
        fields = ["-e", "isakmp.exchangetype", "-e", "isakmp.id.data.fqdn"]
        return subprocess.run(
            ["tshark", "-r", str(file), "-Y", "isakmp", "-T", "fields", *fields],
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True, timeout=120,
        ).stdout  # fmt: skip

    clear = identities()
    assert clear.split().count("34") == 2
    assert "ours.warren.test" not in clear
    table.write_text(keys)
    opened = identities()
    assert "ours.warren.test" in opened
    assert "charon.warren.test" in opened

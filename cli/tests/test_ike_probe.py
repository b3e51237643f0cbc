"""`warren ike probe` against responders on real sockets that answer as they should not, or not at all."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from warren_cli.ike.probe import resolve
from warren_cli.main import app
from warren_ikev2.algorithms import Transform
from warren_ikev2.constants import ExchangeType, HeaderFlag, KeGroup, NotifyType, Protocol, TransformType
from warren_ikev2.crypto import groups
from warren_ikev2.exchanges.redirect import build_gateway
from warren_ikev2.suites import Proposal
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import Message, build_message, parse_message
from warren_ikev2.wire.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload

DES = Proposal(Protocol.IKE, (Transform(TransformType.ENCR, 2), Transform(TransformType.KE, 1)))
Responder = Callable[[Message], bytes]


def respond(request: Message, *payloads: Payload) -> bytes:
    header = Header(request.header.spi_i, b"r" * 8, ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0)
    return build_message(header, payloads)


def choose_des(request: Message) -> bytes:
    public = groups.start(KeGroup.X25519).public
    return respond(request, SaPayload((DES,)), KePayload(31, public), NoncePayload(bytes(32)))


def notify(kind: NotifyType, data: bytes = b"") -> Responder:
    return lambda request: respond(request, NotifyPayload(kind, data))


def redirect(request: Message) -> bytes:
    nonce = request.payloads.require(NoncePayload).data
    return respond(request, NotifyPayload(NotifyType.REDIRECT, build_gateway("vpn2.example.com", nonce)))


def speak_version_one(request: Message) -> bytes:
    data = bytearray(respond(request, NotifyPayload(NotifyType.INVALID_MAJOR_VERSION)))
    data[17] = 0x10
    return bytes(data)


@contextmanager
def responder(answer: Responder) -> Iterator[int]:
    """A UDP socket of 127.0.0.1 whose every answer is `answer`'s; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(own, answer))
        thread.start()
        try:
            yield own.getsockname()[1]
        finally:
            own.sendto(b"", own.getsockname())
            thread.join(60)


def serve(own: socket.socket, answer: Responder) -> None:
    while True:
        data, peer = own.recvfrom(65535)
        if not data:  # our own, to end
            return
        own.sendto(answer(parse_message(data)), peer)


def probe(answer: Responder, *options: str) -> Any:
    with responder(answer) as port:
        return CliRunner().invoke(app, ["ike", "probe", "127.0.0.1", "--port", str(port), "--timeout", "5", *options])


@pytest.mark.parametrize("requested", [["--proposal", "aes256gcm16-prfsha384-x25519"], ["--profile", "default"]])
def test_a_choice_that_was_not_offered_is_never_would_negotiate(requested: list[str]) -> None:
    result = probe(choose_des, *requested)
    assert result.exit_code == 1
    assert "would negotiate" not in result.stdout
    assert "would fail, invalid-choice" in result.stdout


def test_who_accepts_everything_without_reading_accepts_nothing() -> None:
    result = probe(choose_des, "--all", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["verdict"], report["chosen"]) == (1, "invalid-choice", "")
    assert not any(report["accepted"].values())
    assert report["post_quantum"] == "unknown"
    assert report["accepted"] == dict.fromkeys(report["accepted"])
    assert any("no clear answer for aes256gcm16, " in note for note in report["notes"])


def test_a_group_that_was_not_offered_is_reported_as_invalid() -> None:
    result = probe(notify(NotifyType.INVALID_KE_PAYLOAD, b"\xff\xff"), "--all")
    assert result.exit_code == 1
    assert "invalid-choice the peer requests key exchange group 65535, which is not offered" in result.stdout
    assert "accepts encryption    not known" in result.stdout


def test_the_requested_group_has_its_number_and_its_name() -> None:
    """One that asks for X25519 without end: --all shows it as what it wants."""
    turns = [NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, number) for number in (b"\0\x14", b"\0\x13")]

    def in_turn(request: Message) -> bytes:
        tried = request.payloads.require(KePayload).group
        return respond(request, turns[0] if tried != KeGroup.ECP_384 else turns[1])

    result = probe(in_turn, "--json")
    report = json.loads(result.stdout)
    assert report["verdict"] == "wants-group"
    assert report["requested_group"] == {"number": 19, "name": "ecp256"}
    assert "wants-group 19 (ecp256)" in probe(in_turn).stdout


def test_a_redirection_is_reported_with_its_gateway() -> None:
    assert "redirected to vpn2.example.com" in probe(redirect).stdout
    assert json.loads(probe(redirect, "--json").stdout)["gateway"] == "vpn2.example.com"


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        (lambda _: b"hello", "malformed", "a message shorter than its header"),
        (speak_version_one, "other-version", "version 1 of IKE"),
    ],
)
def test_invalid_ikev2_is_not_reported_as_no_answer(answer: Responder, verdict: str, said: str) -> None:
    result = probe(answer, "--all", "--profile", "default")
    assert result.exit_code == 1
    assert f"{verdict} " in result.stdout
    assert said in result.stdout
    assert "would fail" in result.stdout


def test_a_closed_port_is_reported() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
    result = CliRunner().invoke(app, ["ike", "probe", "127.0.0.1", "--port", str(port), "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["verdict"] == "closed"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["127.0.0.1", "--timeout", "inf"], 1, "'--timeout': must be less than or equal to 60"),
        (["127.0.0.1", "--timeout", "nan"], 1, "'--timeout': must be "),
        (["127.0.0.1", "--profile", "nope"], 1, "unknown crypto profile 'nope': use one of default, "),
        (["nobody.invalid"], 1, "warren ike probe: nobody.invalid: "),
        (["x" * 64 + ".example"], 1, ".example: not a host name"),
    ],
)
def test_invalid_options_are_reported_in_one_line(options: list[str], code: int, said: str) -> None:
    result = CliRunner().invoke(app, ["ike", "probe", *options])
    assert result.exit_code == code
    assert said in result.stderr
    assert "Errno" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_unknown_profile_of_a_policy_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("id: a\ntopology: {kind: mesh, members: [all]}\ncrypto: {profile: nope}\n")
    result = CliRunner().invoke(app, ["ike", "probe", "127.0.0.1", "--policy", str(path)])
    assert result.exit_code == 1
    assert "unknown crypto profile 'nope'" in result.stderr


def test_each_address_of_a_name_is_asked_until_one_answers() -> None:
    with responder(notify(NotifyType.NO_PROPOSAL_CHOSEN)) as port:  # on 127.0.0.1; nothing is bound to ::1
        result = CliRunner().invoke(app, ["ike", "probe", "localhost", "--port", str(port), "--timeout", "5", "--json"])
    report = json.loads(result.stdout)
    assert report["verdict"] == "refused"
    assert report["address"] == f"127.0.0.1:{port}"
    others = [str(target) for target in resolve("localhost", [port]) if "127.0.0.1" not in str(target)]
    assert [note.rpartition(": ")[0] for note in report["notes"]] == others


def test_without_a_port_500_is_asked_and_then_4500() -> None:
    assert [str(target) for target in resolve("192.0.2.1", (500, 4500))] == ["192.0.2.1:500", "192.0.2.1:4500"]


def test_refusals_of_everything_say_nothing_of_a_single_algorithm() -> None:
    """Each was offered with the others only: it is the group, the hash or the cipher that the gateway does not have."""
    refuse = notify(NotifyType.NO_PROPOSAL_CHOSEN)
    said = probe(refuse, "--all").stdout
    assert "accepts encryption    not known" in said
    assert "--legacy asks for older ones" in said
    assert json.loads(probe(refuse, "--all", "--json").stdout)["accepted"] == {
        "encryption": None, "prf": None, "integrity": None, "group": None, "post_quantum": None,
    }  # fmt: skip

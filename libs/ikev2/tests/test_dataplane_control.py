"""The control messages: what is built is parsed again, and nothing else is accepted."""

import json
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.dataplane import control
from warren_ikev2.dataplane.channel import receive
from warren_ikev2.dataplane.control import ControlError
from warren_testkit.ikev2.dataplane import PATH, child

MESSAGES: tuple[control.Message, ...] = (
    control.Start(1500, True, True, 65534),
    control.Start(1500, False, False, None),
    control.InstallChild(child("aes256gcm16", esn=True), None),
    control.InstallChild(child("aes256-sha256"), 77),
    control.InstallChild(child("aes256gcm16"), None, control.RateLimit(3, 125_000)),
    control.RemoveChild(5, 2.5),
    control.MoveChild(5, PATH),
    control.ReplacePort(),
    control.RequestStatistics(),
    control.Stop(),
    control.Started(1, 0x6F, True),
    control.IkeReceived(bytes(65507), PATH, 2),
    control.SourceChanged(5, PATH),
    control.PathMtuChanged(5, 1300, 1238),
    control.Statistics((control.ChildStatistics(5, 1, 2, 3, 4, 2**64 - 1),), {"packets_in": 1}),
    control.TunRemoved(),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_way(message: control.Message) -> None:
    data = control.build(message)
    assert len(data) <= control.MAX_MESSAGE
    assert control.parse(data) == message


def _edited(message: control.Message, **fields: Any) -> bytes:
    name, values = json.loads(control.build(message))
    return json.dumps([name, values | fields]).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1, 2]",
        b'["Stop"]',
        b'["Unknown", {}]',
        b'["Stop", {"more": 1}]',
        b'["Stop", []]',
        b"[" * 100_000,
        b'["RemoveChild", {"spi_in": 5}]',
        _edited(MESSAGES[4], spi_in=-1),
        _edited(MESSAGES[4], spi_in=True),
        _edited(MESSAGES[4], spi_in=2**64),
        _edited(MESSAGES[4], spi_in="5"),
        _edited(MESSAGES[4], linger=-1.0),
        _edited(MESSAGES[4], linger="long"),
        b'["RemoveChild", {"spi_in": 5, "linger": NaN}]',
        b'["RemoveChild", {"spi_in": 5, "linger": Infinity}]',
        _edited(MESSAGES[5], path=None),
        _edited(MESSAGES[5], path={"local": {"host": "example.com", "port": 1}, "remote": {"host": "::1", "port": 1}}),
        _edited(MESSAGES[0], vectorised=1),
        _edited(MESSAGES[10], datagram="0"),
        _edited(MESSAGES[10], datagram="zz"),
        _edited(MESSAGES[10], datagram=5),
        _edited(MESSAGES[13], children=[{}]),
        _edited(MESSAGES[13], children=[{}] * 2000),
        _edited(MESSAGES[13], totals={"x": "1"}),
        _edited(MESSAGES[13], totals={"x" * 300: 1}),
        b" " * (control.MAX_MESSAGE + 1),
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ControlError):
        control.parse(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        control.parse(data)
    except ControlError:
        return


def test_errors_quote_no_value() -> None:
    name, values = json.loads(control.build(MESSAGES[2]))
    values["child"]["keys_in"]["encryption"] = "secret-key-in-another-form"
    with pytest.raises(ControlError) as caught:
        control.parse(json.dumps([name, values]).encode())
    assert "secret-key" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "secret" not in repr(control.parse(control.build(MESSAGES[2])))


def test_a_statistics_message_of_the_largest_size_fits() -> None:
    most = 2**64 - 1
    largest = control.ChildStatistics(2**32 - 1, most, most, most, most, most, removed=False)
    totals = dict.fromkeys((f"a counter with a long name {number}" for number in range(40)), 2**64 - 1)
    message = control.Statistics((largest,) * control.CHILDREN_AT_A_TIME, totals)
    assert control.parse(control.build(message)) == message


def test_a_message_that_is_too_long_is_not_built() -> None:
    with pytest.raises(ControlError, match="longer"):
        control.build(control.IkeReceived(bytes(control.MAX_MESSAGE), PATH, 0))


def test_descriptors_come_with_their_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sent:
        sent.bind(("127.0.0.1", 0))
        socket.send_fds(ours, [control.build(control.ReplacePort())], [sent.fileno()])
        message, (descriptor,) = receive(theirs)
        assert message == control.ReplacePort()
        with socket.socket(fileno=descriptor) as received:
            assert received.getsockname() == sent.getsockname()
        with pytest.raises(BlockingIOError):
            receive(theirs)
        ours.close()
        with pytest.raises(EOFError):
            receive(theirs)

"""The records of charon's error-notify plugin: cut, read, and classified."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.drivers.strongswan.error_notify import (
    RECORD_SIZE,
    ErrorNotifyType,
    NotificationReader,
    build_notification,
    parse_alert,
    parse_notification,
)
from warren_agent.drivers.strongswan.vici_codec import Message, build_message, parse_message
from warren_contracts.status import ReasonCode


def test_record_has_the_plugins_size() -> None:
    assert RECORD_SIZE == 768


def test_record_is_read_up_to_each_nul() -> None:
    record = build_notification(8, "no match", "hub+spoke~1", "spoke", "192.0.2.1[500]")
    read = parse_notification(record)
    assert (read.type, read.connection, read.address) == (
        ErrorNotifyType.PROPOSAL_MISMATCH_IKE,
        "hub+spoke~1",
        "192.0.2.1[500]",
    )
    assert read.reason is ReasonCode.PROPOSAL_MISMATCH_IKE


def test_long_connection_name_is_cut_at_63_bytes() -> None:
    assert parse_notification(build_notification(2, "", "n" * 100, "", "")).connection == "n" * 63


@given(st.lists(st.integers(0, 40), max_size=5), st.data())
def test_reader_cuts_records_however_they_arrive(codes: list[int], data: st.DataObject) -> None:
    stream = b"".join(build_notification(code, "t", "c", "i", "a") for code in codes)
    cut = data.draw(st.integers(0, len(stream)))
    reader = NotificationReader()
    received = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
    assert [record.type for record in received] == [ErrorNotifyType(c) if 1 <= c <= 32 else None for c in codes]


def test_unknown_type_is_a_reason_of_its_own() -> None:
    assert parse_notification(build_notification(99, "new", "", "", "")).reason is ReasonCode.OTHER


@pytest.mark.parametrize(
    "kind", [ErrorNotifyType.RETRANSMIT_SEND_CLEARED, ErrorNotifyType.TS_NARROWED, ErrorNotifyType.UNIQUE_KEEP]
)
def test_what_ends_no_tunnel_is_no_reason(kind: ErrorNotifyType) -> None:
    assert parse_notification(build_notification(kind, "", "", "", "")).reason is ReasonCode.NONE


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("proposal-mismatch-child", ErrorNotifyType.PROPOSAL_MISMATCH_CHILD),
        ("cert-no-issuer", ErrorNotifyType.NO_ISSUER_CERT),
        ("cert-untrusted-root", ErrorNotifyType.UNTRUSTED_ROOT_CERT),
        ("tomorrows-word", None),
    ],
)
def test_alert_of_newer_strongswan_says_the_same(word: str, kind: ErrorNotifyType | None) -> None:
    message: Message = {"type": word, "ike-sa": {"hub+spoke~2": {"remote-id": "spoke", "remote-host": "192.0.2.1"}}}
    read = parse_alert(parse_message(build_message(message)))
    assert (read.type, read.connection, read.identity) == (kind, "hub+spoke~2", "spoke")

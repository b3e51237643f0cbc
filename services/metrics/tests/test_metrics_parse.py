import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from warren_contracts.base import read
from warren_contracts.telemetry import Presence, Report
from warren_metrics.domain.bounds import BoundedReport, BoundedTunnel
from warren_metrics.domain.parse import MAX_PAYLOAD, MessageSource, may_report, parse
from warren_metrics.errors import TelemetryRejectedError
from warren_metrics.handlers import BATCH, HEARTBEAT_BATCH
from warren_service.streams import PRESENCE, TELEMETRY
from warren_testkit.metrics import START, place, status

AT = "2026-01-02T03:04:05Z"


def reject(subject: str, payload: bytes | dict[str, Any]) -> str:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with pytest.raises(TelemetryRejectedError) as caught:
        parse(subject, data, place(1))
    assert caught.value.reason in TelemetryRejectedError.REASONS
    return caught.value.reason


def subject(kind: str) -> str:
    return f"warren.v1.telemetry.gw1.{kind}"


def test_the_sender_is_the_subject_and_nothing_in_the_payload() -> None:
    body = {"at": AT, "tunnels": [], "peer": "mallory"}
    assert parse(subject("report"), json.dumps(body).encode(), place(1)).peer == "gw1"


def test_unknown_fields_of_a_newer_agent_are_ignored() -> None:
    body = {"at": AT, "state": "online", "agent": "watch", "started_at": AT, "mood": "good"}
    assert isinstance(parse(subject("presence"), json.dumps(body).encode(), place(1)).body, Presence)


@pytest.mark.parametrize(
    "text", ["warren.v1.telemetry.GW1.report", "warren.v1.telemetry.gw1", "warren.v1.event.gw1.report", "x"]
)
def test_a_foreign_subject_is_rejected(text: str) -> None:
    assert reject(text, b"{}") == "subject"


def test_an_unknown_kind_is_rejected() -> None:
    assert reject(subject("gossip"), b"{}") == "kind"


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 10_000, b'{"at": 1e999, "tunnels": []}', b'{"tunnels": 5}'],
)
def test_an_invalid_report_is_malformed(payload: bytes) -> None:
    assert reject(subject("report"), payload) == "malformed"


def test_a_payload_above_the_limit_is_not_even_parsed() -> None:
    assert reject(subject("report"), b"x" * (MAX_PAYLOAD + 1)) == "too-large"


TUNNEL: dict[str, Any] = {"name": "t", "state": "up"}
NO_ZONE = "2026-01-02T03:04:05"
SA: dict[str, Any] = {"spi_in": "00000001", "spi_out": "00000002", "cipher": "aes256gcm16"}


@pytest.mark.parametrize(
    "report",
    [
        {"at": "2026-01-02T03:04:05", "tunnels": []},
        {"at": AT, "tunnels": [TUNNEL] * 2_001},
        {"at": AT, "tunnels": [], "parts": 1_000},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "ike_cipher": "x" * 257}}]},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "remote_address": "x" * 257}}]},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "children": [{**SA, "cipher": "x" * 257}]}}]},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "children": [{**SA, "key_exchange": "x" * 257}]}}]},
        {
            "at": AT,
            "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "children": [{**SA, "local_ts": ["10.0.0.0/8"] * 257}]}}],
        },
        {"at": AT, "tunnels": [], "part": 3, "parts": 2},
        {"at": AT, "tunnels": [], "dpd_failures": 2**63},
        {"at": AT, "tunnels": [{**TUNNEL, "rekeys": 10**400}]},
        {"at": AT, "tunnels": [{**TUNNEL, "traffic": {"bytes_in": 2**64}}]},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "children": [SA] * 65}}]},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "children": [{**SA, "expires_in": -(2**70)}]}}]},
        {"at": AT, "tunnels": [{**TUNNEL, "since": NO_ZONE}]},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "ike_established_at": NO_ZONE}}]},
        {"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "children": [{**SA, "established_at": NO_ZONE}]}}]},
    ],
)
def test_a_report_beyond_its_bounds_is_rejected(report: dict[str, Any]) -> None:
    assert reject(subject("report"), report) == "out-of-bounds"


@pytest.mark.parametrize("duration", [b"1e999", b"NaN", b"1e30"])
def test_a_duration_that_is_not_a_number_is_rejected(duration: bytes) -> None:
    body = b'{"at":"%s","epoch":1,"revision":1,"ok":true,"delivered_at":"%s","duration_ms":%s}' % (
        AT.encode(), AT.encode(), duration,
    )  # fmt: skip
    assert reject(subject("applied"), body) in ("out-of-bounds", "malformed")


def test_a_report_within_its_bounds_is_accepted() -> None:
    payload = json.dumps({"at": AT, "tunnels": [{**TUNNEL, "link": {"kind": "ipsec", "children": [SA]}}]}).encode()
    assert isinstance(parse(subject("report"), payload, place(1)).body, Report)


TEXTS = st.sampled_from(['},{"name":', '"tunnels":[', "}]", "\\", "plain", "\u00fc", '{"'])
UNKNOWN = st.sampled_from([
    {}, {"more": [{"name": "x"}, {"name": "y", "state": "up"}]}, {"tunnels": [{"name": "evil", "state": "up"}]},
    {"x": {"tunnels": [{"name": "evil", "state": "up"}]}}, {"detail": "longer than it may be" * 40},
])  # fmt: skip


@given(
    st.lists(st.tuples(TEXTS, UNKNOWN), max_size=3),
    UNKNOWN,
    UNKNOWN,
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
)
def test_a_report_that_is_taken_apart_is_read_as_the_whole_is(
    tunnels: list[tuple[str, dict[str, Any]]],
    before: dict[str, Any],
    after: dict[str, Any],
    marks: tuple[str, str],
    twice: bool,
) -> None:
    listed = [{"name": f"t{n}", "state": "down", "detail": text, **more} for n, (text, more) in enumerate(tunnels)]
    body = {**before, "at": AT, "tunnels": listed} | {key: value for key, value in after.items() if key != "tunnels"}
    payload = json.dumps(body, separators=marks, ensure_ascii=False).encode()
    if twice:  # a key that is there twice: the last one counts
        payload = payload[:-1] + b',"tunnels":[{"name":"last","state":"up"}]}'
    try:
        whole = read(BoundedReport, payload)
    except ValidationError:
        assert reject(subject("report"), payload) in ("malformed", "out-of-bounds")
        return
    found = parse(subject("report"), payload, place(1))
    assert found.body == whole
    if found.encoded:
        assert tuple(BoundedTunnel.model_validate_json(it) for it in found.encoded) == whole.tunnels


def test_a_report_as_agents_write_it_is_taken_apart() -> None:
    sent = Report(at=START, tunnels=(status("a", link={"children": [SA, SA]}), status("b", "down", detail='"}]')))
    found = parse(subject("report"), sent.model_dump_json().encode(), place(1))
    assert found.encoded == tuple(it.model_dump_json().encode() for it in sent.tunnels)


def test_a_pull_is_far_below_the_servers_max_pending() -> None:
    pending = 64 << 20  # bytes: max_pending of nats-server, which disconnects a client with more to read
    assert BATCH * TELEMETRY.max_message < pending / 4
    assert HEARTBEAT_BATCH * PRESENCE.max_message < pending / 4


def test_a_derived_name_belongs_to_its_two_ends() -> None:
    ends = {"berlin": frozenset({"gw1", "hub-1"}), "partner": frozenset({"gw1"})}
    for peer, tunnel, expected in (
        ("gw1", "gw1+hub-1", True), ("hub-1", "gw1+hub-1", True), ("gw2", "gw1+hub-1", False), ("gw1", "berlin", True),
        ("gw2", "berlin", False), ("hub-1", "partner", False), ("gw2", "of-no-policy-yet", True),
    ):  # fmt: skip
        assert may_report(peer, tunnel, ends) is expected


def test_only_what_is_earlier_by_sequence_and_time_is_old() -> None:
    held = MessageSource(10, START)
    assert not place(9, -1).follows(held)
    assert not held.follows(held)
    assert place(11, 1).follows(held)
    assert place(11, -5).follows(held)  # the server's clock was set back
    assert place(1, 60).follows(held)  # the stream was re-created
    assert place(1).follows(None)

"""The pure parts of the userspace driver: what it refuses, what the daemon gets, what is reported."""

import subprocess
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.drivers.userspace.checks import FEATURES, capabilities, check
from warren_agent.drivers.userspace.specification import build_specification
from warren_agent.drivers.userspace.status import DaemonTunnelRecord
from warren_agent.errors import ConfigRefusedError
from warren_contracts.status import EvidenceKind, ReasonCode, TunnelState
from warren_ikev2.algorithms import ALGORITHMS
from warren_ikev2.daemon import messages
from warren_ikev2.daemon.build import build_connection, tunnel_of
from warren_ikev2.selectors import TrafficSelector
from warren_testkit.intent import ipsec_tunnel

NOW = datetime(2026, 11, 29, tzinfo=UTC)
CHILD = messages.ChildReport(
    "net", 1, 2, "aes256gcm16", "x25519", True, 3.0, (TrafficSelector.parse("10.0.0.0-10.0.0.5"),),
    (TrafficSelector.parse("10.1.0.0/24"),), 1, 2, 3, 4,
)  # fmt: skip


def report(**changes: Any) -> messages.TunnelReport:
    fields: dict[str, Any] = {
        "name": "t", "state": "up", "converged": True, "reason": "", "by_peer": False, "detail": "",
        "ike_cipher": "aes256gcm16-prfsha384-x25519", "age_seconds": 5.0, "local_address": "192.0.2.1",
        "remote_address": "192.0.2.2", "children": (CHILD,), "bytes_in": 10, "bytes_out": 20, "packets_in": 1,
        "packets_out": 2, "rekeys": 3, "rekey_seconds": 0.2,
    }  # fmt: skip
    return messages.TunnelReport(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"child": {"mode": "transport"}}, "options.child.mode"),
        ({"child": {"ipcomp": True}}, "ipcomp"),
        ({"child": {"copy_dscp": "yes"}}, "copy_dscp"),
        ({"child": {"tfc_padding": 100}}, "tfc_padding"),
        ({"child": {"remote_ts": ["dynamic[tcp/80]"]}}, "remote_ts"),
        ({"ike": {"childless": "force"}}, "childless"),
        ({"ike": {"vips": ["10.5.0.1", "10.5.0.2"]}}, "vips"),
        ({"link": {"xfrm": {"if_id_in": 5}}}, "xfrm"),
        ({"remote_endpoints": ["gw.example.org"]}, "remote_endpoints"),
    ],
)
def test_what_the_daemon_does_not_have_is_refused(changes: dict[str, Any], field: str) -> None:
    check(ipsec_tunnel())
    with pytest.raises(ConfigRefusedError, match=field):
        check(ipsec_tunnel(**changes))


def test_a_psk_is_refused() -> None:
    auth = {"kind": "psk", "identity": "fqdn:a", "secret": "s"}
    with pytest.raises(ConfigRefusedError, match="raw keys only"):
        check(ipsec_tunnel(link={"local_auth": auth}))


def test_a_specification_is_one_that_the_engine_takes() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    config = ipsec_tunnel(child={"remote_ts": ["10.9.0.1-10.9.0.7[tcp/443]"], "local_ts": ["dynamic"]})
    check(config)
    specification = build_specification(config)
    connection = build_connection(specification, 3, Ed25519PrivateKey.generate())
    assert tunnel_of(connection.name) == (config.name, 3)
    (child,) = connection.children
    assert child.local_ts == ()
    (selector,) = child.remote_ts
    assert str(selector) == "10.9.0.1-10.9.0.7[6/443-443]"
    assert not connection.initial_contact
    assert connection.force_udp_encapsulation


def test_virtual_addresses_are_requested_and_assigned() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    asking = ipsec_tunnel(ike={"vips": ["0.0.0.0", "fd00::5"]}, child={"local_ts": ["dynamic"]})  # noqa: S104 - any
    check(asking)
    had = (ip_address("10.200.0.7"), ip_address("fd00::9"))
    first, again = (build_connection(build_specification(asking), 1, key, assigned) for assigned in ((), had))
    assert first.request_addresses == again.request_addresses == (4, 6)
    # the one that the policy names, and of the other version the one that the tunnel has had
    assert first.preferred_addresses == (ip_address("fd00::5"),)
    assert again.preferred_addresses == (ip_address("10.200.0.7"), ip_address("fd00::5"))
    assigning = ipsec_tunnel(ike={"pools": ["10.200.0.0/24"]}, child={"remote_ts": ["dynamic"]})
    check(assigning)
    specification = build_specification(assigning)
    assert messages.parse(messages.build(1, messages.Put(specification))) == (1, messages.Put(specification))
    pool = build_connection(specification, 1, key).address_pool
    assert pool is not None
    assert ([str(network) for network in pool.networks], pool.required, pool.keep) == (["10.200.0.0/24"], True, True)
    record = DaemonTunnelRecord(asking.name, asking)
    record.take(report(local_vips=had), NOW)
    assert record.status(NOW).link.local_vips == had


def test_every_algorithm_that_is_announced_is_known() -> None:
    document = capabilities("1")
    assert document.kind == "userspace"
    assert document.features == FEATURES
    assert {*document.ike, *document.esp} <= set(ALGORITHMS)


def test_a_report_becomes_a_status() -> None:
    config = ipsec_tunnel()
    record = DaemonTunnelRecord(config.name, config)
    assert record.status(NOW).state is TunnelState.DOWN
    record.take(report(), NOW)
    status = record.status(NOW)
    assert (status.state, status.reason, status.rekeys, record.converged) == (TunnelState.UP, ReasonCode.NONE, 3, True)
    assert (status.traffic.bytes_out, status.rekey_seconds) == (20, 0.2)
    (child,) = status.link.children
    assert (child.spi_in, child.spi_out, child.cipher, child.esn) == ("00000001", "00000002", "aes256gcm16", True)
    assert [str(it) for it in (*child.local_ts, *child.remote_ts)] == ["10.0.0.0-10.0.0.5", "10.1.0.0/24"]
    assert status.evidence.kind is EvidenceKind.NONE
    record.take(report(packets_in=2), NOW)
    assert record.status(NOW).evidence.at == NOW


@pytest.mark.parametrize(
    ("code", "by_peer", "reason"),
    [
        ("AUTHENTICATION_FAILED", True, ReasonCode.LOCAL_AUTH_FAILED),
        ("AUTHENTICATION_FAILED", False, ReasonCode.PEER_AUTH_FAILED),
        ("NO_PROPOSAL_CHOSEN", False, ReasonCode.PROPOSAL_MISMATCH_IKE),
        ("TS_UNACCEPTABLE", False, ReasonCode.TS_MISMATCH),
        ("PeerNotRespondingError", False, ReasonCode.PEER_UNREACHABLE),
        ("something new", False, ReasonCode.OTHER),
    ],
)
def test_a_failure_has_its_reason(code: str, by_peer: bool, reason: ReasonCode) -> None:
    record = DaemonTunnelRecord("t")
    record.take(report(state="error", converged=False, reason=code, by_peer=by_peer, children=()), NOW)
    assert record.status(NOW).reason is reason


def test_the_daemon_unavailable_is_the_reason_of_every_tunnel() -> None:
    record = DaemonTunnelRecord("t")
    record.take(report(), NOW)
    before = record.key()
    record.report, record.reason, record.detail = None, ReasonCode.DAEMON_UNREACHABLE, "connect: gone"
    assert record.key() != before
    status = record.status(NOW)
    assert (status.state, status.reason, status.detail) == (
        TunnelState.DOWN, ReasonCode.DAEMON_UNREACHABLE, "connect: gone",
    )  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [messages.Hello(bytes(32)), messages.List(), messages.Done("x"), messages.Refused("invalid", "why"), report()],
    ids=lambda message: type(message).__name__,
)
def test_a_message_survives_the_way(message: messages.Message) -> None:
    assert messages.parse(messages.build(7, message)) == (7, message)


def test_the_private_key_is_in_no_repr() -> None:
    assert "11" * 32 not in repr(messages.Hello(b"\x11" * 32))
    assert repr(b"\x11" * 32) not in repr(messages.Hello(b"\x11" * 32))


@given(st.binary(max_size=200))
def test_any_line_is_a_message_or_refused(line: bytes) -> None:
    try:
        messages.parse(line)
    except messages.DaemonMessageError:
        return


def test_the_driver_imports_no_cryptography() -> None:
    """The agent stays small: the engine and numpy are in the daemon's and the data process's memory only."""
    code = (
        "import sys, warren_agent.drivers.userspace.driver;"
        "print(*(name for name in ('cryptography', 'numpy', 'warren_ikev2.endpoint') if name in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == []

"""list-sas as charon 5.9.8 writes it, read into what is reported; and the counters over a rekeying."""

from collections.abc import Mapping
from datetime import UTC, datetime

from warren_agent.drivers.strongswan.connections import HandleName
from warren_agent.drivers.strongswan.convergence import DesiredHandles
from warren_agent.drivers.strongswan.reasons import may_have_reason, parse_log_line
from warren_agent.drivers.strongswan.sas import parse_ike_sas
from warren_agent.drivers.strongswan.tunnel_record import SaCounters, TunnelRecord
from warren_agent.drivers.strongswan.vici_codec import Message, Section, build_message, parse_message
from warren_contracts.status import ReasonCode, TunnelState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def child_section(unique_id: int, state: str, bytes_in: int) -> dict[str, str | list[str]]:
    return {
        "name": "hub+spoke.net~5", "uniqueid": str(unique_id), "reqid": "1", "state": state, "mode": "TUNNEL",
        "protocol": "ESP", "spi-in": "c1f2a3b4", "spi-out": "9abcdef0", "encr-alg": "AES_GCM_16", "encr-keysize": "256",
        "dh-group": "CURVE_25519", "esn": "1", "bytes-in": str(bytes_in), "packets-in": "2", "bytes-out": "84",
        "packets-out": "1", "rekey-time": "3100", "life-time": "3900", "install-time": "60",
        "local-ts": ["10.2.0.0/24"],
        "remote-ts": ["10.1.0.0/24[tcp/443]", "10.5.0.1/32", "10.6.0.0/24[tcp/ssh]",
            "10.7.0.0/24[icmp/8]", "10.8.0.0/24[x/y]", "10.9.0.1..10.9.0.9[udp/1024-2048]"],
    }  # fmt: skip


def event(*children: Mapping[str, str | list[str]]) -> Section:
    section: Message = {
        "hub+spoke~3": {
            "uniqueid": "7", "version": "2", "state": "ESTABLISHED", "local-host": "192.0.2.2", "local-port": "4500",
            "remote-host": "192.0.2.1", "remote-id": "hub", "initiator": "yes", "encr-alg": "AES_CBC",
            "encr-keysize": "256", "integ-alg": "HMAC_SHA2_256_128", "prf-alg": "PRF_HMAC_SHA2_384",
            "dh-group": "ECP_256_BP", "established": "61",
            "child-sas": {f"hub+spoke.net~5-{child['uniqueid']}": child for child in children},
        }
    }  # fmt: skip
    return parse_message(build_message(section))


def test_ike_sa_and_child_are_read_as_the_field_writes_them() -> None:
    (sa,) = parse_ike_sas(event(child_section(10, "INSTALLED", 168)))
    assert (sa.handle, sa.unique_id, sa.cipher) == (HandleName("hub+spoke", 3), 7, "aes256-sha256-prfsha384-ecp256bp")
    (child,) = sa.carrying(HandleName("hub+spoke", 5, "net"))
    info = child.info(NOW)
    assert (info.spi_in, info.spi_out, info.cipher, info.key_exchange) == (
        "c1f2a3b4",
        "9abcdef0",
        "aes256gcm16",
        "x25519",
    )
    assert info.esn
    assert [str(it) for it in info.remote_ts] == [
        "10.1.0.0/24[tcp/443]",
        "10.5.0.1/32",
        "10.6.0.0/24[tcp/22]",
        "10.7.0.0/24[icmp]",
        "10.9.0.1-10.9.0.9[udp/1024-2048]",
    ]
    assert (info.traffic.bytes_in, info.rekey_in, info.expires_in) == (168, 3100, 3900)


def test_additional_key_exchanges_are_reported_as_in_proposals() -> None:
    # as strongSwan 6.1 lists them
    child = child_section(10, "INSTALLED", 1) | {"ake1": "ML_KEM_768"}
    (sa,) = parse_ike_sas({"hub+spoke~3": {"dh-group": b"CURVE_25519", "ake1": b"ML_KEM_768", "ake2": b"CURVE_448"}})
    assert sa.cipher == "x25519-ke1_mlkem768-ke2_x448"
    ((found,),) = (sa.children for sa in parse_ike_sas(event(child)))
    assert found.key_exchange == "x25519-ke1_mlkem768"


def test_event_with_nothing_in_it_is_read_without_error() -> None:
    assert parse_ike_sas({}) == []
    (sa,) = parse_ike_sas({"foreign": {}})
    assert (sa.handle, sa.children, sa.up) == (None, (), False)


def test_counters_survive_rekeying() -> None:
    counters = SaCounters()
    counters.observe(parse_ike_sas(event(child_section(10, "INSTALLED", 100))))
    counters.observe(parse_ike_sas(event(child_section(10, "REKEYED", 150), child_section(11, "INSTALLED", 5))))
    assert counters.total.bytes_in == 155
    counters.observe(parse_ike_sas(event(child_section(11, "INSTALLED", 20))))
    assert counters.total.bytes_in == 170
    counters.observe([])
    assert counters.total.bytes_in == 170


def test_status_carries_no_generation() -> None:
    handle = HandleName("hub+spoke", 3)
    record = TunnelRecord("hub+spoke", DesiredHandles(handle, (HandleName("hub+spoke", 5, "net"),), owner=True))
    record.observe(parse_ike_sas(event(child_section(10, "INSTALLED", 1))), clock=5.0)
    status = record.status(NOW)
    assert (status.name, status.state, status.initiator) == ("hub+spoke", TunnelState.UP, True)
    assert "~" not in status.model_dump_json()
    assert record.converged_for(8.0) == 3.0


def test_first_specific_reason_of_an_attempt_stands() -> None:
    handle = HandleName("t", 1)
    record = TunnelRecord("t", DesiredHandles(handle, (handle,), owner=True))
    assert record.explain(ReasonCode.PEER_UNREACHABLE, "no answer")
    assert record.explain(ReasonCode.PROPOSAL_MISMATCH_CHILD, "esp")
    assert not record.explain(ReasonCode.TS_MISMATCH, "what follows from it")
    assert record.reason is ReasonCode.PROPOSAL_MISMATCH_CHILD
    record.attempt_explained = False
    assert not record.explain(ReasonCode.OTHER, "nothing new")
    assert record.explain(ReasonCode.TS_MISMATCH, "another attempt")


def test_log_lines_of_5_9_8_report_their_reason() -> None:
    lines = {
        "received NO_PROPOSAL_CHOSEN notify error": ReasonCode.PROPOSAL_MISMATCH_IKE,
        "received NO_PROPOSAL_CHOSEN notify, no CHILD_SA built": ReasonCode.PROPOSAL_MISMATCH_CHILD,
        "received TS_UNACCEPTABLE notify, no CHILD_SA built": ReasonCode.TS_MISMATCH,
        "received AUTHENTICATION_FAILED notify error": ReasonCode.LOCAL_AUTH_FAILED,
        "no private key found for 'spoke'": ReasonCode.LOCAL_AUTH_FAILED,
        "giving up after 5 retransmits": ReasonCode.PEER_UNREACHABLE,
        "no trusted ED25519 public key found for 'hub'": ReasonCode.PEER_AUTH_FAILED,
    }
    for line, code in lines.items():
        reason = parse_log_line(line)
        assert reason is not None
        assert (reason.code, may_have_reason(line.encode())) == (code, True)
    assert parse_log_line("sending DPD request") is None
    assert not may_have_reason(b"sending DPD request")

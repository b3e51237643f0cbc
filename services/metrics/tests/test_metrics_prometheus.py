"""The exposition: states, reasons and evidence of tunnels as Prometheus reads them."""

from datetime import timedelta

from prometheus_client import CollectorRegistry, generate_latest

from warren_contracts.status import Evidence, EvidenceKind, ReasonCode
from warren_metrics.adapters.prometheus import FleetCollector, snapshot
from warren_testkit.metrics import START, Talk, status


def exposition(talk: Talk, later: timedelta = timedelta()) -> list[str]:
    registry = CollectorRegistry()
    registry.register(FleetCollector(lambda: snapshot(talk.fleet, talk.now + later)))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_degraded_tunnel_is_not_up_and_has_its_reason() -> None:
    talk = Talk()
    evidence = Evidence(kind=EvidenceKind.TRAFFIC, at=START)
    talk.report("gw1", status("t", "degraded", reason=ReasonCode.NARROWED, evidence=evidence), status("u", "up"))
    lines = exposition(talk)
    assert 'ipsec_tunnel_state{name="t",peer="gw1"} 0.0' in lines
    assert 'ipsec_tunnel_degraded{name="t",peer="gw1"} 1.0' in lines
    assert 'ipsec_tunnel_reason{name="t",peer="gw1",reason="narrowed"} 1.0' in lines
    assert 'ipsec_tunnel_evidence_timestamp_seconds{name="t",peer="gw1"} 1.767323045e+09' in lines
    assert 'ipsec_tunnel_state{name="u",peer="gw1"} 1.0' in lines
    assert 'ipsec_tunnel_degraded{name="u",peer="gw1"} 0.0' in lines
    assert not [
        line for line in lines if line.startswith(("ipsec_tunnel_reason", "ipsec_tunnel_evidence")) and '"u"' in line
    ]


def test_offline_peer_has_no_state_and_no_reason_and_a_deleted_tunnel_has_nothing() -> None:
    talk = Talk()
    talk.report("gw1", status("t", "degraded", reason=ReasonCode.NARROWED))
    offline = exposition(talk, later=timedelta(minutes=1))
    assert not [
        line
        for line in offline
        if line.startswith(("ipsec_tunnel_state", "ipsec_tunnel_degraded", "ipsec_tunnel_reason"))
    ]
    assert 'ipsec_tunnel_stale{name="t",peer="gw1"} 1.0' in offline
    talk.report("gw1")
    assert not [line for line in exposition(talk) if '"t"' in line]


def test_standby_has_a_metric_of_its_own_at_both_ends() -> None:
    talk = Talk()
    talk.report("gw1", status("t", "standby", peer="hub", initiator=True))
    talk.report("hub", status("t", "down", peer="gw1"), status("u", "down", peer="gw1"))
    lines = exposition(talk)
    for peer in ("gw1", "hub"):
        assert f'ipsec_tunnel_standby{{name="t",peer="{peer}"}} 1.0' in lines
        assert f'ipsec_tunnel_state{{name="t",peer="{peer}"}} 0.0' in lines
    assert 'ipsec_tunnel_standby{name="u",peer="hub"} 0.0' in lines

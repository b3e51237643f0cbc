"""The exposition: states, reasons and evidence of tunnels as Prometheus reads them."""

import gzip
from collections.abc import Callable
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from warren_contracts.status import Evidence, EvidenceKind, ReasonCode
from warren_contracts.telemetry import AttemptFailure
from warren_metrics.adapters.gzip_parts import assemble
from warren_metrics.adapters.prometheus import FleetScraper
from warren_metrics.domain import changed_names
from warren_testkit.metrics import START, Talk, sample_of, samples_of, status, text_of

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
STATES = ("warren_tunnel_up", "warren_tunnel_degraded", "warren_tunnel_reason")


class Exposed:
    """A fleet that is talked to, and one scraper for the whole test: what it keeps between scrapes is what is tested."""

    def __init__(self, *, aliases: bool = False) -> None:
        self.talk = Talk()
        self.later = timedelta()
        self.scraper = FleetScraper(
            self.talk.fleet, CollectorRegistry(), lambda: self.talk.now + self.later, aliases=aliases
        )

    async def lines(self) -> list[str]:
        return [line for line in (await text_of(self.scraper)).splitlines() if not line.startswith("#")]

    async def fresh(self) -> str:
        """A scrape by a scraper that has kept nothing."""
        self.talk.fleet.changed.invalidate()
        return await text_of(FleetScraper(self.talk.fleet, CollectorRegistry(), lambda: self.talk.now + self.later))


async def test_degraded_tunnel_is_not_up_and_has_its_reason() -> None:
    it = Exposed()
    evidence = Evidence(kind=EvidenceKind.TRAFFIC, at=START)
    it.talk.report("gw1", status("t", "degraded", reason=ReasonCode.NARROWED, evidence=evidence), status("u", "up"))
    lines = await it.lines()
    assert 'warren_tunnel_up{tunnel="t",peer="gw1"} 0' in lines
    assert 'warren_tunnel_degraded{tunnel="t",peer="gw1"} 1' in lines
    assert 'warren_tunnel_reason{tunnel="t",peer="gw1",reason="narrowed"} 1' in lines
    assert 'warren_tunnel_evidence_timestamp_seconds{tunnel="t",peer="gw1"} 1767323045.0' in lines
    assert 'warren_tunnel_up{tunnel="u",peer="gw1"} 1' in lines
    assert 'warren_tunnel_degraded{tunnel="u",peer="gw1"} 0' in lines
    assert not [
        line for line in lines if line.startswith(("warren_tunnel_reason", "warren_tunnel_evidence")) and '"u"' in line
    ]


async def test_offline_peer_has_no_state_and_no_reason_and_a_deleted_tunnel_has_nothing() -> None:
    it = Exposed()
    it.talk.report("gw1", status("t", "degraded", reason=ReasonCode.NARROWED))
    assert [line for line in await it.lines() if line.startswith(STATES)]
    it.later = timedelta(minutes=1)
    offline = await it.lines()
    assert not [line for line in offline if line.startswith(STATES)]
    assert 'warren_tunnel_stale{tunnel="t",peer="gw1"} 1' in offline
    it.later = timedelta()
    it.talk.report("gw1")
    assert not [line for line in await it.lines() if '"t"' in line]


async def test_standby_has_a_metric_of_its_own_at_both_ends() -> None:
    it = Exposed()
    it.talk.report("gw1", status("t", "standby", peer="hub", initiator=True))
    it.talk.report("hub", status("t", "down", peer="gw1"), status("u", "down", peer="gw1"))
    lines = await it.lines()
    for peer in ("gw1", "hub"):
        assert f'warren_tunnel_standby{{tunnel="t",peer="{peer}"}} 1' in lines
        assert f'warren_tunnel_up{{tunnel="t",peer="{peer}"}} 0' in lines
    assert 'warren_tunnel_standby{tunnel="u",peer="hub"} 0' in lines
    it.talk.report("gw1", status("t", "down", peer="hub", initiator=True))  # the other end's line follows
    assert 'warren_tunnel_standby{tunnel="t",peer="hub"} 0' in await it.lines()


async def test_what_is_kept_between_scrapes_equals_a_fresh_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed_names, "MAX_NAMES", 30)  # the last steps exceed it
    it = Exposed()
    steps: list[Callable[[], object]] = [
        lambda: it.talk.report("gw1", *(status(f"t{n}") for n in range(20))),
        lambda: it.talk.report("gw2", *(status(f"t{n}", "down") for n in range(5, 25))),
        lambda: it.talk.change("gw1", status("t3", "degraded", reason=ReasonCode.RP_FILTER)),
        lambda: it.talk.report("gw1", *(status(f"t{n}") for n in range(3, 8))),
        lambda: it.talk.presence("gw2", "stopping"),
        lambda: it.talk.fleet.remove("gw1"),
        lambda: it.talk.report("gw3", *(status(f"t{n}", rekeys=n) for n in range(40))),
        lambda: it.talk.report("gw2", status("t1")),
    ]
    for step in steps:
        step()
        kept = await text_of(it.scraper)
        assert samples_of(kept) == samples_of(await it.fresh())
        it.talk.fleet.changed.take()  # the fresh scraper has read them; the one that is tested has them too


async def test_openmetrics_is_valid_and_names_counters_without_total() -> None:
    it = Exposed(aliases=True)
    it.talk.report("gw1", status("t", rekeys=3))
    text = await text_of(it.scraper, OPENMETRICS)
    families = {family.name: family for family in openmetrics_families(text)}  # type: ignore[no-untyped-call]
    assert families["warren_tunnel_rekeys"].type == "counter"
    assert families["ipsec_tunnel_bytes_in"].type == "unknown"
    assert text.endswith("# EOF\n")


async def test_aliases_are_untyped_and_off_by_default() -> None:
    it = Exposed(aliases=True)
    it.talk.report("gw1", status("t", rekeys=3), policy_sync_errors=2)
    text = await text_of(it.scraper)
    assert "# TYPE ipsec_rekey_events_total untyped" in text
    assert 'ipsec_rekey_events_total{name="t",peer="gw1"} 3' in text
    assert 'ipsec_tunnel_state{name="t",peer="gw1"} 1' in text
    assert 'ipsec_policy_sync_errors_total{peer="gw1"} 2' in text
    assert "ipsec_" not in await it.fresh()


async def test_compressed_and_plain_scrapes_are_the_same() -> None:
    it = Exposed()
    it.talk.report("gw1", *(status(f"t{n}") for n in range(50)))
    _, parts = await it.scraper.scrape("")
    assert gzip.decompress(assemble(parts)) == b"".join(part.plain() for part in parts)


async def test_a_label_cannot_be_broken_by_what_an_agent_names_its_driver() -> None:
    it = Exposed()
    it.talk.presence("gw1", drivers=({"kind": 'x"} 1\nforged{a="\\', "state": "up"},))
    families = [line for line in await it.lines() if line.startswith("warren_daemon_up")]
    assert families == ['warren_daemon_up{peer="gw1",driver="x\\"} 1\\nforged{a=\\"\\\\"} 1']


async def test_drift_is_counted_for_its_peer() -> None:
    it = Exposed()
    for code in (ReasonCode.CONFIG_DRIFT, ReasonCode.CONFIG_DRIFT, ReasonCode.TS_MISMATCH):
        it.talk.say("gw1", "reason", AttemptFailure(at=START, tunnel="t", code=code))
    assert 'warren_peer_config_drifts_total{peer="gw1"} 2' in await it.lines()


async def test_counters_that_begin_again_are_shown_as_they_are() -> None:
    """A restarted agent counts from zero: Prometheus sees that as a reset, and loses nothing that was counted before."""
    talk = Talk()
    scraper = FleetScraper(talk.fleet, CollectorRegistry(), lambda: talk.now)
    for received, rekeys in ((5_000, 9), (70, 0), (90, 1)):
        talk.report("gw1", status("t", traffic={"bytes_in": received}, rekeys=rekeys, rekey_seconds=0.1))
        labels = {"tunnel": "t", "peer": "gw1"}
        assert await sample_of(scraper, "warren_tunnel_receive_bytes_total", **labels) == received
        assert await sample_of(scraper, "warren_tunnel_rekeys_total", **labels) == rekeys

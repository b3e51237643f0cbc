"""What is wrong with a tunnel, as a code: in the exposition once for each tunnel, and in the events of its changes."""

from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from warren_contracts.explanation import Cause
from warren_contracts.status import DriverState, DriverStatus, HostFacts, ReasonCode
from warren_metrics.adapters.prometheus import FleetScraper
from warren_testkit.metrics import Talk, samples_of, status, text_of

R = ReasonCode


def _causes(text: str) -> dict[tuple[str, str], str]:
    found = (dict(labels) for name, labels in samples_of(text) if name == "warren_tunnel_cause")
    return {(labels["tunnel"], labels["peer"]): labels["cause"] for labels in found}


async def test_the_exposition_has_one_cause_for_each_tunnel_that_is_not_plainly_up() -> None:
    talk = Talk()
    scraper = FleetScraper(talk.fleet, CollectorRegistry(), lambda: talk.now)
    for peer in ("hub", "spoke"):
        talk.presence(peer)
    refused = status("t", "error", reason=R.PROPOSAL_MISMATCH_IKE, peer="hub", initiator=True)
    talk.report("spoke", refused, status("fine", peer="hub"))
    talk.report("hub", status("t", "down", peer="spoke"), status("fine", peer="spoke"))
    assert _causes(await text_of(scraper)) == {("t", "hub"): "proposal-mismatch-ike"}
    talk.change("spoke", status("t", "error", reason=R.PEER_UNREACHABLE, peer="hub", initiator=True))
    assert _causes(await text_of(scraper)) == {("t", "hub"): "blocked-udp-500"}
    talk.change("spoke", status("t", peer="hub"))
    assert _causes(await text_of(scraper)) == {("t", "hub"): "one-end-only"}
    talk.change("hub", status("t", peer="spoke"))
    assert _causes(await text_of(scraper)) == {}


async def test_a_cause_follows_what_happens_at_the_other_end_without_a_new_report() -> None:
    talk = Talk()
    later = timedelta()
    scraper = FleetScraper(talk.fleet, CollectorRegistry(), lambda: talk.now + later)
    for peer in ("hub", "spoke"):
        talk.presence(peer)
    talk.report("hub", status("t", "down", peer="spoke"))
    talk.report("spoke", status("t", "error", reason=R.PEER_UNREACHABLE, peer="hub", initiator=True))
    assert _causes(await text_of(scraper)) == {("t", "hub"): "blocked-udp-500"}
    talk.presence("hub", "stopping")
    assert _causes(await text_of(scraper)) == {("t", "hub"): "peer-silent"}
    later = timedelta(hours=1)
    assert _causes(await text_of(scraper)) == {("t", "hub"): "agents-silent"}


def test_an_event_carries_the_cause_by_both_ends() -> None:
    talk = Talk()
    for peer in ("hub", "spoke"):
        talk.presence(peer)
    talk.report("hub", status("t", "connecting", peer="spoke"))
    failed = status("t", "error", reason=R.PEER_UNREACHABLE, peer="hub", initiator=True)
    (event,) = talk.change("spoke", failed).events
    assert getattr(event, "cause", None) is Cause.BLOCKED_UDP_4500
    (event,) = talk.change("spoke", failed, removed=True).events
    assert getattr(event, "cause", "") is None


@pytest.mark.parametrize(
    ("facts", "reason", "cause"),
    [
        ({"host": HostFacts(behind_nat=True)}, R.PEER_NOT_ANSWERING, Cause.NAT_MAPPING_LOST),
        ({}, R.PEER_NOT_ANSWERING, Cause.PATH_LOST),
        (
            {"drivers": (DriverStatus(kind="strongswan", state=DriverState.UNREACHABLE),)},
            R.PEER_UNREACHABLE,
            Cause.DAEMON_UNREACHABLE,
        ),
    ],
)
def test_what_agents_say_of_their_hosts_decides(facts: dict[str, object], reason: ReasonCode, cause: Cause) -> None:
    talk = Talk()
    talk.presence("hub", **facts)
    talk.presence("spoke")
    talk.report("hub", status("t", "down", peer="spoke"))
    (event,) = talk.change("spoke", status("t", "degraded", reason=reason, peer="hub", initiator=True)).events
    assert getattr(event, "cause", None) is cause

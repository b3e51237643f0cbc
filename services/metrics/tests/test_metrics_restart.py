"""Counters after a restart: shown where they are certain, else without a line until the next report."""

from prometheus_client import CollectorRegistry

from warren_contracts.status import TrafficStats
from warren_metrics.adapters.prometheus import FleetScraper
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.peers import TunnelView
from warren_testkit.metrics import Talk, sample_of, status

COUNTERS = ("warren_tunnel_receive_bytes_total", "warren_tunnel_rekeys_total", "warren_tunnel_restarts_total")


def restarted(talk: Talk, tunnels: dict[tuple[str, str], TunnelView]) -> Talk:
    """The service after a restart with these rows of the tunnels."""
    again = Talk()
    again.sequence = talk.sequence
    again.fleet.restore(dict(talk.fleet.peers), tunnels)
    return again


def rows(fleet: FleetTelemetry) -> dict[tuple[str, str], TunnelView]:
    return {(peer, name): view for name, ends in fleet.tunnels.items() for peer, view in ends.items()}


async def shown(talk: Talk, peer: str, aliases: bool = False) -> list[float | None]:
    """The counters of the peer's end of the tunnel `t`."""
    scraper = FleetScraper(talk.fleet, CollectorRegistry(), lambda: talk.now, aliases=aliases)
    if aliases:
        return [await sample_of(scraper, "ipsec_tunnel_bytes_in", name="t", peer=peer)]
    return [await sample_of(scraper, name, tunnel="t", peer=peer) for name in COUNTERS]


def received(number: int) -> TrafficStats:
    return TrafficStats(bytes_in=number)


async def test_counters_of_a_peer_that_was_online_wait_for_its_next_report() -> None:
    talk = Talk()
    talk.report("gw1", status("t", traffic=received(7), rekeys=2))
    again = restarted(talk, rows(talk.fleet))
    assert await shown(again, "gw1") == [None, None, None]
    assert await shown(again, "gw1", aliases=True) == [None]
    again.report("gw1", status("t", traffic=received(9), rekeys=2))
    assert await shown(again, "gw1") == [9, 2, 0]


async def test_counters_of_a_peer_that_was_offline_are_shown_unless_its_row_is_older_than_its_last_message() -> None:
    talk = Talk()
    talk.report("gw1", status("t", traffic=received(7)))
    old = rows(talk.fleet)
    talk.report("gw1", status("t", traffic=received(9)))
    newest = rows(talk.fleet)
    talk.sequence += 60  # gw1 is offline
    talk.presence("gw2")
    assert await shown(restarted(talk, newest), "gw1") == [9, 0, 0]
    assert await shown(restarted(talk, old), "gw1") == [None, None, None]

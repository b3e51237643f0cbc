"""`warren trust`, and gateways whose intent no digest confirms, against an API server on a real socket."""

import json

from warren_contracts.peers import PeerHost
from warren_contracts.status import HostFacts
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run


def test_the_keys_that_other_systems_pin_are_shown(run: Run) -> None:
    shown = dict(line.rsplit(maxsplit=1) for line in run("trust").stdout.splitlines())
    found = json.loads(run("trust", "--json").stdout)
    assert shown["trust root"] == found["root"]
    assert shown["policy"] == json.loads(found["trust"]["payload"])["policy"]


def test_a_gateway_whose_digests_are_withheld_is_shown_as_stale(run: Run, api: LiveApi) -> None:
    api.bus.remarks = {"intents": "stale at gw001"}
    for peer, seconds in (("gw001", 301.0), ("gw002", 60.0)):
        found = api.bus.add_peer(peer)
        api.bus.peers[peer] = found.model_copy(update={"host": HostFacts(intent_unconfirmed_s=seconds)})
    states = {line.split()[0]: "stale" in line for line in run("peers").stdout.splitlines()[1:]}
    assert states == {"gw001": True, "gw002": False}
    assert "stale: no digest of the registry for 301 s" in run("peers", "show", "gw001").stdout
    assert "intent stale" in run("status", code=3, lines=0).stdout
    tunnel = api.bus.add_tunnel("gw001+gw002").model_copy(update={"unconfirmed": ("gw001",)})
    api.bus.tunnels["gw001+gw002"] = tunnel
    assert "gw001: intent stale" in run("tunnels").stdout
    assert "registry/intents   look   stale at gw001" in run("health").stdout


def test_two_hosts_with_one_identity_are_named_with_the_remedy(run: Run, api: LiveApi) -> None:
    hosts = (
        PeerHost(name="rack-1", address="192.0.2.1", holds_record=True),
        PeerHost(name="rack-2", address="198.51.100.7"),
    )
    found = api.bus.add_peer("gw001")
    api.bus.peers["gw001"] = found.model_copy(update={"hosts": hosts, "connections": 2})
    words = (
        "identity in use by two hosts: rack-1 at 192.0.2.1 (the record is its); rack-2 at 198.51.100.7. On the one that"
    )
    assert "online, two hosts" in run("peers").stdout
    shown = run("peers", "show", "gw001").stdout
    assert words in shown
    assert "rack-2 at 198.51.100.7, connected since -" in shown
    assert words in run("status", code=3, lines=0).stdout

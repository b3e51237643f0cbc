"""`warren trust`, and gateways whose intent no digest confirms, against an API server on a real socket."""

import json

from warren_contracts.status import HostFacts
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run


def test_the_keys_that_other_systems_pin_are_shown(run: Run) -> None:
    shown = dict(line.rsplit(maxsplit=1) for line in run("trust").stdout.splitlines())
    found = json.loads(run("trust", "--json").stdout)
    assert shown["trust root"] == found["root"]
    assert shown["policy"] == json.loads(found["trust"]["payload"])["policy"]


def test_a_gateway_whose_digests_are_withheld_is_shown_as_stale(run: Run, api: LiveApi) -> None:
    for peer, seconds in (("gw001", 301.0), ("gw002", 60.0)):
        found = api.bus.add_peer(peer)
        api.bus.peers[peer] = found.model_copy(update={"host": HostFacts(intent_unconfirmed_s=seconds)})
    states = {line.split()[0]: "stale" in line for line in run("peers").stdout.splitlines()[1:]}
    assert states == {"gw001": True, "gw002": False}
    assert "stale: no digest of the registry for 301 s" in run("peers", "show", "gw001").stdout
    assert "intent stale" in run("status", code=3, lines=0).stdout

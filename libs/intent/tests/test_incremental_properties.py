"""Incremental expansion has the result of the full one, for any policies, directories and edits."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_intent.candidates import Candidate
from warren_intent.check import check_derived
from warren_intent.derivation import Derivation
from warren_intent.expand import explain
from warren_intent.fleet_tunnels import FleetTunnels
from warren_intent.incremental import Expander
from warren_intent.plan import plan, plan_between
from warren_testkit.examples import examples
from warren_testkit.intent import directory, published, record

PEERS = ("a", "b", "c", "d", "e", "f")
READERS = st.sampled_from(["all", "tag=hub", "tag=branch", "peer=a", "peer=b", "peer=e"])
SOME = st.lists(READERS, min_size=1, max_size=2)
NETWORKS = [(ip_network(text),) for text in ("10.0.0.0/8", "10.0.1.0/24", "10.0.1.128/25", "0.0.0.0/0", "192.0.2.0/24")]
CHANGES = [
    {}, {}, {}, {"withdrawn": True}, {"endpoints": ()}, {"public_key": None}, {"subnets": ()}, {"identity": "same"}, {"priority": 100},
    {"priority": 200}, {"driver": DriverCapabilities(ike=("aes256gcm16", "prfsha384", "ecp384"), features=("esn",))},
    *({"subnets": networks} for networks in NETWORKS),
]  # fmt: skip


@st.composite
def records(draw: st.DrawFn, peer: str) -> PeerRecord:
    changes: dict[str, Any] = {}
    for _ in range(2):
        changes |= draw(st.sampled_from(CHANGES))
    tags = draw(st.sampled_from([("hub",), ("branch",), ("branch",), ("hub", "branch"), ()]))
    return record(peer, PEERS.index(peer), *tags, **changes)


@st.composite
def intents(draw: st.DrawFn) -> list[PublishedPolicy]:
    policies = []
    for number in range(draw(st.integers(1, 3))):
        fields: dict[str, Any] = draw(
            st.one_of(
                st.fixed_dictionaries({"hubs": SOME, "spokes": SOME}),
                st.fixed_dictionaries({"hubs": SOME, "spokes": SOME, "transit": st.booleans()}),
                st.fixed_dictionaries({"members": SOME}),
                st.just({}),
            )
        )
        fields = {**fields, "priority": draw(st.integers(1, 3))}
        if len(fields) == 1 or draw(st.booleans()):
            fields["tunnels"] = [_explicit(draw, number, n) for n in range(draw(st.integers(1, 2)))]
        policies.append(published(f"p{number}", **fields))
    return policies


def _explicit(draw: st.DrawFn, number: int, n: int) -> dict[str, Any]:
    first, second = draw(st.permutations(PEERS))[:2]
    ends: list[dict[str, Any]] = [{"peer": first}, {"peer": second}]
    if draw(st.booleans()):
        ends[1] |= {"subnets": [str(draw(st.sampled_from(NETWORKS))[0])]}
    if draw(st.sampled_from([True, False, False])):
        ends[1] |= {"identity": "same"}
    name = draw(st.sampled_from([f"t{number}-{n}", f"t{number}-{n}", "t0-0"]))
    return {"name": name if n == 0 else f"t{number}-{n}", "ends": ends}


@given(data=st.data(), policies=intents(), me=st.sampled_from(PEERS))
@examples(150)
def test_any_edit_has_the_result_of_deriving_everything(
    data: st.DataObject, policies: list[PublishedPolicy], me: str
) -> None:
    peers = directory(*(data.draw(records(peer)) for peer in PEERS))
    expander = Expander(me)
    assert expander.explain(policies, peers) == explain(policies, peers, me)
    for _ in range(data.draw(st.integers(1, 5))):
        peer = data.draw(st.sampled_from(PEERS))
        peers = dict(peers)
        if data.draw(st.sampled_from([True, False, False])):
            peers.pop(peer, None)
        else:
            peers[peer] = data.draw(records(peer))
        if data.draw(st.sampled_from([True, *[False] * 5])):
            policies = data.draw(intents())
        assert expander.explain(policies, peers) == explain(policies, peers, me)


def _seen(tunnels: FleetTunnels, policies: list[PublishedPolicy]) -> Any:
    requests = [(it.candidate.name, it.candidate.path, it.derived) for it in tunnels.requests]
    return requests, tunnels.tunnels, check_derived([it.policy for it in policies], tunnels, ("hub", "branch"))


@given(data=st.data(), policies=intents())
@examples(100)
def test_tunnels_taken_over_from_an_earlier_set_are_those_of_deriving_everything(
    data: st.DataObject, policies: list[PublishedPolicy]
) -> None:
    peers = directory(*(data.draw(records(peer)) for peer in PEERS))
    tunnels = FleetTunnels(policies, peers)
    for _ in range(data.draw(st.integers(1, 4))):
        before, stated, peers = tunnels, policies, dict(peers)
        match data.draw(st.sampled_from(["peer", "peer", "policies", "policy", "nothing"])):
            case "peer":
                peer = data.draw(st.sampled_from(PEERS))
                peers[peer] = data.draw(records(peer))
            case "policies":
                policies = data.draw(intents())
            case "policy":
                policies = [data.draw(intents())[0], *policies[1:]]
            case _:
                peers = {peer: it.model_copy() for peer, it in peers.items()}  # read again
        tunnels = FleetTunnels(policies, peers, before)
        fresh = FleetTunnels(policies, peers)
        assert _seen(tunnels, policies) == _seen(fresh, policies)
        assert plan_between(FleetTunnels(stated, peers, before), tunnels) == plan(stated, policies, peers)


def count_derivations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the tunnels that are derived from now on."""
    derived: list[str] = []
    derive = Derivation.derive

    def counted(self: Derivation, candidate: Candidate, me: str, **options: Any) -> Any:
        derived.append(candidate.name)
        return derive(self, candidate, me, **options)

    monkeypatch.setattr(Derivation, "derive", counted)
    return derived


def test_one_changed_policy_derives_its_tunnels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = directory(record("hub", 0, "hub"), *(record(f"s{n}", n + 1, "branch") for n in range(50)))
    star = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
    pair = published("pair", sites=["peer=s1", "peer=s2"])
    before = FleetTunnels([star, pair], peers)
    derived = count_derivations(monkeypatch)
    other = published("pair", 2, sites=["peer=s1", "peer=s2"], crypto={"profile": "cnsa1"})
    peers = {peer: it.model_copy() for peer, it in peers.items()}
    after = FleetTunnels([star, other], peers, before)
    assert derived == ["s1+s2"]
    FleetTunnels([star, other], {**peers, "s7": record("s7", 900, "branch")}, after)
    assert derived == ["s1+s2", "hub+s7"]


def test_a_change_of_one_peer_derives_its_tunnel_only(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = directory(record("hub", 0, "hub"), *(record(f"s{n}", n + 1, "branch") for n in range(300)))
    policies = [published("star", hubs=["tag=hub"], spokes=["tag=branch"])]
    expander = Expander("hub")
    expander.explain(policies, peers)
    derived = count_derivations(monkeypatch)
    for changed in (record("s7", 8, "branch", endpoints=()), record("s7", 900, "branch"), record("s7", 8, "hub")):
        peers = {**peers, "s7": changed}
        found = expander.explain(policies, peers)
        assert set(derived) <= {"hub+s7"}
        derived.clear()
        assert len(found.tunnels) == (300 if "branch" in changed.tags else 299)

"""Properties of `expand` for any fleet and any policies: determinism, mirror, one initiator, order, priority."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.identities import canonical
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_contracts.subjects import readers_of
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import select_winners
from warren_intent.conflicts import Claimant, Precedence, conflicts_at, other_end, shared_at
from warren_intent.derivation import Derivation
from warren_intent.expand import expand, explain
from warren_intent.fleet import Fleet, current
from warren_intent.relations import readers, relations
from warren_testkit.examples import examples
from warren_testkit.intent import directory, public_key, published, record

PEERS = ("a", "b", "c", "d", "e")
TAGS = ("hub", "branch", "dmz")
READERS = st.sampled_from(["all", *(f"tag={tag}" for tag in TAGS), *(f"peer={peer}" for peer in PEERS)])
SOME_READERS = st.lists(READERS, min_size=1, max_size=2)
TOPOLOGIES = st.one_of(
    st.fixed_dictionaries({"hubs": SOME_READERS, "spokes": SOME_READERS, "transit": st.booleans()}),
    st.fixed_dictionaries({"sites": st.tuples(READERS, READERS)}),
    st.fixed_dictionaries({"members": SOME_READERS}),
)
SMALL = DriverCapabilities(ike=("aes256gcm16", "prfsha384", "ecp384"), features=("esn",))
OPTIONS = st.sampled_from([{}, {"child": {"rekey_time": 600}}, {"ike": {"mobike": True}}])
CHILDREN = st.sampled_from(
    [
        {},
        {"children": [{"name": "web", "protocol": "tcp", "ports": [443, "any"]}, {"name": "voice", "protocol": "udp"}]},
    ]
)


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, PeerRecord]:
    records = []
    for number, peer in enumerate(PEERS):
        changes: dict[str, Any] = {"withdrawn": draw(st.sampled_from([False, False, False, True]))}
        changes |= {"endpoints": ()} if draw(st.booleans()) else {}
        changes |= draw(st.sampled_from([{}, {}, {}, {"public_key": None}, {"subnets": ()}]))
        changes |= draw(st.sampled_from([{}, {}, {"driver": SMALL}]))
        records.append(record(peer, number, *draw(st.sets(st.sampled_from(TAGS))), **changes))
    return directory(*draw(st.permutations(records)))


@st.composite
def intents(draw: st.DrawFn) -> list[PublishedPolicy]:
    policies = []
    for number in range(draw(st.integers(1, 3))):
        fields = dict(draw(TOPOLOGIES)) if draw(st.booleans()) else {}
        if not fields or draw(st.booleans()):
            fields["tunnels"] = [_explicit(draw, f"t{number}-{n}") for n in range(2)]
        policies.append(
            published(
                f"p{number}",
                revision=number + 1,
                priority=draw(st.sampled_from([100, 200])),
                enabled=draw(st.sampled_from([True, True, False])),
                options=draw(OPTIONS),
                **draw(CHILDREN),
                **fields,
            )
        )
    return policies


def _explicit(draw: st.DrawFn, name: str) -> dict[str, Any]:
    first, second = draw(st.permutations(PEERS))[:2]
    return {"name": name, "ends": [{"peer": first}, {"peer": second}], "options": draw(OPTIONS)}


def all_tunnels(policies: list[PublishedPolicy], fleet: dict[str, PeerRecord]) -> dict[str, dict[str, Tunnel]]:
    ends: dict[str, dict[str, Tunnel]] = {}
    for me in PEERS:
        for tunnel in expand(policies, fleet, me):
            ends.setdefault(tunnel.name, {})[me] = tunnel
    return ends


@given(intents(), fleets())
def test_both_ends_mirror_each_other_and_exactly_one_initiates(
    policies: list[PublishedPolicy], fleet: dict[str, PeerRecord]
) -> None:
    for ends in all_tunnels(policies, fleet).values():
        assert len(ends) == 2
        (own_id, own), (peer_id, peer) = ends.items()
        assert (own.peer, peer.peer) == (peer_id, own_id)
        assert own.initiator is not peer.initiator
        assert (own.policy, own.priority, own.auto_start) == (peer.policy, peer.priority, peer.auto_start)
        link, other = own.link, peer.link
        assert link.ike == other.ike
        assert (link.local_auth, link.remote_auth) == (other.remote_auth, other.local_auth)
        assert [it.model_copy(update={"local_ts": it.remote_ts, "remote_ts": it.local_ts}) for it in link.children] == [
            *other.children
        ]
        assert (own.local_endpoints, own.remote_endpoints) == (peer.remote_endpoints, peer.local_endpoints)
        assert own.remote_endpoints if own.initiator else own.local_endpoints


@given(intents(), fleets(), st.randoms())
def test_neither_repetition_nor_order_changes_the_answer(
    policies: list[PublishedPolicy], fleet: dict[str, PeerRecord], random: Any
) -> None:
    shuffled, records = list(policies), list(fleet.items())
    random.shuffle(shuffled)
    random.shuffle(records)
    for me in PEERS:
        answer = explain(policies, fleet, me)
        assert explain(shuffled, dict(records), me) == answer
        assert explain([*policies, *shuffled], fleet, me) == answer


@given(intents(), fleets())
def test_a_tunnel_is_derived_once_by_the_highest_priority(
    policies: list[PublishedPolicy], fleet: dict[str, PeerRecord]
) -> None:
    for me in PEERS:
        explained = explain(policies, fleet, me)
        peers = [tunnel.peer for tunnel in explained.tunnels]
        assert len(set(peers)) == len(peers)
        for tunnel in explained.tunnels:
            alone = [it for it in policies if any(t.peer == tunnel.peer for t in expand([it], fleet, me))]
            assert tunnel.priority == max(it.policy.priority for it in alone)


@given(intents(), fleets())
@examples(300)
def test_what_an_agent_may_read_is_enough(policies: list[PublishedPolicy], fleet: dict[str, PeerRecord]) -> None:
    present = {peer: it.tags for peer, it in fleet.items() if not it.withdrawn}
    related = relations(policies, present)
    for me, tags in present.items():
        mine = readers_of(me, tags)
        seen = {peer: fleet[peer] for reader in mine for peer in related.get(reader, ())}
        reported = [it for it in policies if readers(it.policy) & set(mine)]
        assert expand(reported, seen, me) == expand(policies, fleet, me)


NETWORKS = ("10.0.0.0/16", "10.0.0.0/24", "10.0.0.128/25", "10.0.1.0/24", "10.9.0.0/24", "fd00::/16", "fd00::/48")
SOME_NETWORKS = st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=2)
SPELLINGS = st.sampled_from([None, None, None, "x", "X", "@x", "b", "gw.example"])


@st.composite
def conflicting_fleets(draw: st.DrawFn) -> dict[str, PeerRecord]:
    """Peers that announce each other's networks and identities, as no registry would let them."""
    records = []
    for number, peer in enumerate(PEERS):
        changes: dict[str, Any] = {"subnets": draw(SOME_NETWORKS)} if draw(st.booleans()) else {}
        identity = draw(SPELLINGS)
        changes |= {"identity": identity} if identity else {}
        records.append(record(peer, number, *draw(st.sets(st.sampled_from(TAGS))), **changes))
    return directory(*records)


@st.composite
def giving_intents(draw: st.DrawFn) -> list[PublishedPolicy]:
    policies = draw(intents())
    for number in range(draw(st.integers(0, 3))):
        peer, other = draw(st.permutations(PEERS))[:2]
        given = {"subnets": draw(SOME_NETWORKS)} | draw(st.sampled_from([{}, {"identity": "X"}]))
        key = public_key("foreign")
        foreign = {
            "identity": draw(st.sampled_from(["x", "GW.example."])),
            "public_key": key,
            "addresses": ["203.0.113.9"],
        }
        end = draw(st.sampled_from([{"peer": other, **given}, {"subnets": given["subnets"], **foreign}]))
        tunnel = {"name": f"g{number}", "ends": [{"peer": peer}, end]}
        policies.append(published(f"g{number}", priority=draw(st.sampled_from([50, 300])), tunnels=[tunnel]))
    return policies


@given(giving_intents(), conflicting_fleets())
@examples(300)
def test_no_peer_has_two_tunnels_for_the_same_traffic_or_identity_and_both_ends_agree(
    policies: list[PublishedPolicy], fleet: dict[str, PeerRecord]
) -> None:
    found = {me: expand(policies, fleet, me) for me in PEERS}
    for me, tunnels in found.items():
        standing = {tunnel.name for tunnel in tunnels}
        claims = [it for it in claimants(policies, fleet, me) if it.tunnel.name in standing]
        assert {it.precedence for it in shared_at(claims)} <= {Precedence.LONGER_PREFIX, Precedence.STANDBY}
        names = [canonical(tunnel.link.remote_auth.identity) for tunnel in tunnels]
        assert len(set(names)) == len(names)
    for me, tunnels in found.items():
        for tunnel in tunnels:
            if tunnel.peer is not None:
                (other,) = (it for it in found[tunnel.peer] if it.peer == me)
                assert other.name == tunnel.name
                link, seen = other.link, tunnel.link
                assert [(it.local_ts, it.remote_ts) for it in link.children] == [
                    (it.remote_ts, it.local_ts) for it in seen.children
                ]


@given(giving_intents(), conflicting_fleets())
def test_a_policy_value_never_loses_to_an_announced_one(
    policies: list[PublishedPolicy], fleet: dict[str, PeerRecord]
) -> None:
    """No tunnel with values set by a policy loses a conflict to one with announced values only."""
    for me in PEERS:
        for conflict in conflicts_at(me, claimants(policies, fleet, me)).values():
            loser, winner = other_end(conflict.loser), other_end(conflict.winner)
            assert not ((loser.subnets or loser.identity) and not (winner.subnets or winner.identity))


def claimants(policies: list[PublishedPolicy], fleet: dict[str, PeerRecord], me: str) -> list[Claimant]:
    known = Fleet(fleet)
    derivation = Derivation(known)
    derived = (
        (candidate, derivation.derive(candidate, me)) for candidate in select_winners(current(policies), known, me)[0]
    )
    return [derivation.claimant(candidate, tunnel, me) for candidate, tunnel in derived if isinstance(tunnel, Tunnel)]


def test_a_hub_in_transit_and_its_spoke_agree_whatever_else_joins_two_spokes() -> None:
    """The hub does not read the policy of the spokes' own tunnel, which carries what transit would carry as well."""
    fleet = directory(*(record(peer, number) for number, peer in enumerate(("a", "b", "c"))))
    direct = published("direct", tunnels=[{"name": "direct", "ends": [{"peer": "a"}, {"peer": "c"}]}])
    star = published("star", hubs=["peer=b"], spokes=["all"], transit=True)
    as_the_hub_sees_it = expand([star], fleet, "b")
    assert [it.name for it in expand([direct, star], fleet, "a")] == ["a+b", "direct"]
    assert [it.name for it in as_the_hub_sees_it] == ["a+b", "b+c"]

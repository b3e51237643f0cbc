"""F8: an enrolled peer reported explicitly named tunnels that are not its own: an outage was shown as `up`, with 1e12 bytes."""

import asyncio

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_contracts import subjects
from warren_contracts.documents import SignerRole
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_metrics.domain.ends import ends_of
from warren_service.policy_follower import PolicyFollower
from warren_testkit.bus import SignedBytes
from warren_testkit.bus.accounts import Bus
from warren_testkit.metrics import Talk, status
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer

KEY = "A" * 43 + "="
FOREIGN = {"identity": "partner.example", "public_key": KEY, "subnets": ["10.9.0.0/16"], "addresses": ["192.0.2.9"]}


def policy(id_: str, *tunnels: tuple[str, str, str]) -> PublishedPolicy:
    """Explicit tunnels by name and ends; an end `-` is a foreign gateway."""
    specs = [
        {"name": name, "ends": [{"peer": first}, {"peer": second} if second != "-" else FOREIGN]}
        for name, first, second in tunnels
    ]
    return PublishedPolicy(revision=1, policy=Policy.model_validate({"id": id_, "tunnels": specs}))


def test_a_peer_reports_no_tunnel_of_others() -> None:
    talk = Talk()
    talk.fleet.set_ends(ends_of([policy("sites", ("berlin", "gw1", "hub"), ("partner", "gw1", "-"))]))
    talk.report("gw1", status("berlin", "down"), status("partner", "down"))
    for name in ("berlin", "partner"):
        for changes in (talk.change("evil", status(name, "up")), talk.report("evil", status(name, "up"))):
            assert changes.rejected == ["foreign-tunnel"]
            assert changes.events == []
        assert set(talk.fleet.tunnels[name]) == {"gw1"}
    talk.change("evil", status("berlin", "down"), removed=True)
    assert set(talk.fleet.tunnels["berlin"]) == {"gw1"}
    assert talk.report("hub", status("berlin", "up")).rejected == []


def test_a_derived_name_belongs_to_the_two_peers_in_it() -> None:
    talk = Talk()
    talk.report("gw1", status("gw1+hub", "down"))
    for name in ("gw1+hub", "hub+gw1", "gw2+hub"):
        assert talk.change("evil", status(name, "up")).rejected == ["foreign-tunnel"]
    assert set(talk.fleet.tunnels) == {"gw1+hub"}


def test_a_view_that_was_reported_before_the_policy_is_dropped_with_it() -> None:
    talk = Talk()
    talk.report("evil", status("berlin", "up"))
    changes = talk.fleet.set_ends(ends_of([policy("sites", ("berlin", "gw1", "hub"))]))
    assert changes.tunnels == {("evil", "berlin")}
    assert talk.fleet.tunnels == {}


def test_a_tunnel_that_changes_its_ends_is_reported_by_the_new_ones() -> None:
    talk = Talk()
    talk.fleet.set_ends(ends_of([policy("sites", ("berlin", "gw1", "hub"))]))
    talk.report("gw1", status("berlin", "up"))
    talk.fleet.set_ends(ends_of([policy("sites", ("berlin", "gw2", "hub"))]))
    assert talk.fleet.tunnels == {}
    assert talk.report("gw1", status("berlin", "up")).rejected == ["foreign-tunnel"]
    assert talk.report("gw2", status("berlin", "up")).rejected == []


def test_names_of_several_policies_have_all_their_ends() -> None:
    ends = ends_of([policy("a", ("x", "gw1", "hub")), policy("b", ("x", "gw2", "hub"), ("y", "gw3", "-"))])
    assert ends == {"x": frozenset({"gw1", "gw2", "hub"}), "y": frozenset({"gw3"})}


async def test_metrics_follows_signed_policies_with_its_own_rights(bus: Bus) -> None:
    """And a set that another key signed, or of another reader's subject, changes nothing."""
    keys = bus.live.fleet.keys
    settings = bus.server.settings("metrics")
    async with Connection(settings, name="metrics", inbox_prefix=inbox("metrics")) as connection:
        await connection.wait_connected()
        changed = asyncio.Event()
        follower = PolicyFollower(connection, keys[SignerRole.POLICY].public_base64, changed.set)
        await follower.follow()
        await follower.check()
        document = PolicySet(
            reader="all", epoch=1, revision=7, batch=("all",), policies=(policy("sites", ("berlin", "gw1", "hub")),)
        )
        subject = subjects.policy("all")
        right = bus.live.fleet.sign(subject, 1, 7, document.model_dump_json(), SignerRole.POLICY)
        await bus.live.publish(right)
        await eventually(lambda: "berlin" in ends_of(follower.view.policies()), what="the live set")
        later = document.model_copy(update={"revision": 8, "policies": ()})
        payload = later.model_dump_json()
        thief = Signer(KeyPair.generate(KeyKind.SIGNING), SignerRole.POLICY)
        await bus.live.publish(SignedBytes(subject, thief.headers(subject, 1, 8, payload.encode()), payload.encode()))
        await bus.live.client("policy").flush()
        await follower.check()
        assert follower.view.revision("all") == 7
        fresh = PolicyFollower(connection, keys[SignerRole.POLICY].public_base64, changed.set)
        await fresh.check()  # by Direct Get: the newest stored set is the forged one
        assert fresh.view.revision("all") == 0

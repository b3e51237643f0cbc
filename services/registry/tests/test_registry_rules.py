import re
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, ip_network
from typing import Any

import pytest

from warren_contracts.documents import EnrolRequest
from warren_contracts.peers import Announcement, DriverCapabilities
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.problems import ConflictError, InvalidInputError, WarrenError
from warren_contracts.tokens import JoinTokenRefusedError
from warren_intent.claims import PolicyClaims
from warren_registry.enrolment.model import JoinTokenRow
from warren_registry.enrolment.rules import EnrolmentRows, enrol
from warren_registry.errors import (
    AlreadyEnrolledError,
    IdentityConflictError,
    PeerIdTakenError,
    PeerRevokedError,
    SubnetConflictError,
)
from warren_registry.peers.address_claims import (
    AddressClaim,
    AddressClaims,
    check_networks_at_enrolment,
    check_priority,
    conflicting_networks,
    without_networks,
)
from warren_registry.peers.announcement import MAX_ANNOUNCEMENT, check_announcement
from warren_registry.peers.model import Peer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NKEY = "U" + "A" * 55
OTHER = "U" + "B" * 55
REQUEST = EnrolRequest(peer="spoke-1", token="unused here")


def token(**changes: Any) -> JoinTokenRow:
    values: dict[str, Any] = {
        "id": "t", "digest": b"", "tags": ("branch",), "uses": 1, "used": 0, "created_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
    }  # fmt: skip
    return JoinTokenRow(**{**values, **changes})


def peer(**changes: Any) -> Peer:
    values: dict[str, Any] = {
        "id": "spoke-1", "nkey": NKEY, "tags": ("branch",), "version": 3, "join_token": "t", "enrolled_at": NOW,
    }  # fmt: skip
    return Peer(**{**values, **changes})


def test_a_new_key_joins_with_the_tags_of_its_token() -> None:
    allowed = (ip_network("10.1.0.0/16"),)
    answer = enrol(REQUEST, NKEY, token(tags=("b", "a"), subnets=allowed), EnrolmentRows(), version=4, now=NOW)
    assert answer.fresh
    assert answer.peer == peer(tags=("a", "b"), version=4, allowed=allowed)


@pytest.mark.parametrize("spent", [token(), token(used=1), token(expires_at=NOW)])
def test_the_same_key_under_the_same_id_gets_the_same_reply(spent: JoinTokenRow) -> None:
    answer = enrol(REQUEST, NKEY, spent, EnrolmentRows(by_nkey=peer(), by_id=peer()), version=9, now=NOW)
    assert not answer.fresh
    assert answer.peer == peer()


def test_a_revoked_id_is_given_to_a_new_key_by_a_token_that_names_it() -> None:
    gone = peer(nkey=OTHER, revoked_at=NOW)
    named = token(peer=REQUEST.peer)
    assert enrol(REQUEST, NKEY, named, EnrolmentRows(by_id=gone), version=9, now=NOW).fresh
    with pytest.raises(PeerIdTakenError, match="reserved"):
        enrol(REQUEST, NKEY, token(), EnrolmentRows(by_id=gone), version=9, now=NOW)


@pytest.mark.parametrize(
    ("given", "known", "error"),
    [
        (token(), EnrolmentRows(by_id=peer(nkey=OTHER)), PeerIdTakenError),
        (token(), EnrolmentRows(by_nkey=peer(id="spoke-2")), AlreadyEnrolledError),
        (token(), EnrolmentRows(key_revoked=True), PeerRevokedError),
        (token(), EnrolmentRows(identity_holder="hub-1"), IdentityConflictError),
        (token(used=1), EnrolmentRows(), JoinTokenRefusedError),
        (token(expires_at=NOW), EnrolmentRows(), JoinTokenRefusedError),
        (token(peer="spoke-9"), EnrolmentRows(), JoinTokenRefusedError),
    ],
)
def test_an_enrolment_is_refused(given: JoinTokenRow, known: EnrolmentRows, error: type[WarrenError]) -> None:
    with pytest.raises(error):
        enrol(REQUEST, NKEY, given, known, version=4, now=NOW)


def announced(*subnets: str, identity: str | None = None) -> Announcement:
    return Announcement(subnets=tuple(ip_network(subnet) for subnet in subnets), identity=identity)


def test_an_announcement_within_the_rules_is_accepted() -> None:
    inside = peer(allowed=(ip_network("10.1.0.0/16"),))
    check_announcement(inside, announced("10.1.2.0/24", "10.1.0.0/16"), AddressClaims())
    own = [AddressClaim("spoke-1", ip_network("10.1.0.0/16")), AddressClaim("hub-1", ip_network("fd00::/64"))]
    check_announcement(peer(), announced("10.1.2.0/24"), AddressClaims(tuple(own), (), "spoke-1"))


@pytest.mark.parametrize(
    ("subnet", "allowed", "message"),
    [
        ("0.0.0.0/0", (), "default route"),
        ("::/0", (), "default route"),
        ("224.0.0.0/8", (), "multicast"),
        ("127.0.0.0/8", (), "loopback"),
        ("fe80::/10", (), "link-local"),
        ("10.2.0.0/16", ("10.1.0.0/16",), "not within"),
        ("10.0.0.0/8", ("10.1.0.0/16",), "not within"),
        ("fd00::/64", ("10.1.0.0/16",), "not within"),
        ("0.0.0.0/5", (), "larger than /16"),
        ("128.0.0.0/1", (), "larger than /16"),
        ("10.0.0.0/15", (), "larger than /16"),
        ("2001:db8::/47", (), "larger than /48"),
        ("::ffff:10.0.0.0/104", (), "write the IPv4 network"),
    ],
)
def test_a_network_that_no_peer_may_protect_is_named(subnet: str, allowed: tuple[str, ...], message: str) -> None:
    holder = peer(allowed=tuple(ip_network(text) for text in allowed))
    with pytest.raises(InvalidInputError, match=message) as refusal:
        check_announcement(holder, announced("10.1.9.0/24" if allowed else "192.0.2.0/24", subnet), AddressClaims())
    assert [error.field for error in refusal.value.errors] == ["subnets/1"]


@pytest.mark.parametrize("theirs", ["10.1.2.0/24", "10.1.2.128/25", "10.0.0.0/8"])
def test_a_network_of_another_peer_is_a_conflict(theirs: str) -> None:
    claims = AddressClaims((AddressClaim("hub-1", ip_network(theirs)),))
    assert re.match(r"10.1.2.0/24 overlaps .* of the peer hub-1", refused(peer(), announced("10.1.2.0/24"), claims))


def test_a_conflicting_network_is_omitted_and_the_rest_of_the_announcement_stands() -> None:
    announcement = announced("10.1.2.0/24", "10.5.0.0/16", "10.1.3.0/24").model_copy(update={"agent_version": "7"})
    claims = AddressClaims((AddressClaim("hub-1", ip_network("10.1.0.0/16")),))
    conflicts = conflicting_networks(peer(), announcement, claims)
    assert [it.field for it in conflicts] == ["subnets/0", "subnets/2"]
    accepted = without_networks(announcement, conflicts)
    assert accepted == announced("10.5.0.0/16").model_copy(update={"agent_version": "7"})


NET = ip_network("10.1.0.0/16")


@pytest.mark.parametrize(
    ("own", "other", "says"),
    [
        ({"allowed": (NET,), "priority": 100}, {"allowed": (NET,), "priority": 200}, ""),
        ({"allowed": (NET,)}, {"allowed": (NET,), "priority": 200}, "different priorities"),
        ({"allowed": (NET,), "priority": 100}, {"allowed": (NET,)}, "different priorities"),
        ({"allowed": (NET,), "priority": 200}, {"allowed": (NET,), "priority": 200}, "different priorities"),
        ({"priority": 100}, {"allowed": (NET,), "priority": 200}, "in the join tokens of both"),
        ({"allowed": (NET,), "priority": 100}, {"priority": 200}, "in the join tokens of both"),
    ],
)
@pytest.mark.parametrize("subnet", ["10.1.0.0/16", "10.1.2.0/24"])
def test_two_peers_protect_one_network_only_where_operators_gave_it_to_both(
    own: dict[str, object], other: dict[str, Any], says: str, subnet: str
) -> None:
    claims = AddressClaims((AddressClaim("hub-1", NET, **other),))
    message = refused(peer(**own), announced(subnet), claims)
    assert (says in message) if says else not message


def test_a_policy_gives_a_network_to_both_gateways() -> None:
    ends = [
        {"name": f"t{number}", "ends": [{"peer": "branch"}, {"peer": hub, "subnets": ["10.1.0.0/16"]}]}
        for number, hub in enumerate(("hub-1", "hub-2"))
    ]
    both = PolicyClaims([PublishedPolicy(revision=1, policy=Policy.model_validate({"id": "p", "tunnels": ends}))])
    claims = AddressClaims((AddressClaim("hub-1", NET, (), 200),), policies=both)
    hub = peer(id="hub-2", priority=100)
    assert not refused(hub, announced("10.1.0.0/16"), claims)
    assert "the policy p assigns" in refused(peer(id="evil"), announced("10.1.7.0/24"), AddressClaims(policies=both))
    with pytest.raises(SubnetConflictError, match="has the same priority 200"):
        check_priority(hub, 200, claims.networks)
    with pytest.raises(SubnetConflictError, match="require different priorities"):
        check_priority(hub, None, claims.networks)
    check_priority(hub, 300, claims.networks)


def test_an_enrolment_is_refused_for_a_network_that_its_token_does_not_name() -> None:
    claims = AddressClaims((AddressClaim("hub-1", NET, (NET,), 200),))
    with pytest.raises(SubnetConflictError, match="of the peer hub-1"):
        check_networks_at_enrolment(peer(), announced("10.1.2.0/24"), claims)
    check_networks_at_enrolment(peer(allowed=(NET,)), announced("10.1.2.0/24"), claims)  # its priority comes later


def refused(holder: Peer, announcement: Announcement, claims: AddressClaims) -> str:
    """The reasons for which networks of an announcement are omitted."""
    check_announcement(holder, announcement, claims)
    return "; ".join(it.message for it in conflicting_networks(holder, announcement, claims))


def test_an_identity_of_another_peer_is_a_conflict() -> None:
    for identity in ("hub-1", "gw.example.org"):
        with pytest.raises(ConflictError, match="belongs to the peer hub-1"):
            check_announcement(peer(), announced(identity=identity), AddressClaims((), (), "hub-1"))


MANY = tuple(f"word-{number}" for number in range(257))


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (Announcement(agent_version="1" * 65), "agent_version"),
        (Announcement(agent_version="1\x1b[2J"), "agent_version"),
        (Announcement(drivers=(DriverCapabilities(kind='"' * 258_000),)), "drivers/0/kind"),
        (Announcement(drivers=(DriverCapabilities(version="\x00"),)), "drivers/0/version"),
        (Announcement(drivers=(DriverCapabilities(version="5.9\n"),)), "drivers/0/version"),
        (Announcement(drivers=(DriverCapabilities(ike=MANY),)), "drivers/0/ike"),
        (Announcement(drivers=(DriverCapabilities(esp=("a" * 65,)),)), "drivers/0/esp"),
        (Announcement(drivers=(DriverCapabilities(features=("mobike", "e\u0301")),)), "drivers/0/features"),
        (Announcement(drivers=(DriverCapabilities(features=("mobike\n",)),)), "drivers/0/features"),
        (Announcement(drivers=(DriverCapabilities(ike=("a" * 64,) * 256),)), "(root)"),
    ],
)
def test_a_field_beyond_its_limit_is_refused_by_name(said: Announcement, field: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        check_announcement(peer(), said, AddressClaims())
    assert refusal.value.errors[0].field == field
    assert len(str(refusal.value)) < 1_000


def test_the_largest_announcement_of_a_regular_peer_is_accepted() -> None:
    words = tuple(f"algorithm-{number}" for number in range(100))
    said = Announcement(
        agent_version="1.0.0", drivers=(DriverCapabilities(version="6.1.0", ike=words, esp=words, features=words[:20]),),
        endpoints=tuple("a" * 230 + f"{number}.example.org" for number in range(16)),
        subnets=tuple(ip_network(f"2001:db8:ffff:{number:x}::/64") for number in range(64)),
    )  # fmt: skip
    assert len(said.model_dump_json()) < MAX_ANNOUNCEMENT
    check_announcement(peer(), said, AddressClaims())


@pytest.mark.parametrize(
    "identity",
    [
        "*", "fqdn:*", "*.example.org", "@*", "::", "0::0", "0:0:0:0:0:0:0:0", "ipv4:0.0.0.0", "fqdn:", "@", "@@",
        "0.0.0.0",  # noqa: S104 - a text
        "email:", "keyid:", ".", "fqdn:..", "C=DE, CN=good", "asn1dn:CN=*", "/CN=good", "192.0.2.0/24", "192.0.2.1-192.0.2.9",
        "uri:good", "asn1gn:good", "xmppaddr:good", "good hub", "good,hub", "email:good", "a..b", " good", "ipv4net:10.0.0.0/8",
        "keyid:*", "fqdn:a=b",
    ],
)  # fmt: skip
def test_an_identity_that_names_no_single_peer_is_refused(identity: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        check_announcement(peer(), announced(identity=identity), AddressClaims())
    assert [error.field for error in refusal.value.errors] == ["identity"]


@pytest.mark.parametrize("identity", ["HUB-9", "@hub-9", "fqdn:hub-9", "hub-9.", "dns:Hub-9"])
def test_another_peers_id_is_refused_as_identity_even_before_it_has_joined(identity: str) -> None:
    with pytest.raises(InvalidInputError, match="a single label is a peer id"):
        check_announcement(peer(), announced(identity=identity), AddressClaims())


@pytest.mark.parametrize(
    "identity",
    ["spoke-1", "@SPOKE-1", "gw.example.org", "gw@example.org", "192.0.2.1", "2001:db8::1", "keyid:serial-17", None],
)
def test_an_own_identity_is_accepted(identity: str | None) -> None:
    check_announcement(peer(), announced(identity=identity), AddressClaims())


def given(**end: object) -> PolicyClaims:
    partner = {"identity": "partner.example", "public_key": "A" * 43 + "=", "subnets": ["10.31.0.0/24"], **end}
    tunnel = {"name": "t", "ends": [{"peer": "hub-1"}, partner]}
    return PolicyClaims([PublishedPolicy(revision=1, policy=Policy.model_validate({"id": "p", "tunnels": [tunnel]}))])


@pytest.mark.parametrize("subnet", ["10.31.0.0/25", "10.31.0.128/25", "10.31.0.0/24", "10.31.0.0/16"])
@pytest.mark.parametrize("allowed", [(), (ip_network("10.0.0.0/8"),)])
def test_a_network_that_a_policy_assigns_is_refused_to_other_peers(
    subnet: str, allowed: tuple[IPv4Network, ...]
) -> None:
    around = AddressClaims(policies=given())
    assert "the policy p assigns to partner.example" in refused(peer(allowed=allowed), announced(subnet), around)
    assert not refused(peer(id="hub-1"), announced(subnet), around)  # it reaches the network by that tunnel
    holder = peer(announcement=announced(subnet))
    assert not refused(holder, announced(subnet), around)  # held before: the directory record omits it
    with pytest.raises(IdentityConflictError, match=r"assigns this identity to partner.example"):
        check_announcement(peer(), announced(identity="@PARTNER.example."), around)


def test_a_network_around_another_peers_endpoint_needs_a_token_that_names_it() -> None:
    around = AddressClaims(
        endpoints=(AddressClaim("good", ip_network("198.51.100.7/32")), AddressClaim("six", ip_network("2001:db8::7")))
    )
    for subnet in ("198.51.100.0/24", "198.51.100.7/32", "2001:db8::/64"):
        assert re.search(r"an endpoint of the peer (good|six)", refused(peer(), announced(subnet), around))
        assert not refused(peer(allowed=(ip_network(subnet),)), announced(subnet), around)
    assert not refused(peer(id="good"), announced("198.51.100.0/24"), around)
    assert not refused(peer(announcement=announced("198.51.100.0/24")), announced("198.51.100.0/24"), around)
    named = AddressClaims(policies=given(addresses=["203.0.113.9", "gw.example"]))
    message = refused(peer(), announced("203.0.113.0/24"), named)
    assert "an address that the policy p uses for partner.example" in message

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.peers import Announcement
from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_registry.directory.model import PublishedState, RecordKey, desired, difference, summaries, summary
from warren_registry.peers.model import Peer, record_of, tombstone
from warren_service.policy_view import PolicyView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = "registry-key"


def peer(name: str, version: int = 1, **changes: Any) -> Peer:
    base = Peer(name, "U" + name, ("branch",), version, "t", NOW, announcement=Announcement())
    return replace(base, **changes)


def published_of(wanted: dict[RecordKey, Peer], epoch: int = 1) -> dict[RecordKey, PublishedState]:
    return {place: PublishedState(epoch, 7, who.version, False, KEY) for place, who in wanted.items()}


def test_only_members_with_an_announcement_have_records() -> None:
    peers = {
        "hub-1": peer("hub-1"),
        "mute": peer("mute", announcement=None),
        "gone": peer("gone", revoked_at=NOW),
    }
    wanted = desired({"tag=branch": ("hub-1", "mute", "gone", "unknown")}, peers)
    assert wanted == {RecordKey("tag=branch", "hub-1"): peers["hub-1"]}


def test_a_published_record_is_not_published_again() -> None:
    wanted = desired({"all": ("a", "b")}, {"a": peer("a"), "b": peer("b")})
    assert difference(wanted, published_of(wanted), 1, KEY, {}) == ()


def test_a_change_of_a_peer_a_key_or_the_epoch_is_published_again() -> None:
    wanted = desired({"all": ("a",)}, {"a": peer("a", version=2)})
    held = published_of({RecordKey("all", "a"): peer("a", version=1)})
    assert [item.place.peer for item in difference(wanted, held, 1, KEY, {})] == ["a"]
    held = published_of(wanted)
    assert len(difference(wanted, held, 1, "another key", {})) == 1
    assert len(difference(wanted, held, 2, KEY, {})) == 1


def test_additions_come_before_withdrawals_and_a_withdrawal_is_published_once() -> None:
    wanted = desired({"tag=b": ("z",)}, {"z": peer("z")})
    held = {RecordKey("tag=a", "z"): PublishedState(1, 7, 1, False, KEY)}
    said = difference(wanted, held, 1, KEY, {})
    assert [(item.place, item.peer is None) for item in said] == [
        (RecordKey("tag=b", "z"), False),
        (RecordKey("tag=a", "z"), True),
    ]
    withdrawn = {RecordKey("tag=a", "z"): PublishedState(1, 8, 1, True, KEY)} | published_of(wanted)
    assert difference(wanted, withdrawn, 1, KEY, {}) == ()


@given(
    st.dictionaries(st.sampled_from(["all", "tag=a", "tag=b"]), st.sets(st.sampled_from("abcd"))),
    st.dictionaries(st.tuples(st.sampled_from(["all", "tag=a", "peer=a"]), st.sampled_from("abcd")), st.booleans()),
)
def test_publishing_the_difference_reaches_the_desired_records(
    relations: dict[str, set[str]], held: dict[tuple[str, str], bool]
) -> None:
    peers = {name: peer(name) for name in "abc"}
    published = {RecordKey(*place): PublishedState(1, 1, 1, withdrawn, KEY) for place, withdrawn in held.items()}
    wanted = desired(relations, peers)
    for revision, (place, who) in enumerate(difference(wanted, published, 1, KEY, {}), start=2):
        published[place] = PublishedState(1, revision, who.version if who else 0, who is None, KEY)
    assert {place for place, last in published.items() if not last.withdrawn} == set(wanted)
    assert difference(wanted, published, 1, KEY, {}) == ()


def test_a_digest_counts_and_hashes_what_is_not_withdrawn() -> None:
    lines = b"a 3\nb 12\n"
    assert summary({"b": 12, "a": 3}) == (2, hashlib.sha256(lines).hexdigest())
    published = {
        RecordKey("all", "a"): PublishedState(1, 3, 1, False, KEY),
        RecordKey("all", "b"): PublishedState(1, 12, 1, False, KEY),
        RecordKey("all", "c"): PublishedState(1, 13, 1, True, KEY),
        RecordKey("tag=x", "c"): PublishedState(1, 14, 1, True, KEY),
    }
    assert summaries(published) == {"all": summary({"a": 3, "b": 12}), "tag=x": summary({})}


def test_a_record_names_the_peer_as_its_identity_unless_it_announced_one() -> None:
    assert record_of(peer("a"), 1, 2).identity == "a"
    named = peer("a", announcement=Announcement(identity="email:a@example.org"))
    assert record_of(named, 1, 2).identity == "email:a@example.org"
    assert tombstone("a", 1, 3).withdrawn


def policy_set(
    reader: str, revision: int, batch: tuple[str, ...], policies: dict[str, int] | None = None, epoch: int = 1
) -> PolicySet:
    published = tuple(
        PublishedPolicy.model_validate(
            {"revision": at, "policy": {"id": name, "topology": {"kind": "mesh", "members": ["all"]}}}
        )
        for name, at in (policies or {}).items()
    )
    return PolicySet(reader=reader, epoch=epoch, revision=revision, batch=batch, policies=published)


def test_a_batch_is_complete_when_every_named_reader_has_reached_it() -> None:
    view = PolicyView([policy_set("tag=a", 4, ("tag=a",), {"p": 4})])
    assert view.batches_complete()
    view.accept(policy_set("tag=a", 5, ("tag=a", "tag=b")))
    assert not view.batches_complete()
    view.accept(policy_set("tag=b", 5, ("tag=a", "tag=b"), {"p": 5}))
    assert view.batches_complete()
    assert [(p.policy.id, p.revision) for p in view.policies()] == [("p", 5)]
    assert (view.revision("tag=a"), view.revision("tag=nobody")) == (5, 0)


def test_an_older_set_is_not_accepted() -> None:
    view = PolicyView([policy_set("all", 5, ("all",))])
    assert not view.accept(policy_set("all", 5, ("all",), {"p": 5}))
    assert not view.accept(policy_set("all", 4, ("all",), {"p": 4}))
    assert view.accept(policy_set("all", 1, ("all",), {"p": 1}, epoch=2))
    assert [p.policy.id for p in view.policies()] == ["p"]


def test_a_set_of_before_a_restore_is_void() -> None:
    view = PolicyView(
        [policy_set("all", 9, ("all",), {"old": 9}), policy_set("tag=a", 1, ("tag=a",), {"new": 1}, epoch=2)]
    )
    assert [p.policy.id for p in view.policies()] == ["new"]

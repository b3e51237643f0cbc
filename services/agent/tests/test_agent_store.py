"""The state folder: 0600, replaced as a whole, and honest about what is damaged."""

import stat
from pathlib import Path

import pytest

from warren_agent.drivers.strongswan.connections import HandleName, Levels
from warren_agent.drivers.strongswan.ledger import ChildEntry, Ledger, LedgerEntry, next_entry
from warren_agent.errors import BadStateError, NotEnrolledError
from warren_agent.state.store import StateStore
from warren_bus.feed.state import FeedState
from warren_contracts.documents import TrustDocument
from warren_contracts.policy import PolicySet
from warren_testkit.intent import directory, public_key, published, record

STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
STATE = FeedState(
    peer="s1",
    tags=("branch",),
    epoch=1,
    revision=1,
    trust=TrustDocument(epoch=1, revision=1, policy=public_key("policy"), registry=public_key("registry")),
    policies={"all": PolicySet(reader="all", epoch=1, revision=3, batch=("all",), policies=(STAR,))},
    records={"all": directory(record("hub", 1, "hub"), record("s1", 2, "branch"))},
)


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    made = StateStore(tmp_path / "state")
    made.prepare()
    return made


def test_keys_are_made_once_and_differ(store: StateStore) -> None:
    before = store.nkey().public, store.ike_key().public_base64
    store.prepare()
    assert (store.nkey().public, store.ike_key().public_base64) == before
    assert store.nkey().public_base64 != store.ike_key().public_base64


def test_everything_is_private(store: StateStore) -> None:
    store.save_intent(STATE)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.folder.iterdir()} == {0o600}


def test_intent_survives_the_round_trip(store: StateStore) -> None:
    assert store.intent() is None
    store.save_intent(STATE)
    assert store.intent() == STATE
    assert [path.name for path in store.folder.iterdir() if path.name.startswith(".")] == []


def test_damaged_intent_is_set_aside(store: StateStore) -> None:
    store.save_intent(STATE)
    (store.folder / "intent.json").write_text('{"peer": "s1"')
    assert store.intent() is None
    assert (store.folder / "intent.json.damaged").exists()


def test_intent_that_others_could_have_written_is_not_believed(store: StateStore) -> None:
    store.save_intent(STATE)
    (store.folder / "intent.json").chmod(0o666)
    with pytest.raises(BadStateError, match="0600"):
        store.intent()


def test_host_without_identity_is_an_error_that_says_what_to_do(store: StateStore) -> None:
    with pytest.raises(NotEnrolledError, match="enrol"):
        store.identity()


def test_ledger_survives_and_a_damaged_one_is_empty(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.json")
    entry = next_entry(None, Levels("i", {"net": "c"}), ledger.new_generation())
    assert entry is not None
    ledger.put("a+b", entry)
    ledger.save()
    again = Ledger(tmp_path / "l.json")
    again.load()
    assert again.get("a+b") == entry
    assert again.new_generation() == 2
    (tmp_path / "l.json").write_text("{")
    damaged = Ledger(tmp_path / "l.json")
    damaged.load()
    assert list(damaged.names()) == []


def test_entry_changes_with_its_level_only() -> None:
    old = next_entry(None, Levels("i", {"net": "c"}), 1)
    assert next_entry(old, Levels("i", {"net": "c"}), 2) is None
    child = next_entry(old, Levels("i", {"net": "d"}), 2)
    assert child is not None
    assert (child.connection, child.children["net"].generation) == (1, 2)
    ike = next_entry(old, Levels("j", {"net": "c"}), 2)
    assert ike is not None
    assert (ike.connection, ike.children["net"].generation) == (2, 2)


def entry(connection: int, ike: str, generation: int, child: str) -> LedgerEntry:
    return LedgerEntry(
        connection=connection, ike=ike, children={"net": ChildEntry(generation=generation, fingerprint=child)}
    )


def test_child_of_a_connection_that_was_loaded_again_gets_a_connection_of_its_own() -> None:
    ledger = Ledger()
    ledger.put("a+b", entry(1, "i", 1, "c"))
    ledger.detach("a+b")
    detached = ledger.get("a+b")
    assert next_entry(detached, Levels("i", {"net": "c"}), 2) is None
    assert next_entry(detached, Levels("i", {"net": "d"}), 2) == entry(2, "i", 2, "d")


def test_ledger_owns_what_it_gave_and_forgets_what_charon_no_longer_holds(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.json")
    ledger.put("a+b", entry(1, "i", 1, "c"))
    ledger.put("a+b", entry(5, "j", 5, "c"))
    ledger.put("gone", entry(3, "i", 3, "c"))
    ledger.remove("gone")
    ledger.save()
    ledger = Ledger(tmp_path / "l.json")
    ledger.load()
    owned = [("a+b", 1), ("a+b", 5), ("gone", 3)]
    assert [it for it in (*owned, ("a+b", 2), ("berlin", 1)) if ledger.owns(HandleName(*it))] == owned
    ledger.forget_former([HandleName("gone", 3)])
    assert [it for it in owned if ledger.owns(HandleName(*it))] == owned[1:]


def test_marked_connection_of_a_lost_ledger_is_taken_over() -> None:
    ledger = Ledger()
    assert not ledger.owns(HandleName("a+b", 7))
    ledger.take_over(HandleName("a+b", 7))
    assert ledger.owns(HandleName("a+b", 7))
    assert list(ledger.names()) == []


def test_name_with_an_absurd_number_does_not_move_the_generations() -> None:
    ledger = Ledger()
    ledger.saw_generation(10**30)
    assert ledger.new_generation() == 1


def test_generation_seen_in_charon_is_not_used_again() -> None:
    ledger = Ledger()
    ledger.saw_generation(41)
    ledger.saw_generation(7)
    assert ledger.new_generation() == 42
